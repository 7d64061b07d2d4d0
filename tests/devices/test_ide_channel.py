"""Selection, resets, interrupts, signatures: what two drives share."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hypervisor.backends.disk_image import ImageMedium
from hypervisor.devices.ide import ata_registers as r
from hypervisor.errors import DeviceError
from tests.devices.ide import CD_IMAGE, IMAGE, Driver, cd, disk


def signature(one: Driver) -> tuple[int, ...]:
    return tuple(one.channel.read(register, 1) for register in (r.ERROR, r.COUNT, r.LOW, r.MID, r.HIGH))


ATA, ATAPI = (1, 1, 1, 0, 0), (1, 1, 1, 0x14, 0xEB)


def test_an_empty_channel_reads_as_zero_and_ignores_everything() -> None:
    one = Driver()
    one.select()
    assert one.command(r.IDENTIFY) == 0
    assert [one.channel.read(offset, 1) for offset in range(9)] == [0] * 9
    assert one.interrupts == 0


def test_an_absent_slave_beside_a_master() -> None:
    one = Driver(disk())
    one.select(slave=True)
    assert (one.status, one.command(r.IDENTIFY), one.channel.read(r.DATA, 2)) == (0, 0, 0)
    one.select()
    assert one.status == r.DRDY | r.DSC


@pytest.mark.parametrize("reset", ["power", "srst", "diagnostic"])
@pytest.mark.parametrize("medium", [disk, cd])
def test_an_absent_slave_shows_what_was_written_and_behind_a_reset_that_it_is_none(
    reset: str, medium: Callable[[], ImageMedium]
) -> None:
    one = Driver(medium())
    one.select(slave=True)
    for register, value in ((r.COUNT, 0x55), (r.LOW, 0xAA), (r.MID, 0x12), (r.HIGH, 0x34)):
        one.channel.write(register, 1, value)
    assert (signature(one), one.status) == ((0, 0x55, 0xAA, 0x12, 0x34), 0)
    if reset == "power":
        one.channel.reset()
    elif reset == "diagnostic":
        one.channel.write(r.COMMAND, 1, r.DIAGNOSTIC)
    else:
        one.channel.write(r.CONTROL, 1, r.SRST)
        one.channel.write(r.CONTROL, 1, 0)
    one.select(slave=True)
    assert (signature(one), one.status) == ((0, 1, 1, 0xFF, 0xFF), 0)


@pytest.mark.parametrize("reset", ["power", "srst", "diagnostic"])
def test_signatures_after_a_reset(reset: str) -> None:
    one = Driver(disk(), cd())
    one.select(slave=True)
    one.packet(bytes(12))
    if reset == "power":
        one.channel.reset()
    elif reset == "diagnostic":
        one.channel.write(r.COMMAND, 1, r.DIAGNOSTIC)
    else:
        one.channel.write(r.CONTROL, 1, r.SRST)
        assert one.status == r.BSY
        one.channel.write(r.COMMAND, 1, r.IDENTIFY)  # nobody listens
        one.channel.write(r.CONTROL, 1, 0)
    assert signature(one) == ATA and one.status == r.DRDY | r.DSC
    one.select(slave=True, low=0xA0)
    assert signature(one) == ATAPI and one.status == 0


def test_identify_finds_out_that_a_packet_drive_is_none() -> None:
    one = Driver(cd())
    one.select()
    assert one.command(r.IDENTIFY) & (r.ERR | r.DRQ) == r.ERR
    assert (one.error, one.channel.read(r.MID, 1), one.channel.read(r.HIGH, 1)) == (r.ABRT, 0x14, 0xEB)


def test_reading_status_withdraws_the_interrupt_and_the_alternate_does_not() -> None:
    one = Driver(disk())
    one.select()
    one.channel.write(r.COMMAND, 1, r.FLUSH)
    assert one.line.level
    one.channel.read(r.ALTERNATE, 1)
    assert one.line.level
    one.channel.read(r.STATUS, 1)
    assert not one.line.level


def test_nien_holds_the_interrupt_back() -> None:
    one = Driver(disk())
    one.select()
    one.channel.write(r.CONTROL, 1, r.NIEN)
    one.channel.write(r.COMMAND, 1, r.FLUSH)
    assert not one.line.level
    one.channel.write(r.CONTROL, 1, 0)
    assert one.line.level


def test_what_was_written_before_is_behind_hob() -> None:
    one = Driver(disk())
    for value in (0x11, 0x22, 0x33):
        one.channel.write(r.LOW, 1, value)
    assert one.channel.read(r.LOW, 1) == 0x33
    one.channel.write(r.CONTROL, 1, r.HOB)
    assert one.channel.read(r.LOW, 1) == 0x22
    one.channel.write(r.MID, 1, 0)  # any write of the command block clears HOB
    assert one.channel.read(r.LOW, 1) == 0x33


def test_a_state_in_the_middle_of_a_transfer() -> None:
    one, other = Driver(disk(), cd()), Driver(disk(), cd())
    one.select()
    one.command(r.READ_SECTORS, 200, 50)
    first = one.words(300)
    other.channel.restore(one.channel.state())
    for twin in (one, other):
        assert first + twin.words(256 * 50 - 300) == IMAGE[200 * 512 : 250 * 512]
    one.select(slave=True)
    one.packet(bytes((0x28, 0, 0, 0, 0, 5, 0, 0, 40)), limit=2048)
    other.channel.restore(one.channel.state())
    assert one.answer() == other.answer() == CD_IMAGE[5 * 2048 : 45 * 2048]


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("end", 600, "the buffer's position is behind its end"),
        ("phase", 3, "phase 3 is none of this drive"),
        ("left", 1 << 20, "a transfer reaches beyond the medium"),
    ],
)
def test_states_that_do_not_fit_together_are_refused(field: str, value: int, sentence: str) -> None:
    one = Driver(disk())
    one.select()
    one.command(r.READ_SECTORS)
    state = one.channel.state()
    setattr(state.drives[0], field, value)
    with pytest.raises(DeviceError, match=sentence):
        one.channel.restore(state)
