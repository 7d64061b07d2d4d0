"""The floppy controller, driven as a guest's driver does it: commands by the FIFO, data by DMA or by the FIFO."""

from __future__ import annotations

import random

import pytest

from hypervisor.backends import disk_image
from hypervisor.backends.disk_image import ImageMedium
from hypervisor.backends.image_source import BytesSource
from hypervisor.backends.overlay import Overlay
from hypervisor.bus import Line
from hypervisor.bus.clock import ManualClock
from hypervisor.devices.floppy import I82077
from hypervisor.devices.floppy import fdc_registers as r
from hypervisor.errors import DeviceError
from tests.devices import test_i8237 as dma
from tests.devices.ide import BrokenMedium

IMAGE = random.Random(11).randbytes(1474560)
BUFFER = 0x20000
MFM, MT = 0x40, 0x80


def diskette(*, writable: bool = True) -> ImageMedium:
    medium = disk_image.floppy(Overlay(BytesSource(IMAGE)))
    medium.writable = writable
    return medium


class Driver(dma.Machine):
    def __init__(self, medium: ImageMedium | None) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.interrupts = 0
        self.line = Line("irq", self._changed)
        self.fdc = I82077(self.line, self.pair.channel(2), self.clock, [medium])
        self.fdc.write(r.DOR, 1, 0x1C)

    def _changed(self, level: bool) -> None:
        self.interrupts += level

    @property
    def msr(self) -> int:
        return self.fdc.read(r.MSR, 1)

    def send(self, *command: int) -> None:
        for byte in command:
            assert self.msr & (r.RQM | r.DIO) == r.RQM
            self.fdc.write(r.FIFO, 1, byte)

    def results(self) -> bytes:
        content = bytearray()
        while self.msr & (r.RQM | r.DIO | r.NON_DMA) == r.RQM | r.DIO:
            content.append(self.fdc.read(r.FIFO, 1))
        return bytes(content)

    def wait(self) -> None:
        before = self.interrupts
        self.clock.advance(1_000_000)
        assert self.interrupts == before + 1

    def ask(self, *command: int) -> bytes:
        self.send(*command)
        return self.results()

    def seek(self, cylinder: int, head: int = 0) -> None:
        self.send(0x0F, head << 2, cylinder)
        self.wait()
        assert self.ask(0x08) == bytes((0x20 | head << 2, cylinder))

    def transfer(self, code: int, cylinder: int, head: int, sector: int, last: int = 18) -> bytes:
        self.send(code, head << 2, cylinder, head, sector, 2, last, 0x1B, 0xFF)
        self.wait()
        return self.results()


def lba(cylinder: int, head: int, sector: int) -> int:
    return (cylinder * 2 + head) * 18 + sector - 1


def content(first: int, count: int) -> bytes:
    return IMAGE[first * 512 : (first + count) * 512]


def test_reset_and_the_four_interrupts_of_polling() -> None:
    one = Driver(diskette())
    one.fdc.write(r.DOR, 1, 0)
    assert one.msr == 0
    one.fdc.write(r.DOR, 1, 0x0C)
    assert (one.msr, one.interrupts) == (0, 0)
    one.wait()
    assert [one.ask(0x08) for _ in range(5)] == [bytes((0xC0 | n, 0)) for n in range(4)] + [b"\x80"]
    assert not one.line.level
    one.fdc.write(r.DSR, 1, 0x80)
    one.wait()
    assert one.ask(0x08) == b"\xc0\0"


def test_version_parameters_and_what_is_invalid() -> None:
    one = Driver(diskette())
    assert (one.ask(0x10), one.ask(0x18), one.ask(0x1F), one.ask(0x08)) == (b"\x90", b"\x41", b"\x80", b"\x80")
    assert one.ask(0x03, 0xAF, 0x02) == b"" == one.ask(0x13, 0, 0x57, 0) == one.ask(0x12, 0)
    assert (one.ask(0x94), one.ask(0x14)) == (b"\x10", b"\0")
    assert one.ask(0x0E) == bytes((0, 0, 0, 0, 0xAF, 0x02, 0, 0, 0x57, 0))
    assert one.msr == r.RQM


def test_seeks() -> None:
    one = Driver(diskette())
    assert one.fdc.read(r.DIR, 1) == 0x80
    one.send(0x0F, 0, 40)
    assert one.msr & 1
    assert one.ask(0x08) == b"\x80"  # not yet there
    one.wait()
    assert one.ask(0x08) == bytes((0x20, 40))
    assert (one.msr, one.fdc.read(r.DIR, 1)) == (r.RQM, 0)
    assert one.ask(0x04, 4) == bytes((0x2C,))
    one.send(0x07, 0)
    one.wait()
    assert (one.ask(0x08), one.ask(0x04, 0)) == (bytes((0x20, 0)), bytes((0x38,)))
    one.send(0xCF, 0, 5)
    one.wait()
    assert one.ask(0x08) == bytes((0x20, 5))
    one.send(0x07, 1)  # there is no drive B
    one.wait()
    assert one.ask(0x08) == bytes((0x71, 0))


@pytest.mark.parametrize("there", [True, False], ids=["diskette", "empty"])
def test_the_change_line_falls_at_a_step_with_a_diskette(there: bool) -> None:
    one = Driver(diskette() if there else disk_image.no_diskette())
    one.seek(0)
    assert one.fdc.read(r.DIR, 1) == r.CHANGED  # the head was there: no step
    one.seek(3)
    assert one.fdc.read(r.DIR, 1) == (0 if there else r.CHANGED)
    one.seek(0)
    assert one.fdc.read(r.DIR, 1) == (0 if there else r.CHANGED)


def test_an_empty_drive() -> None:
    one = Driver(disk_image.no_diskette())
    assert one.ask(0x04, 0) == bytes((r.ST3_PROTECTED | r.ST3_READY | r.ST3_TRACK_0 | r.ST3_TWO_SIDES,))
    for code in (0x06, 0x05, 0x0D):
        one.send(code | MFM, *(0, 0, 0, 1, 2, 18, 0x1B, 0xFF)[: 5 if code == 0x0D else 8])
        one.wait()
        assert one.results()[:2] == bytes((r.ST0_ABNORMAL, r.ST1_NO_ADDRESS))
    assert one.ask(0x4A, 0)[:2] == bytes((r.ST0_ABNORMAL, r.ST1_NO_ADDRESS))


@pytest.mark.parametrize(
    ("cylinder", "head", "sector", "count"), [(0, 0, 1, 1), (3, 1, 5, 10), (79, 1, 18, 1), (7, 0, 1, 18)]
)
def test_reading_by_dma(cylinder: int, head: int, sector: int, count: int) -> None:
    one = Driver(diskette())
    one.seek(cylinder, head)
    one.program(2, BUFFER, 512 * count, dma.WRITE)
    result = one.transfer(0x06 | MFM, cylinder, head, sector)
    assert one.memory.read(BUFFER, 512 * count) == content(lba(cylinder, head, sector), count)
    following = (cylinder, head, sector + count) if sector + count <= 18 else (min(cylinder + 1, 255), head, 1)
    assert result == bytes((head << 2, 0, 0, *following, 2))


def test_multi_track_reads_both_sides_and_ends_with_the_cylinder() -> None:
    one = Driver(diskette())
    one.seek(10)
    one.program(2, BUFFER, 36 * 512, dma.WRITE)
    assert one.transfer(0x06 | MFM | MT, 10, 0, 1) == bytes((4, 0, 0, 11, 0, 1, 2))
    assert one.memory.read(BUFFER, 36 * 512) == content(lba(10, 0, 1), 36)
    one.program(2, BUFFER, 37 * 512, dma.WRITE)
    assert one.transfer(0x06 | MFM | MT, 10, 0, 1)[:3] == bytes((0x44, r.ST1_END, 0))


def test_multi_track_goes_on_with_the_other_side_behind_the_last_sector() -> None:
    """Though the end of the track was said to be further: SeaBIOS reads 18 sectors from the second one like this."""
    one = Driver(diskette())
    one.seek(10)
    one.program(2, BUFFER, 18 * 512, dma.WRITE)
    assert one.transfer(0x06 | MFM | MT, 10, 0, 2, last=19) == bytes((4, 0, 0, 10, 1, 2, 2))
    assert one.memory.read(BUFFER, 18 * 512) == content(lba(10, 0, 2), 18)


def test_writing_by_dma() -> None:
    medium = diskette()
    one = Driver(medium)
    one.seek(2)
    one.memory.write(BUFFER, b"W" * 700)
    one.program(2, BUFFER, 700, dma.READ)
    assert one.transfer(0x05 | MFM, 2, 0, 4) == bytes((0, 0, 0, 2, 0, 6, 2))
    first = lba(2, 0, 4)
    assert medium.read(first - 1, 4) == content(first - 1, 1) + b"W" * 700 + bytes(324) + content(first + 2, 1)


def test_a_transfer_waits_for_its_dma_channel() -> None:
    one = Driver(diskette())
    one.send(0x46, 0, 0, 0, 1, 2, 18, 0x1B, 0xFF)
    one.clock.advance(10_000_000)
    assert (one.interrupts, one.msr) == (0, r.BUSY)
    one.program(2, BUFFER, 512, dma.WRITE)
    assert one.interrupts == 1
    assert one.memory.read(BUFFER, 512) == content(0, 1)


def test_without_dma_through_the_fifo() -> None:
    medium = diskette()
    one = Driver(medium)
    one.ask(0x03, 0xAF, 0x03)
    one.send(0x46, 0, 0, 0, 17, 2, 18, 0x1B, 0xFF)
    one.wait()
    assert one.msr == r.RQM | r.DIO | r.BUSY | r.NON_DMA
    assert bytes(one.fdc.read(r.FIFO, 1) for _ in range(1024)) == content(16, 2)
    assert one.results() == bytes((0x40, r.ST1_END, 0, 1, 0, 1, 2))
    one.send(0x45, 0, 0, 0, 18, 2, 18, 0x1B, 0xFF)
    one.wait()
    for _ in range(512):
        one.fdc.write(r.FIFO, 1, 0x5A)
    assert one.results()[:2] == bytes((0x40, r.ST1_END))
    assert medium.read(17, 1) == b"\x5a" * 512


def test_formatting_a_track() -> None:
    medium = diskette()
    one = Driver(medium)
    one.seek(1, 1)
    one.memory.write(BUFFER, b"".join(bytes((1, 1, n, 2)) for n in range(1, 19)))
    one.program(2, BUFFER, 72, dma.READ)
    one.send(0x4D, 4, 2, 18, 0x54, 0xF6)
    one.wait()
    assert one.results()[:3] == bytes((4, 0, 0))
    assert medium.read(lba(1, 1, 1), 18) == b"\xf6" * 512 * 18
    assert medium.read(lba(2, 0, 1), 1) == content(lba(2, 0, 1), 1)


def test_read_id_and_verify() -> None:
    one = Driver(diskette())
    one.seek(5)
    assert one.ask(0x4A, 4) == bytes((4, 0, 0, 5, 1, 1, 2))
    one.send(0x16 | MFM, 0, 5, 0, 1, 2, 18, 0x1B, 0xFF)
    one.wait()
    assert one.results() == bytes((0, 0, 0, 6, 0, 1, 2))


@pytest.mark.parametrize(
    ("medium", "command", "status"),
    [
        (None, (0x46, 0, 0, 0, 1, 2, 18, 0x1B, 0xFF), (0x40, r.ST1_NO_ADDRESS, 0)),
        (diskette(), (0x46, 0, 3, 0, 1, 2, 18, 0x1B, 0xFF), (0x40, r.ST1_NO_DATA, r.ST2_WRONG_CYLINDER)),
        (diskette(), (0x46, 0, 0, 0, 19, 2, 18, 0x1B, 0xFF), (0x40, r.ST1_NO_DATA, 0)),
        (diskette(), (0x46, 0, 0, 1, 1, 2, 18, 0x1B, 0xFF), (0x44, r.ST1_NO_DATA, 0)),
        (diskette(), (0x46, 0, 0, 0, 1, 3, 18, 0x1B, 0xFF), (0x40, r.ST1_NO_DATA, 0)),
        (diskette(writable=False), (0x45, 0, 0, 0, 1, 2, 18, 0x1B, 0xFF), (0x40, r.ST1_PROTECTED, 0)),
        (diskette(writable=False), (0x4D, 0, 2, 18, 0x54, 0), (0x40, r.ST1_PROTECTED, 0)),
        (BrokenMedium(), (0x46, 0, 0, 0, 1, 2, 18, 0x1B, 0xFF), (0x40, r.ST1_DATA_ERROR, 0)),
        (BrokenMedium(), (0x45, 0, 0, 0, 1, 2, 18, 0x1B, 0xFF), (0x40, r.ST1_PROTECTED, 0)),
    ],
)
def test_errors(medium: ImageMedium | None, command: tuple[int, ...], status: tuple[int, int, int]) -> None:
    one = Driver(medium)
    one.program(2, BUFFER, 512, dma.READ if command[0] & 1 else dma.WRITE)
    one.send(*command)
    one.wait()
    assert one.results()[:3] == bytes(status)
    assert one.msr == r.RQM


def test_the_interrupt_is_behind_the_gate() -> None:
    one = Driver(diskette())
    one.fdc.write(r.DOR, 1, 0x14)
    one.send(0x07, 0)
    one.clock.advance(1_000_000)
    assert one.interrupts == 0
    one.fdc.write(r.DOR, 1, 0x1C)
    assert one.interrupts == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("cylinders", [0]),
        ("position", 5),
        ("interrupts", [1]),
        ("phase", 1),
        ("phase", 2),
        ("command", bytearray(b"\x1f")),
    ],
)
def test_states_that_do_not_fit_together_are_refused(field: str, value: object) -> None:
    fdc = Driver(diskette()).fdc
    state = fdc.state()
    setattr(state, field, value)
    with pytest.raises(DeviceError, match="fdc: this state cannot be restored: state"):
        fdc.restore(state)
