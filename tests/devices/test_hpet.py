"""The HPET: its counter, one-shot and periodic matches, its wires, and taking over the legacy interrupts."""

from __future__ import annotations

import pytest

from hypervisor.bus import Line, SwitchedLine
from hypervisor.bus.clock import ManualClock
from hypervisor.devices.hpet import Hpet
from hypervisor.devices.parts import hpet_registers as r

FAR = 1_000_000


class Bench:
    """An HPET whose wires write down when they rise and fall."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.events: list[tuple[int, object, bool]] = []
        self.replaced: list[bool] = []
        legacy = (Line("irq0", self._listen("irq0")), Line("irq8", self._listen("irq8")))
        self.device = Hpet(clock, lambda pin, level: self._note(pin, level), legacy, self.replaced.append)

    def _listen(self, name: str):  # type: ignore[no-untyped-def]
        return lambda level: self._note(name, level)

    def _note(self, wire: object, level: bool) -> None:
        self.events.append((self.clock.now_ns, wire, level))

    def rises(self) -> list[tuple[int, object]]:
        return [(at, wire) for at, wire, level in self.events if level]

    def get(self, at: int, size: int = 8) -> int:
        return self.device.read(at, size)

    def put(self, at: int, value: int, size: int = 8) -> None:
        self.device.write(at, size, value)

    def timer(self, n: int, config: int, *comparators: int, route: int = 16) -> None:
        at = r.TIMER + n * r.TIMER_SIZE
        self.put(at, config | route << r.ROUTE_SHIFT)
        for value in comparators:
            self.put(at + r.COMPARATOR, value)


@pytest.fixture
def hpet(clock: ManualClock) -> Bench:
    return Bench(clock)


def test_the_counter_counts_in_the_period_it_tells_while_enabled(hpet: Bench, clock: ManualClock) -> None:
    assert hpet.get(r.CAPABILITIES, 4) == 0x8086A201
    period_fs = hpet.get(r.CAPABILITIES + 4, 4)
    clock.advance(FAR)
    assert hpet.get(r.COUNTER) == 0
    hpet.put(r.COUNTER, 0xFFFF_FFF0)
    hpet.put(r.CONFIGURATION, r.ENABLE)
    hpet.put(r.COUNTER, 5)  # not while it runs
    clock.advance(FAR)
    assert hpet.get(r.COUNTER) == 0xFFFF_FFF0 + FAR * 1_000_000 // period_fs
    hpet.put(r.CONFIGURATION, 0)
    stopped = hpet.get(r.COUNTER)
    clock.advance(FAR)
    assert (hpet.get(r.COUNTER, 4), hpet.get(r.COUNTER + 4, 4)) == (stopped & 0xFFFFFFFF, stopped >> 32)


def test_a_one_shot_interrupts_once_at_its_input(hpet: Bench, clock: ManualClock) -> None:
    hpet.put(r.CONFIGURATION, r.ENABLE)
    hpet.timer(2, r.INTERRUPT, 50, route=23)
    clock.advance(FAR)
    assert hpet.events == [(500, 23, True), (500, 23, False)]
    assert hpet.get(r.STATUS) == 0


def test_a_periodic_timer_begins_where_it_is_set_and_goes_on_in_its_period(hpet: Bench, clock: ManualClock) -> None:
    hpet.put(r.CONFIGURATION, r.ENABLE)
    hpet.timer(0, r.INTERRUPT | r.PERIODIC | r.SET_VALUE, 1000, 300)
    clock.advance(20_000)
    assert hpet.rises() == [(10_000, 16), (13_000, 16), (16_000, 16), (19_000, 16)]
    assert hpet.get(r.TIMER + r.COMPARATOR) == 2200


def test_one_write_sets_first_match_and_period(hpet: Bench, clock: ManualClock) -> None:
    hpet.put(r.CONFIGURATION, r.ENABLE)
    hpet.timer(1, r.INTERRUPT | r.PERIODIC | r.SET_VALUE, 400)
    clock.advance(9_000)
    assert hpet.rises() == [(4_000, 16), (8_000, 16)]


def test_a_short_period_is_bounded_and_read_as_it_would_be(hpet: Bench, clock: ManualClock) -> None:
    hpet.put(r.CONFIGURATION, r.ENABLE)
    hpet.timer(0, r.INTERRUPT | r.PERIODIC | r.SET_VALUE, 7)
    clock.advance(100_000)
    assert 90 <= len(hpet.rises()) <= 100
    assert hpet.get(r.TIMER + r.COMPARATOR) % 7 == 0


def test_nobody_is_called_for_a_period_without_interrupt_and_it_is_counted_all_the_same(
    hpet: Bench, clock: ManualClock
) -> None:
    hpet.put(r.CONFIGURATION, r.ENABLE)
    hpet.timer(0, r.PERIODIC | r.SET_VALUE, 1000)
    clock.advance(34_560)
    assert hpet.events == []
    assert hpet.get(r.TIMER + r.COMPARATOR) == 4000
    hpet.put(r.TIMER, r.PERIODIC | r.INTERRUPT | 16 << r.ROUTE_SHIFT)
    clock.advance(10_000)
    assert hpet.rises() == [(40_000, 16)]


def test_a_32_bit_comparator_that_is_late_matches_when_the_low_half_wraps(hpet: Bench, clock: ManualClock) -> None:
    hpet.put(r.COUNTER, 1 << 40 | 100)
    hpet.put(r.CONFIGURATION, r.ENABLE)
    hpet.timer(0, r.INTERRUPT | r.ONLY_32_BITS, 1 << 36 | 90)
    assert hpet.get(r.TIMER + r.COMPARATOR) == 90
    clock.advance(10 * ((1 << 32) - 10) - 1)
    assert hpet.events == []
    clock.advance(1)
    assert len(hpet.rises()) == 1


def test_a_level_triggered_timer_holds_its_wire_until_its_status_is_cleared(hpet: Bench, clock: ManualClock) -> None:
    hpet.put(r.CONFIGURATION, r.ENABLE)
    hpet.timer(1, r.INTERRUPT | r.LEVEL, 50, route=20)
    clock.advance(FAR)
    assert hpet.events == [(500, 20, True)]
    assert hpet.get(r.STATUS) == 0b010
    hpet.put(r.STATUS, 0b101, 4)
    assert hpet.get(r.STATUS) == 0b010
    hpet.put(r.STATUS, 0b010, 4)
    assert hpet.get(r.STATUS) == 0
    assert hpet.events[-1] == (FAR, 20, False)


def test_a_route_that_does_not_exist_does_not_read_back(hpet: Bench) -> None:
    hpet.timer(0, r.INTERRUPT, route=3)
    assert hpet.get(r.TIMER) >> r.ROUTE_SHIFT & r.ROUTE_MASK == 0
    hpet.timer(0, r.INTERRUPT, route=17)
    assert hpet.get(r.TIMER) >> r.ROUTE_SHIFT & r.ROUTE_MASK == 17


def test_legacy_replacement_takes_irq_0_and_irq_8(hpet: Bench, clock: ManualClock) -> None:
    hpet.put(r.CONFIGURATION, r.ENABLE | r.LEGACY)
    for n in range(3):
        hpet.timer(n, r.INTERRUPT, 50 + n)
    clock.advance(FAR)
    assert hpet.rises() == [(500, "irq0"), (510, "irq8"), (520, 16)]
    hpet.put(r.CONFIGURATION, r.ENABLE)
    assert hpet.replaced == [True, False]


def test_a_switched_wire_has_the_level_of_the_one_that_drives_it() -> None:
    wire = Line()
    switched = SwitchedLine(wire)
    switched.first.set(True)
    assert wire.level
    switched.select(True)
    assert not wire.level
    switched.second.set(True)
    switched.first.set(False)
    assert wire.level
    switched.select(False)
    assert not wire.level


class StalledClock(ManualClock):
    """A host's clock while the host has others to serve: `stall` nanoseconds pass between any two looks at it."""

    stall = 0

    @property
    def now_ns(self) -> int:
        self._now += self.stall
        return self._now


@pytest.mark.parametrize("stall_ns", [0, 1_000_000, 3_999_990, 4_000_000, 4_100_000, 9_000_000])
def test_a_tick_that_comes_late_is_not_a_turn_of_the_counter_late(stall_ns: int) -> None:
    """A 32-bit periodic comparator that has been passed comes again after 43 s, on hardware; here the thread stood
    still between the match and the next arming, or between a match and the write of another register.
    """
    clock = StalledClock()
    hpet = Bench(clock)
    hpet.put(r.CONFIGURATION, r.ENABLE)
    hpet.timer(0, r.INTERRUPT | r.PERIODIC | r.SET_VALUE | r.ONLY_32_BITS, 400_000, 400_000)  # 4 ms
    clock.stall = stall_ns
    for _ in range(50):
        clock.advance(4_000_000)
        hpet.put(r.STATUS, 0)
    clock.stall = 0
    before, at = len(hpet.rises()), clock.now_ns
    clock.advance(80_000_000)
    assert len(hpet.rises()) - before >= 20
    assert clock.now_ns - at == 80_000_000
