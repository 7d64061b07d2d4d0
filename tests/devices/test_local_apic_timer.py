"""The local APIC's timer (SDM 10.5.4)."""

from __future__ import annotations

import pytest

from hypervisor.arch import apic_registers as r
from hypervisor.bus.clock import ManualClock
from hypervisor.devices.apic_bus import ApicBus
from tests.devices.local_apics import Cpu


@pytest.mark.parametrize("divide, by", [(0b0000, 2), (0b0011, 16), (0b1010, 128), (0b1011, 1)])
def test_the_timer_counts_the_bus_clock(cpu: Cpu, clock: ManualClock, divide: int, by: int) -> None:
    cpu.write(r.TIMER_DIVIDE, divide)
    cpu.write(r.LVT_TIMER, 0x60)
    cpu.write(r.TIMER_INITIAL, 1000)
    clock.advance(400 * by)
    assert cpu.read(r.TIMER_CURRENT) == 600
    clock.advance(600 * by - 1)
    assert not cpu.intr.level
    clock.advance(1)
    assert cpu.intr.level
    assert cpu.read(r.TIMER_CURRENT) == 0
    assert cpu.apic.acknowledge() == 0x60
    cpu.write(r.EOI, 0)
    clock.advance(10_000 * by)
    assert not cpu.intr.level


def test_the_periodic_timer_keeps_its_pace(cpu: Cpu, clock: ManualClock) -> None:
    cpu.write(r.TIMER_DIVIDE, 0b1011)
    cpu.write(r.LVT_TIMER, r.PERIODIC | 0x60)
    cpu.write(r.TIMER_INITIAL, 10_000)
    count = 0
    for _ in range(1_000):
        clock.advance(1_000)
        if cpu.intr.level:
            assert cpu.apic.acknowledge() == 0x60
            cpu.write(r.EOI, 0)
            count += 1
    assert count == 100
    cpu.write(r.TIMER_INITIAL, 0)
    clock.advance(50_000)
    assert not cpu.intr.level


def test_a_new_divider_and_a_new_mode_go_on_from_the_present_count(cpu: Cpu, clock: ManualClock) -> None:
    cpu.write(r.TIMER_DIVIDE, 0b1011)
    cpu.write(r.LVT_TIMER, 0x60)
    cpu.write(r.TIMER_INITIAL, 1_000)
    clock.advance(400)
    cpu.write(r.TIMER_DIVIDE, 0)  # by 2
    assert cpu.read(r.TIMER_CURRENT) == 600
    clock.advance(200)
    assert cpu.read(r.TIMER_CURRENT) == 500
    cpu.write(r.LVT_TIMER, r.PERIODIC | 0x60)
    assert cpu.read(r.TIMER_CURRENT) == 500
    clock.advance(999)
    assert not cpu.intr.level
    clock.advance(1)
    assert cpu.intr.level
    clock.advance(200)
    assert cpu.read(r.TIMER_CURRENT) == 900  # and anew


def test_a_one_shot_that_is_over_stays_at_zero_until_it_is_started_again(cpu: Cpu, clock: ManualClock) -> None:
    cpu.write(r.TIMER_DIVIDE, 0b1011)
    cpu.write(r.LVT_TIMER, 0x60)
    cpu.write(r.TIMER_INITIAL, 10_000)
    clock.advance(12_000)
    assert cpu.apic.acknowledge() == 0x60
    cpu.write(r.EOI, 0)
    for mode in (r.PERIODIC | 0x60, 0x60, r.PERIODIC | 0x60):
        cpu.write(r.LVT_TIMER, mode)
        assert cpu.read(r.TIMER_CURRENT) == 0
        cpu.write(r.TIMER_DIVIDE, 0b0000)
        cpu.write(r.TIMER_DIVIDE, 0b1011)
        clock.advance(25_000)
        assert (cpu.read(r.TIMER_CURRENT), cpu.read(r.TIMER_INITIAL), cpu.intr.level) == (0, 10_000, False)
    cpu.write(r.TIMER_INITIAL, 10_000)
    clock.advance(12_000)
    assert (cpu.read(r.TIMER_CURRENT), cpu.intr.level) == (8_000, True)


def test_a_one_shot_whose_interrupt_has_not_come_yet_is_told_in_its_new_mode(cpu: Cpu, clock: ManualClock) -> None:
    cpu.write(r.TIMER_DIVIDE, 0b1011)
    cpu.write(r.LVT_TIMER, 0x60)
    clock.call_at(10_000, lambda: cpu.write(r.LVT_TIMER, r.PERIODIC | 0x60))  # served before the timer's own alarm
    cpu.write(r.TIMER_INITIAL, 10_000)
    clock.advance(50_000)
    assert cpu.apic.acknowledge() == 0x60
    cpu.write(r.EOI, 0)
    clock.advance(50_000)
    assert (cpu.read(r.TIMER_CURRENT), cpu.intr.level) == (0, False)


def test_a_masked_timer_counts_silently_and_can_be_unmasked(cpu: Cpu, clock: ManualClock) -> None:
    cpu.write(r.TIMER_DIVIDE, 0b1011)
    cpu.write(r.TIMER_INITIAL, 5_000)
    clock.advance(4_000)
    cpu.write(r.LVT_TIMER, 0x60)
    clock.advance(1_000)
    assert cpu.intr.level
    cpu.apic.acknowledge()
    cpu.write(r.EOI, 0)
    cpu.write(r.LVT_TIMER, r.MASKED | 0x60)
    cpu.write(r.LVT_TIMER, 0x60)  # what is over does not come back
    clock.advance(10_000)
    assert not cpu.intr.level


def test_the_shortest_period_does_not_stop_the_host(cpu: Cpu, clock: ManualClock) -> None:
    cpu.write(r.TIMER_DIVIDE, 0b1011)
    cpu.write(r.LVT_TIMER, r.PERIODIC | 0x60)
    cpu.write(r.TIMER_INITIAL, 1)
    fired = 0
    for _ in range(100):
        clock.advance(1_000)
        if cpu.intr.level:
            cpu.apic.acknowledge()
            cpu.write(r.EOI, 0)
            fired += 1
    assert 90 <= fired <= 100


class RunningClock(ManualClock):
    """A clock that goes on by itself, as the host's does: 100 ns with each look at it."""

    @property
    def now_ns(self) -> int:
        self.advance(100)
        return self._now


def test_a_short_count_is_not_lost_when_time_goes_on_meanwhile() -> None:
    clock = RunningClock()
    cpu = Cpu(clock, ApicBus()).enable()
    cpu.write(r.TIMER_DIVIDE, 0b1011)
    cpu.write(r.LVT_TIMER, 0x60)
    for count in (1, 50, 99, 100, 101, 500):
        cpu.write(r.TIMER_INITIAL, count)
        cpu.write(r.LVT_TIMER, 0x60)
        clock.advance(1_000)
        assert cpu.intr.level, count
        cpu.apic.acknowledge()
        cpu.write(r.EOI, 0)
