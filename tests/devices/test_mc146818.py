"""The real-time clock against its data sheet."""

from __future__ import annotations

import random
from datetime import datetime, timedelta

import pytest

from hypervisor.bus import Line
from hypervisor.bus.clock import ManualClock
from hypervisor.devices.mc146818 import Mc146818
from hypervisor.errors import DeviceError

SECOND = 10**9
MIB = 1 << 20
A, B, C, D = range(0x0A, 0x0E)


class Rtc:
    """An RTC with its line, its bytes read and written by index."""

    def __init__(self, clock: ManualClock, memory: int = 64 * MIB, start: datetime = datetime(2000, 1, 1)) -> None:
        self.clock = clock
        self.changes: list[bool] = []
        self.line = Line("irq8", self.changes.append)
        self.device = Mc146818(self.line, clock, memory, start)

    def __getitem__(self, index: int) -> int:
        self.device.write(0, 1, index)
        return self.device.read(1, 1)

    def __setitem__(self, index: int, value: int) -> None:
        self.device.write(0, 1, index)
        self.device.write(1, 1, value)

    def raised(self) -> bool:
        return self.line.level

    def date(self) -> list[int]:
        return [self[n] for n in (0x32, 9, 8, 7, 4, 2, 0)]


@pytest.fixture
def rtc(clock: ManualClock) -> Rtc:
    return Rtc(clock)


def test_time_starts_at_the_documented_date_and_follows_the_clock(rtc: Rtc) -> None:
    assert rtc.date() == [0x20, 0, 1, 1, 0, 0, 0] and rtc[6] == 7  # a Saturday
    rtc.clock.advance(86_399 * SECOND)
    assert rtc.date() == [0x20, 0, 1, 1, 0x23, 0x59, 0x59]
    rtc.clock.advance(SECOND)
    assert rtc.date() == [0x20, 0, 1, 2, 0, 0, 0] and rtc[6] == 1
    assert rtc[D] == 0x80


def test_calendar_agrees_with_datetime_over_a_century(clock: ManualClock) -> None:
    rng = random.Random(1)
    start = datetime(1999, 12, 31, 23, 59, 58)
    rtc = Rtc(clock, start=start)
    for _ in range(300):
        clock.advance(rng.choice((1, 59, 3600, 86_400, 31 * 86_400, 400 * 86_400)) * SECOND)
        now = start + timedelta(seconds=clock.now_ns // SECOND)
        if now.year > 2099:
            break
        want = [now.year // 100, now.year % 100, now.month, now.day, now.hour, now.minute, now.second]
        assert rtc.date() == [int(str(value), 16) for value in want]
        assert rtc[6] == now.isoweekday() % 7 + 1


def test_binary_and_twelve_hours(rtc: Rtc) -> None:
    rtc[B] = 0x84  # SET, binary, 12 hours
    for index, value in ((0, 58), (2, 59), (4, 0x80 | 11), (7, 28), (8, 2), (9, 4)):
        rtc[index] = value
    rtc[B] = 0x04
    rtc.clock.advance(SECOND)
    assert [rtc[n] for n in (0, 2, 4)] == [59, 59, 0x8B]
    rtc.clock.advance(SECOND)
    assert [rtc[n] for n in (0, 2, 4, 7, 8)] == [0, 0, 12, 29, 2]  # 12 AM of a leap day
    rtc.clock.advance(12 * 3600 * SECOND)
    assert rtc[4] == 0x80 | 12  # noon


def test_set_holds_the_time(rtc: Rtc) -> None:
    rtc[B] = 0x92
    assert rtc[B] == 0x82  # SET clears UIE
    rtc[0] = 0x30
    rtc.clock.advance(10 * SECOND)
    assert rtc[0] == 0x30 and rtc[C] == 0x40
    rtc[B] = 0x02
    rtc.clock.advance(SECOND)
    assert rtc[0] == 0x31


def test_update_in_progress_covers_the_last_2228_us(rtc: Rtc) -> None:
    rtc.clock.advance(SECOND - 2_230_000)
    assert rtc[A] == 0x26
    rtc.clock.advance(10_000)
    assert rtc[A] == 0xA6 and rtc[0] == 0
    rtc.clock.advance(2_219_999)
    assert rtc[A] == 0xA6 and rtc[0] == 0
    rtc.clock.advance(1)
    assert rtc[A] == 0x26 and rtc[0] == 1


def test_divider_reset_stops_time_and_starts_half_a_second_early(rtc: Rtc) -> None:
    rtc.clock.advance(SECOND // 3)
    rtc[A] = 0x76
    rtc.clock.advance(5 * SECOND)
    assert rtc[0] == 0
    rtc[A] = 0x26
    rtc.clock.advance(SECOND // 2 - 1)
    assert rtc[0] == 0
    rtc.clock.advance(1)
    assert rtc[0] == 1


def test_update_ended_interrupt(rtc: Rtc) -> None:
    rtc[B] = 0x12
    rtc.clock.advance(SECOND - 1)
    assert not rtc.raised()
    rtc.clock.advance(1)
    assert rtc.raised()
    assert rtc[C] == 0xD0  # PF is set too, though not enabled
    assert not rtc.raised() and rtc[C] == 0
    rtc.clock.advance(5 * SECOND)
    assert rtc.changes == [True, False, True]  # it stays high until it is acknowledged


@pytest.mark.parametrize(("rate", "hertz"), [(1, 256), (2, 128), (3, 8192), (6, 1024), (15, 2)])
def test_periodic_interrupt_rates(rtc: Rtc, rate: int, hertz: int) -> None:
    rtc[A] = 0x20 | rate
    rtc[B] = 0x42
    count = 0
    for _ in range(hertz):
        rtc.clock.advance(SECOND // hertz + 1)
        count += rtc.raised()
        assert rtc[C] & 0xC0 == 0xC0
    assert count == hertz
    rtc[A] = 0x20
    rtc[C]
    rtc.clock.advance(SECOND * 3 // 4)
    assert rtc[C] & 0x40 == 0


@pytest.mark.parametrize(
    ("alarm", "seconds"),
    [((0x30, 0x02, 0x00), 150), ((0x10, 0xFF, 0xC0), 10), ((0xC0, 0xC0, 0xC0), 1), ((0x00, 0x00, 0x23), 23 * 3600)],
)
def test_alarm_interrupt(rtc: Rtc, alarm: tuple[int, int, int], seconds: int) -> None:
    for index, value in zip((1, 3, 5), alarm, strict=True):
        rtc[index] = value
    rtc[B] = 0x22
    rtc.clock.advance(seconds * SECOND - 1)
    assert not rtc.raised()
    rtc.clock.advance(1)
    assert rtc.raised() and rtc[C] & 0xA0 == 0xA0


def test_an_alarm_that_never_comes(rtc: Rtc) -> None:
    rtc[1] = 0x7F
    rtc[B] = 0x22
    rtc.clock.advance(100_000 * SECOND)
    assert not rtc.raised() and rtc[C] & 0x20 == 0


def test_flags_rise_without_being_enabled(rtc: Rtc) -> None:
    rtc[1] = rtc[3] = rtc[5] = 0xFF
    rtc.clock.advance(SECOND)
    assert rtc[C] == 0x70 and not rtc.changes


@pytest.mark.parametrize(
    ("memory", "base", "extended", "above"),
    [
        (512 << 10, 512, 0, 0),
        (8 * MIB, 640, 7 * 1024, 0),
        (64 * MIB, 640, 63 * 1024, 48 * 16),
        (1024 * MIB, 640, 0xFFFF, 1008 * 16),
    ],
)
def test_memory_size_as_firmware_leaves_it(
    clock: ManualClock, memory: int, base: int, extended: int, above: int
) -> None:
    rtc = Rtc(clock, memory)
    assert [rtc[n] | rtc[n + 1] << 8 for n in (0x15, 0x17, 0x30, 0x34)] == [base, extended, extended, above]
    assert rtc[0x2E] << 8 | rtc[0x2F] == sum(rtc[n] for n in range(0x10, 0x2E))


def test_what_the_board_presets_survives_a_reset(clock: ManualClock) -> None:
    rtc = Mc146818(Line(), clock, 3 << 30, above_4g=5 << 30)
    rtc.preset({0x10: 0x40, 0x3D: 0x21})
    for _ in range(2):
        read = {}
        for at in (0x10, 0x2E, 0x2F, 0x3D, 0x5B, 0x5C, 0x5D, *range(0x11, 0x2E)):
            rtc.write(0, 1, at)
            read[at] = rtc.read(1, 1)
        assert (read[0x10], read[0x3D]) == (0x40, 0x21)
        assert read[0x5B] | read[0x5C] << 8 | read[0x5D] << 16 == (5 << 30) >> 16
        assert read[0x2E] << 8 | read[0x2F] == sum(read[at] for at in range(0x10, 0x2E))
        rtc.write(0, 1, 0x3D)
        rtc.write(1, 1, 0)
        rtc.reset()
    for wrong in ({0x0F: 0}, {0x80: 0}, {0x10: 256}):
        with pytest.raises(DeviceError, match="not bytes by CMOS index"):
            rtc.preset(wrong)


def test_cmos_bytes_keep_what_is_written_and_bit_7_of_the_index_is_nmi(rtc: Rtc) -> None:
    rtc[0x7F] = 0x5A
    assert rtc[0xFF] == 0x5A
    rtc[C], rtc[D] = 0xFF, 0x00
    assert rtc[C] == 0 and rtc[D] == 0x80
    assert rtc.device.read(0, 1) == 0xFF


def test_restore_keeps_time_and_interrupts(rtc: Rtc) -> None:
    rtc[B] = 0x12
    rtc.clock.advance(SECOND * 5 // 4)
    twin = Rtc(rtc.clock)
    twin.device.restore(rtc.device.state())
    assert twin.raised() and twin[C] == rtc[C] == 0xD0
    rtc.clock.advance(SECOND)
    assert twin.raised() and twin.date() == rtc.date()
