"""Disks with limits, and disks that fail, driven as a guest's driver does it, in a time of the test's."""

from __future__ import annotations

import random

import pytest

from hypervisor.bus import DiskLimits, Line
from hypervisor.bus.clock import ManualClock
from hypervisor.devices.ide import AtaDisk, IdeChannel
from hypervisor.devices.ide import ata_registers as r
from hypervisor.errors import ConfigError
from hypervisor.units import NS_PER_S
from tests.devices.ide import IMAGE, SECTORS, Driver, disk

READY = r.DRDY | r.DSC
COMMANDS_OF_EACH_KIND = (r.READ_SECTORS, r.READ_MULTIPLE, r.READ_DMA, r.WRITE_SECTORS, r.WRITE_DMA, r.VERIFY, r.FLUSH)


class Limited(Driver):
    """A driver that waits while the drive is busy."""

    def __init__(self, limits: DiskLimits) -> None:
        super().__init__(disk())
        self.clock = ManualClock()
        self.channel = IdeChannel(self.line, [AtaDisk(disk(), "HV00001", limits)], "ide0", self.clock)
        self.select()

    def wait(self) -> int:
        """Let time pass until it is not busy; the status."""
        while self.status & r.BSY:
            self.clock.advance(max(self.clock.pending[0].due - self.clock.now_ns, 0))
        return self.status

    def read(self, lba: int, count: int) -> bytes | None:
        self.command(r.READ_SECTORS, lba, count)
        return None if self.wait() & r.ERR else self.blocks()


def test_without_limits_no_command_waits() -> None:
    one = Limited(DiskLimits(seed=5))
    assert one.read(0, 16) == IMAGE[: 16 * 512] and one.clock.now_ns == 0


@pytest.mark.parametrize(
    "limits", [{"bandwidth": "1M"}, {"bandwidth": 64 << 10}, {"iops": 50.0}, {"iops": 0.5}], ids=str
)
def test_over_time_a_guest_gets_what_was_said(limits: dict[str, float]) -> None:
    one, chance = Limited(DiskLimits(**limits)), random.Random(3)  # type: ignore[arg-type]
    sectors = commands = 0
    for _ in range(60):
        count = chance.randrange(1, 100)
        lba = chance.randrange(SECTORS - count)
        assert one.read(lba, count) == IMAGE[lba * 512 : (lba + count) * 512]
        done = sectors * 512, commands  # what began before this one is over
        seconds = one.clock.now_ns / NS_PER_S
        if "bandwidth" in limits:
            rate = (1 << 20) if limits["bandwidth"] == "1M" else limits["bandwidth"]
            assert seconds == pytest.approx(done[0] / rate, abs=1e-6)
        else:
            assert seconds == pytest.approx(done[1] / limits["iops"], abs=1e-6)
        sectors, commands = sectors + count, commands + 1
    one.clock.advance(1000 * NS_PER_S)
    before = one.clock.now_ns
    one.read(0, 1)
    assert one.clock.now_ns == before  # what was not used for long is not saved up beyond one command
    one.read(0, 1)
    assert one.clock.now_ns > before


def test_while_it_waits_it_is_busy_hears_no_command_and_interrupts_nobody() -> None:
    one = Limited(DiskLimits(iops=10))
    one.read(0, 1)
    interrupts = one.interrupts
    one.command(r.READ_SECTORS, 5, 1)
    assert one.status == r.BSY and one.interrupts == interrupts
    assert one.channel.read(r.DATA, 2) == 0
    one.channel.write(r.COMMAND, 1, r.IDENTIFY)
    one.clock.advance(NS_PER_S // 10 - 1)
    assert one.status == r.BSY
    one.clock.advance(1)
    assert one.status == READY | r.DRQ and one.interrupts == interrupts + 1
    assert one.blocks() == IMAGE[5 * 512 : 6 * 512]
    one.command(r.READ_SECTORS, 5, 1)
    one.channel.write(r.CONTROL, 1, r.SRST)
    one.channel.write(r.CONTROL, 1, 0)
    assert one.status == READY and not one.clock.pending
    one.command(r.READ_SECTORS, 5, 1)
    one.channel.reset()
    assert not one.clock.pending and not one.status & r.BSY


@pytest.mark.parametrize("code", COMMANDS_OF_EACH_KIND, ids=hex)
def test_commands_that_use_the_medium_count(code: int) -> None:
    one = Limited(DiskLimits(iops=10))
    one.command(r.SET_MULTIPLE, count=4)
    one.command(code, 0, 4)
    assert not one.status & r.BSY
    one.channel.reset()
    one.command(r.IDENTIFY)
    assert one.status == READY | r.DRQ  # which does not
    one.channel.drives[0].s.pace.commands_done = NS_PER_S  # type: ignore[union-attr]
    one.command(r.SET_MULTIPLE, count=4)
    one.command(code, 0, 4)
    assert one.status == r.BSY


def test_delays_are_drawn_and_are_the_same_again() -> None:
    def times(seed: int) -> list[int]:
        one, found = Limited(DiskLimits(delay=0.01, seed=seed)), []
        for _ in range(50):
            before = one.clock.now_ns
            assert one.read(1, 1) == IMAGE[512:1024]
            found.append(one.clock.now_ns - before)
        return found

    assert times(1) == times(1) != times(2)
    assert 0 <= min(times(1)) < 1_000_000 and 9_000_000 < max(times(1)) < 10_000_000


def test_errors_are_what_a_driver_expects_and_as_many_as_was_said() -> None:
    one = Limited(DiskLimits(read_errors=0.3, write_errors=0.6, seed=9))
    failed = {"read": 0, "write": 0}
    for _ in range(400):
        if one.read(7, 2) is None:
            assert one.channel.read(r.ERROR, 1) == r.UNC and one.status == READY | r.ERR
            failed["read"] += 1
        one.command(r.WRITE_SECTORS, 7, 1)
        one.channel.write_string(r.DATA, 2, bytes(512))
        if one.status & r.ERR:
            assert one.status == READY | r.ERR | r.DF
            failed["write"] += 1
        one.channel.drives[0].medium.write(7, IMAGE[7 * 512 : 8 * 512])  # type: ignore[union-attr]
    assert 90 < failed["read"] < 150 and 200 < failed["write"] < 280


def test_a_state_that_waits_goes_on_elsewhere() -> None:
    limits = DiskLimits(iops=10, delay=0.05, read_errors=0.3, seed=4)
    one, other = Limited(limits), Limited(limits)
    for n in range(20):
        one.read(n, 1)
    one.command(r.READ_SECTORS, 50, 2)
    assert one.status == r.BSY
    other.clock.advance(one.clock.now_ns)
    other.channel.restore(one.channel.state())
    other.select()
    ends = []
    for each in (one, other):
        found = [None if each.wait() & r.ERR else each.blocks()]
        found += [each.read(n, 1) for n in range(20)]
        ends.append((found, each.clock.now_ns))
    assert ends[0] == ends[1] and None in ends[0][0]


@pytest.mark.parametrize(
    "wrong",
    [
        {"bandwidth": 100},
        {"bandwidth": "x"},
        {"iops": 0},
        {"iops": "1"},
        {"delay": -1},
        {"read_errors": 2},
        {"seed": 1.5},
    ],
    ids=str,
)
def test_limits_that_mean_nothing_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        DiskLimits(**wrong)  # type: ignore[arg-type]


def test_a_line_is_enough_for_a_channel_without_a_clock() -> None:
    channel = IdeChannel(Line("irq", lambda level: None), [AtaDisk(disk(), "HV00001", DiskLimits(iops=1))])
    for _ in range(3):
        channel.write(r.COMMAND, 1, r.FLUSH)
        assert channel.read(r.STATUS, 1) == READY
