"""The 8254 against its data sheet, and against an oracle that ticks."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from hypervisor.bus import Line
from hypervisor.bus.clock import ManualClock
from hypervisor.devices.i8254 import I8254, PIT_HZ, ticks_at, time_of
from hypervisor.devices.port61 import Port61

CONTROL = 3


class Timer(I8254):
    """A PIT with its line's rises by time."""

    def __init__(self, clock: ManualClock) -> None:
        self.rises: list[int] = []
        super().__init__(Line("irq0", lambda level: self.rises.append(clock.now_ns) if level else None), clock)

    def program(self, number: int, mode: int, count: int, order: int = 3, bcd: int = 0) -> None:
        self.write(CONTROL, 1, number << 6 | order << 4 | mode << 1 | bcd)
        if order & 1:
            self.write(number, 1, count & 0xFF)
        if order & 2:
            self.write(number, 1, count >> 8 & 0xFF)

    def count(self, number: int) -> int:
        self.write(CONTROL, 1, number << 6)
        return self.read(number, 1) | self.read(number, 1) << 8

    def status(self, number: int) -> int:
        self.write(CONTROL, 1, 0xE0 | 2 << number)
        return self.read(number, 1)

    def to_tick(self, tick: int) -> None:
        assert isinstance(self.clock, ManualClock)
        self.clock.advance(time_of(tick) - self.clock.now_ns)


@pytest.fixture
def pit(clock: ManualClock) -> Timer:
    return Timer(clock)


def test_tick_arithmetic_is_exact() -> None:
    assert ticks_at(10**9) == PIT_HZ
    assert ticks_at(10**9 * 86_400 * 365) == PIT_HZ * 86_400 * 365
    for tick in (*range(1000), 10**12, 10**15 + 7):
        assert ticks_at(time_of(tick)) == tick
        assert tick == 0 or ticks_at(time_of(tick) - 1) == tick - 1


def test_rate_generator_does_not_drift(pit: Timer, clock: ManualClock) -> None:
    pit.program(0, 2, 1193)
    clock.advance(10 * 10**9)
    assert pit.rises[0] == 0  # the control word took OUT high
    assert pit.rises[1:] == [time_of(1 + 1193 * n) for n in range(1, len(pit.rises))]
    assert len(pit.rises) == 1 + (10 * PIT_HZ - 1) // 1193


def test_a_timer_that_is_served_late_keeps_the_grid_and_gives_one_edge(clock: ManualClock) -> None:
    class Lazy(ManualClock):
        late = 0

        @property
        def now_ns(self) -> int:
            return self._now + self.late

    lazy = Lazy()
    pit = Timer(lazy)
    pit.program(0, 2, 1000)
    pit.rises.clear()
    lazy.late = 50_000
    lazy.advance(time_of(1001))
    lazy.late = 0
    assert len(pit.rises) == 1
    lazy.advance(time_of(10_001) - lazy.now_ns)
    assert len(pit.rises) == 10
    lazy.late = time_of(100_000)  # the host slept: a hundred periods at once
    lazy.advance(time_of(1000))
    assert len(pit.rises) == 11


def test_square_wave_of_an_odd_count(pit: Timer) -> None:
    pit.program(2, 3, 5)
    pit.set_gate(2, True)  # counting starts with the next pulse
    levels, values = [], []
    for tick in range(1, 12):
        pit.to_tick(tick)
        levels.append(pit.out(2))
        values.append(pit.count(2))
    assert levels == [True, True, True, False, False] * 2 + [True]
    assert values == [4, 2, 0, 4, 2] * 2 + [4]


def test_square_wave_interrupts_once_in_a_period(pit: Timer, clock: ManualClock) -> None:
    pit.program(0, 3, 11932)
    pit.rises.clear()
    clock.advance(10**9)
    assert len(pit.rises) == (PIT_HZ - 1) // 11932


def test_mode_0_interrupts_n_plus_1_pulses_after_the_write(pit: Timer) -> None:
    pit.program(0, 0, 4)
    pit.to_tick(4)
    assert not pit.out(0) and pit.rises == []
    pit.to_tick(5)
    assert pit.out(0) and pit.rises == [time_of(5)]
    pit.to_tick(6)
    assert pit.count(0) == 0xFFFF  # it counts on
    pit.to_tick(100_000)
    assert len(pit.rises) == 1


def test_mode_0_stops_at_the_first_byte_of_a_new_count(pit: Timer) -> None:
    pit.program(0, 0, 100)
    pit.to_tick(50)
    pit.write(0, 1, 10)
    pit.to_tick(1000)
    assert pit.rises == [] and pit.count(0) == 51
    pit.write(0, 1, 0)
    pit.to_tick(1011)
    assert pit.rises == [time_of(1011)]


def test_mode_4_strobes_for_one_pulse(pit: Timer) -> None:
    pit.program(0, 4, 3)
    pit.rises.clear()
    levels = []
    for tick in range(1, 7):
        pit.to_tick(tick)
        levels.append(pit.out(0))
    assert levels == [True, True, True, False, True, True]
    assert pit.rises == [time_of(5)]


def test_hardware_triggered_modes_wait_for_the_gate(pit: Timer) -> None:
    pit.program(2, 1, 3)
    pit.to_tick(10)
    assert pit.out(2) and pit.status(2) & 0x40
    pit.set_gate(2, True)
    assert pit.out(2)
    pit.to_tick(11)
    assert not pit.out(2) and not pit.status(2) & 0x40
    pit.to_tick(12)
    pit.set_gate(2, False)
    pit.set_gate(2, True)  # triggers again
    pit.to_tick(15)
    assert not pit.out(2)
    pit.to_tick(16)
    assert pit.out(2)
    pit.program(2, 5, 3)
    pit.set_gate(2, False)
    pit.set_gate(2, True)
    levels = []
    for tick in range(17, 23):
        pit.to_tick(tick)
        levels.append(pit.out(2))
    assert levels == [True, True, True, False, True, True]


def test_a_new_count_waits_for_the_end_of_the_period(pit: Timer) -> None:
    pit.program(0, 2, 10)
    pit.to_tick(15)
    pit.rises.clear()
    pit.write(0, 1, 4)
    pit.write(0, 1, 0)
    assert pit.status(0) & 0x40
    pit.to_tick(30)
    assert not pit.status(0) & 0x40
    assert pit.rises == [time_of(t) for t in (21, 25, 29)]


def test_a_low_gate_pauses_modes_0_and_4_and_stops_modes_2_and_3(pit: Timer) -> None:
    pit.set_gate(2, True)
    pit.program(2, 0, 100)
    pit.to_tick(11)
    pit.set_gate(2, False)
    pit.to_tick(500)
    assert pit.count(2) == 90
    pit.set_gate(2, True)
    pit.to_tick(501)
    assert pit.count(2) == 89
    pit.program(2, 3, 100)
    pit.to_tick(501 + 80)
    assert not pit.out(2)
    pit.set_gate(2, False)
    assert pit.out(2)
    pit.to_tick(1000)
    pit.set_gate(2, True)
    pit.to_tick(1001)
    assert pit.count(2) == 100


def test_latch_holds_until_it_is_read_and_a_second_latch_is_ignored(pit: Timer) -> None:
    pit.program(0, 2, 0x1234)
    pit.to_tick(2)
    pit.write(CONTROL, 1, 0x00)
    pit.to_tick(300)
    pit.write(CONTROL, 1, 0x00)
    assert pit.read(0, 1) | pit.read(0, 1) << 8 == 0x1233
    assert pit.read(0, 1) | pit.read(0, 1) << 8 == 0x1234 - 299


def test_read_back_latches_several_counters_and_their_status(pit: Timer) -> None:
    pit.program(0, 2, 1000)
    pit.program(1, 3, 18, order=1)
    pit.to_tick(3)
    pit.write(CONTROL, 1, 0xC6)  # count and status of 0 and 1
    assert pit.read(0, 1) == 0xB4
    assert pit.read(0, 1) | pit.read(0, 1) << 8 == 998
    assert pit.read(1, 1) == 0x96
    assert pit.read(1, 1) == 14
    pit.write(CONTROL, 1, 0xE0)  # nothing selected
    assert pit.read(1, 1) == 14


def test_byte_orders(pit: Timer) -> None:
    pit.program(0, 2, 0x80, order=1)
    pit.to_tick(1)
    assert pit.read(0, 1) == 0x80 and pit.read(0, 1) == 0x80
    pit.program(0, 2, 0x1200, order=2)
    pit.to_tick(2)
    assert pit.read(0, 1) == 0x12 and pit.read(0, 1) == 0x12


def test_bcd(pit: Timer) -> None:
    pit.program(0, 2, 0x1000, bcd=1)
    pit.to_tick(2)
    assert pit.count(0) == 0x0999
    pit.program(0, 2, 0, bcd=1)
    pit.to_tick(3)
    assert pit.count(0) == 0
    pit.to_tick(4)
    assert pit.count(0) == 0x9999


def test_zero_is_the_largest_count(pit: Timer, clock: ManualClock) -> None:
    pit.program(0, 3, 0)
    pit.rises.clear()
    clock.advance(10**9)
    assert len(pit.rises) == 18


def test_control_reads_as_all_ones(pit: Timer) -> None:
    assert pit.read(CONTROL, 1) == 0xFF


def test_restore_goes_on_with_the_same_edges(pit: Timer, clock: ManualClock) -> None:
    pit.program(0, 3, 1001)
    clock.advance(10**6)
    twin = Timer(clock)
    twin.restore(pit.state())
    pit.rises.clear()
    twin.rises.clear()
    clock.advance(10**7)
    assert twin.rises == pit.rises and len(twin.rises) > 10


def test_reset_stops_the_interrupt(pit: Timer, clock: ManualClock) -> None:
    pit.program(0, 2, 100)
    pit.reset()
    pit.rises.clear()
    clock.advance(10**9)
    assert pit.rises == [] and not pit.line.level


def test_port_61_gates_and_shows_counter_2(pit: Timer, clock: ManualClock) -> None:
    port = Port61(pit, clock)
    pit.program(2, 0, 11932)
    port.write(0, 1, 0x01)
    assert port.read(0, 1) & 0x2F == 0x01
    clock.advance(10_000_000 + 1000)
    assert port.read(0, 1) & 0x2F == 0x21  # how kernels wait 10 ms to calibrate the TSC
    port.write(0, 1, 0xFF)
    assert port.read(0, 1) & 0xEF == 0x2F and port.speaker
    toggles = []
    for _ in range(1000):
        clock.advance(1000)
        toggles.append(port.read(0, 1) & 0x10)
    changes = sum(a != b for a, b in pairwise(toggles))
    assert changes == pytest.approx(1000 / 15.085, abs=1)


class Oracle:
    """One 8254 counter that ticks, pulse by pulse, as the data sheet tells it (binary, two-byte counts)."""

    def __init__(self) -> None:
        self.mode = 0
        self.gate = True
        self.out = False
        self.register = 0  # CR
        self.element = 0  # CE
        self.written = False  # CR is full and not transferred
        self.loaded = False
        self.trigger = False
        self.strobed = False

    def control(self, mode: int) -> None:
        self.mode = mode
        self.out = mode != 0
        self.written = self.loaded = self.trigger = self.strobed = False

    def write(self, count: int) -> None:
        self.register = count or 0x10000
        self.written = True
        if self.mode == 0:
            self.out = False
            self.loaded = False
        if self.mode == 4:
            self.loaded = False

    def set_gate(self, level: bool) -> None:
        if level and not self.gate:
            self.trigger = True
        if not level and self.mode in (2, 3):
            self.out = True
            self.trigger = False
        self.gate = level

    def load(self) -> None:
        self.element = self.register
        self.written = False
        self.loaded = True
        self.strobed = False

    def pulse(self) -> None:
        trigger, self.trigger = self.trigger, False
        {0: self._mode_0, 1: self._mode_1, 2: self._mode_2, 3: self._mode_3, 4: self._mode_4, 5: self._mode_5}[
            self.mode
        ](trigger)

    def _mode_0(self, trigger: bool) -> None:
        if self.written:
            self.load()
        elif self.gate and self.loaded:
            self.element = (self.element - 1) & 0xFFFF
            if self.element == 0:
                self.out = True

    def _mode_1(self, trigger: bool) -> None:
        if trigger and (self.written or self.loaded):
            self.load()
            self.out = False
        elif self.loaded:
            self.element = (self.element - 1) & 0xFFFF
            if self.element == 0:
                self.out = True

    def _mode_2(self, trigger: bool) -> None:
        if not self.gate:
            if self.written and not self.loaded:
                self.loaded = True  # the count is there; the trigger starts it
            return
        if not self.loaded or trigger:
            if self.written or self.loaded:
                self.load()
                self.out = True
            return
        self.element -= 1
        if self.element == 1:
            self.out = False
        elif self.element == 0:
            self.load()
            self.out = True

    def _mode_3(self, trigger: bool) -> None:
        if not self.gate:
            if self.written and not self.loaded:
                self.loaded = True
            return
        if not self.loaded or trigger:
            if self.written or self.loaded:
                self.load()
                self.half = (self.register + 1) // 2
                self.element &= ~1
                self.out = True
            return
        self.half -= 1
        self.element -= 2
        if self.half == 0:
            self.out = not self.out
            self.load()
            self.half = (self.register + 1) // 2 if self.out else self.register // 2
            self.element &= ~1

    def _mode_4(self, trigger: bool) -> None:
        if self.written:
            self.load()
            self.out = True
        elif self.gate and self.loaded:
            self.element = (self.element - 1) & 0xFFFF
            self.out = not (self.element == 0 and not self.strobed)
            self.strobed = self.strobed or self.element == 0

    def _mode_5(self, trigger: bool) -> None:
        if trigger and (self.written or self.loaded):
            self.load()
            self.out = True
        elif self.loaded:
            self.element = (self.element - 1) & 0xFFFF
            self.out = not (self.element == 0 and not self.strobed)
            self.strobed = self.strobed or self.element == 0


def walk(seed: int, operations: int) -> None:
    """Drive a counter and the oracle alike; OUT must agree at each pulse, the count wherever it is defined."""
    rng = random.Random(seed)
    clock = ManualClock()
    pit, oracle = Timer(clock), Oracle()
    tick = 0
    pit.program(0, 2, 10)
    oracle.control(2)
    oracle.write(10)
    for _ in range(operations):
        action = rng.randrange(20)
        count = rng.choice((2, 3, 4, 5, 7, 8, 20, 0x10000))
        if action == 0:
            mode = rng.randrange(6)
            pit.program(0, mode, count)
            oracle.control(mode)
            oracle.write(count)
        elif action == 1:
            pit.write(0, 1, count & 0xFF)
            pit.write(0, 1, count >> 8 & 0xFF)
            oracle.write(count)
        elif action in (2, 3) and (oracle.out or oracle.mode != 4):  # a gate during a strobe is unspecified
            level = not oracle.gate
            pit.set_gate(0, level)
            oracle.set_gate(level)
        for _ in range(rng.choice((1, 1, 2, 5))):
            assert pit.out(0) == oracle.out, f"seed {seed}, tick {tick}, mode {oracle.mode}, {pit.state().counters[0]}"
            before, rises = oracle.out, len(pit.rises)
            tick += 1
            pit.to_tick(tick)
            oracle.pulse()
            assert (len(pit.rises) > rises) == (oracle.out and not before), f"seed {seed}, tick {tick}, {pit.state()}"
            if oracle.loaded and oracle.gate and not oracle.trigger:
                assert pit.count(0) == oracle.element & 0xFFFF, f"seed {seed}, tick {tick}, {pit.state().counters[0]}"


@pytest.mark.parametrize("seed", range(20))
def test_random_walk_agrees_with_the_ticking_oracle(seed: int) -> None:
    walk(seed, 400)


@pytest.mark.stress
def test_long_random_walk_agrees_with_the_ticking_oracle() -> None:
    for seed in range(100, 120):
        walk(seed, 50_000)
