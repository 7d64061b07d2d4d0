"""The local APIC: registers, priorities, its wires, messages and destinations."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from hypervisor.arch import apic_registers as r
from hypervisor.arch.apic_registers import Mode, Shorthand
from hypervisor.bus import Line
from hypervisor.bus.clock import ManualClock
from hypervisor.devices.apic_bus import ApicBus, Message
from hypervisor.devices.local_apic import LocalApic, Pins

ENABLED = 0x1FF


class Cpu:
    """A local APIC with a processor that writes down what happens to it."""

    def __init__(self, clock: ManualClock, bus: ApicBus, number: int = 0, external: Pic | None = None) -> None:
        self.intr = Line()
        self.events: list[object] = []
        pins = Pins(
            self.intr,
            lambda: self.events.append("nmi"),
            lambda: self.events.append("init"),
            lambda vector: self.events.append(vector),
        )
        self.apic = LocalApic(pins, clock, bus, number, bootstrap=number == 0, external=external)

    def write(self, offset: int, value: int) -> None:
        self.apic.write(offset, 4, value)

    def read(self, offset: int) -> int:
        return self.apic.read(offset, 4)

    def enable(self) -> Cpu:
        self.write(r.SVR, ENABLED)
        return self

    def send(self, value: int, to: int = 0) -> None:
        self.write(r.ICR_HIGH, to << 24)
        self.write(r.ICR_LOW, value)


class Pic:
    """An 8259 that always answers with the same vector."""

    def __init__(self) -> None:
        self.acknowledged = 0

    def pending(self) -> bool:
        return True

    def acknowledge(self) -> int:
        self.acknowledged += 1
        return 0x08


@pytest.fixture
def cpu(clock: ManualClock) -> Cpu:
    return Cpu(clock, ApicBus()).enable()


def interrupt(cpu: Cpu, vector: int, level: bool = False) -> None:
    cpu.apic.receive(Message(Mode.FIXED, vector, level=level))


# ---- reset and registers (SDM 10.4.7.1)


def test_registers_after_reset(clock: ManualClock) -> None:
    cpu = Cpu(clock, ApicBus(), 3)
    expected = {r.ID: 3 << 24, r.VERSION: 0x50014, r.SVR: 0xFF, r.DFR: 0xFFFFFFFF, r.LDR: 0, r.TPR: 0, r.PPR: 0}
    expected |= dict.fromkeys((r.LVT_TIMER, r.LVT_LINT0, r.LVT_LINT1, r.LVT_ERROR, r.LVT_THERMAL), r.MASKED)
    assert {offset: cpu.read(offset) for offset in expected} == expected
    assert all(cpu.read(base + 16 * n) == 0 for base in (r.ISR, r.TMR, r.IRR) for n in range(8))


@pytest.mark.parametrize("offset", [row.offset for row in r.REGISTERS])
def test_a_register_changes_in_its_writable_bits_only(cpu: Cpu, offset: int) -> None:
    row = next(row for row in r.REGISTERS if row.offset == offset)
    before = cpu.read(offset)
    cpu.write(offset, before)
    if "w" not in row.access:
        cpu.write(offset, before ^ 0xFFFFFFFF)
        assert cpu.read(offset) == before
    if offset in r.LVT_WRITABLE:
        cpu.write(offset, 0xFFFFFFFF)
        assert cpu.read(offset) == r.LVT_WRITABLE[offset]


def test_entries_stay_masked_while_the_software_enable_is_off(clock: ManualClock) -> None:
    cpu = Cpu(clock, ApicBus()).enable()
    cpu.write(r.LVT_TIMER, 0x40)
    cpu.write(r.SVR, 0xFF)
    assert cpu.read(r.LVT_TIMER) == r.MASKED | 0x40
    cpu.write(r.LVT_TIMER, 0x41)
    assert cpu.read(r.LVT_TIMER) == r.MASKED | 0x41


def test_narrow_and_wide_accesses(cpu: Cpu) -> None:
    cpu.write(r.LDR, 0x12345678)
    assert cpu.read(r.LDR) == 0x12000000
    assert cpu.apic.read(r.LDR + 3, 1) == 0x12
    assert cpu.apic.read(r.LDR + 4, 4) == 0
    assert cpu.apic.read(r.LDR, 8) == 0x12000000
    cpu.apic.write(r.LDR, 1, 0xFF)
    cpu.apic.write(r.LDR + 4, 4, 0xFF)  # behind a register there is nothing, and that is no error
    assert cpu.read(r.LDR) == 0x12000000
    cpu.write(r.ESR, 0)
    assert cpu.read(r.ESR) == 0


def test_an_address_without_a_register_is_an_error_that_interrupts_once(cpu: Cpu) -> None:
    cpu.write(r.LVT_ERROR, 0x33)
    cpu.read(0x40)
    assert cpu.apic.acknowledge() == 0x33
    cpu.write(r.EOI, 0)
    cpu.read(0x40)
    assert not cpu.intr.level
    assert cpu.read(r.ESR) == 0
    cpu.write(r.ESR, 0)
    assert cpu.read(r.ESR) == r.ESR_REGISTER
    cpu.write(r.ESR, 0)
    assert cpu.read(r.ESR) == 0


# ---- priorities (SDM 10.8.3)


def test_the_highest_vector_comes_first_and_a_lower_class_waits(cpu: Cpu) -> None:
    for vector in (0x31, 0x55, 0x52):
        interrupt(cpu, vector)
    assert cpu.apic.acknowledge() == 0x55
    assert not cpu.intr.level  # 52h is of the class in service
    assert cpu.read(r.PPR) == 0x50
    cpu.write(r.EOI, 0)
    assert cpu.apic.acknowledge() == 0x52
    cpu.write(r.EOI, 0)
    assert cpu.apic.acknowledge() == 0x31
    cpu.write(r.EOI, 0)
    assert not cpu.intr.level
    assert cpu.apic.acknowledge() == 0xFF  # spurious, and nothing is in service
    assert cpu.read(r.PPR) == 0


def test_the_task_priority_holds_its_class_back_and_is_cr8(cpu: Cpu) -> None:
    interrupt(cpu, 0x45)
    cpu.write(r.TPR, 0x4F)
    assert not cpu.intr.level
    assert (cpu.apic.task_class, cpu.read(r.PPR)) == (4, 0x4F)
    cpu.apic.task_class = 3
    assert cpu.intr.level
    assert cpu.read(r.TPR) == 0x30


def test_random_interrupts_are_served_as_the_manual_orders_them(clock: ManualClock) -> None:
    """Against a model that is a list of vectors, sorted anew each time."""
    rng = random.Random(3)
    cpu = Cpu(clock, ApicBus()).enable()
    waiting: set[int] = set()
    serving: list[int] = []
    task = 0

    def deliverable() -> int | None:
        floor = max([task >> 4, *(vector >> 4 for vector in serving)])
        best = max(waiting, default=0)
        return best if best >> 4 > floor else None

    for _ in range(20_000):
        match rng.randrange(4):
            case 0:
                vector = rng.randrange(16, 256)
                waiting.add(vector)
                interrupt(cpu, vector)
            case 1:
                task = rng.randrange(256) & rng.choice((0, 0x3F, 0xFF))
                cpu.write(r.TPR, task)
            case 2:
                cpu.write(r.EOI, 0)
                serving.remove(max(serving)) if serving else None
            case 3:
                best = deliverable()
                assert cpu.intr.level == (best is not None)
                if best is not None:
                    assert cpu.apic.acknowledge() == best
                    waiting.remove(best)
                    serving.append(best)
    words = sum(cpu.read(r.IRR + 16 * n) << 32 * n for n in range(8))
    assert words == sum(1 << vector for vector in waiting)


# ---- LINT0, LINT1 and the 8259


@pytest.mark.parametrize("setup", [(), ((r.SVR, ENABLED), (r.LVT_LINT0, 0x8700))], ids=["reset", "virtual wire"])
def test_the_8259_reaches_the_processor(clock: ManualClock, setup: tuple[tuple[int, int], ...]) -> None:
    pic = Pic()
    cpu = Cpu(clock, ApicBus(), external=pic)
    for offset, value in setup:
        cpu.write(offset, value)
    cpu.apic.lint0(True)
    assert cpu.intr.level
    assert (cpu.apic.acknowledge(), pic.acknowledged) == (0x08, 1)
    cpu.apic.lint0(False)
    assert not cpu.intr.level
    assert cpu.read(r.PPR) == 0


def test_a_masked_lint0_keeps_the_8259_out_and_an_apic_switched_off_lets_it_through(clock: ManualClock) -> None:
    cpu = Cpu(clock, ApicBus(), external=Pic()).enable()
    cpu.write(r.LVT_LINT0, r.MASKED | 0x700)
    cpu.apic.lint0(True)
    assert not cpu.intr.level
    cpu.apic.enabled = False
    assert cpu.intr.level
    cpu.apic.enabled = True
    assert cpu.intr.level  # as after reset


def test_an_apic_that_is_switched_on_again_is_as_after_reset(clock: ManualClock) -> None:
    """Its id included, which an INIT leaves alone (SDM 10.4.7.1 and 10.4.7.3)."""
    cpu = Cpu(clock, ApicBus(), 3).enable()
    reset = Cpu(clock, ApicBus(), 3).apic.state()
    cpu.write(r.ID, 5 << 24)
    cpu.apic.receive(Message(Mode.INIT, 0))
    assert cpu.read(r.ID) == 5 << 24
    cpu.write(r.TPR, 0x20)
    cpu.apic.enabled = False
    cpu.apic.enabled = True
    assert cpu.apic.state() == reset
    assert cpu.read(r.SVR) == 0xFF


def test_a_message_for_the_8259_is_taken_once(clock: ManualClock) -> None:
    cpu = Cpu(clock, ApicBus(), external=Pic()).enable()
    cpu.apic.receive(Message(Mode.EXTINT, 0))
    assert cpu.intr.level
    assert cpu.apic.acknowledge() == 0x08
    assert not cpu.intr.level


def test_lint0_is_heard_when_its_entry_becomes_a_level_input(cpu: Cpu) -> None:
    cpu.apic.lint0(True)
    cpu.write(r.LVT_LINT0, r.MASKED | r.LEVEL | 0x44)
    assert not cpu.intr.level
    cpu.write(r.LVT_LINT0, r.LEVEL | 0x44)
    assert cpu.apic.acknowledge() == 0x44


def test_the_end_of_another_vector_leaves_lint0_in_service(cpu: Cpu) -> None:
    cpu.write(r.LVT_LINT0, r.LEVEL | 0x44)
    cpu.apic.lint0(True)
    cpu.apic.lint0(False)
    interrupt(cpu, 0x55, level=True)
    assert cpu.apic.acknowledge() == 0x55
    cpu.write(r.EOI, 0)
    assert cpu.read(r.LVT_LINT0) & r.REMOTE_IRR


def test_lint0_as_a_fixed_level_input_repeats_after_each_end(cpu: Cpu) -> None:
    cpu.write(r.LVT_LINT0, r.LEVEL | 0x44)
    cpu.apic.lint0(True)
    assert cpu.read(r.LVT_LINT0) & r.REMOTE_IRR
    for _ in range(3):
        assert cpu.apic.acknowledge() == 0x44
        cpu.write(r.EOI, 0)
    cpu.apic.lint0(False)
    assert cpu.apic.acknowledge() == 0x44
    cpu.write(r.EOI, 0)
    assert not cpu.intr.level
    assert not cpu.read(r.LVT_LINT0) & r.REMOTE_IRR


def test_lint1_is_an_nmi_when_its_entry_says_so(cpu: Cpu) -> None:
    cpu.apic.lint1(True)
    assert cpu.events == []
    cpu.apic.lint1(False)
    cpu.write(r.LVT_LINT1, Mode.NMI << 8)
    cpu.apic.lint1(True)
    assert cpu.events == ["nmi"]


def test_a_request_that_the_task_priority_overtakes_is_spurious(cpu: Cpu) -> None:
    interrupt(cpu, 0x41)
    assert cpu.intr.level
    cpu.write(r.TPR, 0x40)
    assert not cpu.intr.level
    assert cpu.apic.acknowledge() == 0xFF  # the processor had begun already
    cpu.write(r.TPR, 0x3F)
    assert cpu.apic.acknowledge() == 0x41


def test_the_trigger_mode_is_that_of_the_last_message(cpu: Cpu) -> None:
    interrupt(cpu, 0x41, level=True)
    assert cpu.read(r.TMR + 0x20) == 2
    cpu.apic.acknowledge()
    cpu.write(r.EOI, 0)
    interrupt(cpu, 0x41)
    assert cpu.read(r.TMR + 0x20) == 0


def test_the_arbitration_priority_is_the_highest_class(cpu: Cpu) -> None:
    cpu.write(r.TPR, 0x21)
    assert cpu.read(r.APR) == 0x21
    interrupt(cpu, 0x55)
    assert cpu.read(r.APR) == 0x50
    cpu.apic.acknowledge()
    assert cpu.read(r.APR) == 0x50  # in service
    interrupt(cpu, 0x77)
    assert cpu.read(r.APR) == 0x70


# ---- interprocessor interrupts (SDM 10.6)


@pytest.mark.parametrize("mode", [Mode.INIT, Mode.STARTUP])
def test_the_shorthand_self_starts_nobody(cpu: Cpu, mode: Mode) -> None:
    cpu.send(Shorthand.SELF << 18 | r.ASSERT | mode << 8 | 0x08)
    assert cpu.events == [] and cpu.read(r.SVR) == ENABLED


@pytest.fixture
def cpus(clock: ManualClock) -> list[Cpu]:
    bus = ApicBus()
    return [Cpu(clock, bus, number).enable() for number in range(4)]


def hit(cpus: list[Cpu]) -> list[int]:
    return [number for number, cpu in enumerate(cpus) if cpu.intr.level]


@pytest.mark.parametrize(
    "shorthand, expected",
    [(Shorthand.SELF, [1]), (Shorthand.ALL, [0, 1, 2, 3]), (Shorthand.OTHERS, [0, 2, 3]), (Shorthand.NONE, [2])],
)
def test_shorthands(cpus: list[Cpu], shorthand: Shorthand, expected: list[int]) -> None:
    cpus[1].send(shorthand << 18 | 0x50, to=2)
    assert hit(cpus) == expected


def logical(cpus: list[Cpu], dfr: int, ldrs: tuple[int, ...]) -> Callable[[int], list[int]]:
    for cpu, ldr in zip(cpus, ldrs, strict=True):
        cpu.write(r.DFR, dfr)
        cpu.write(r.LDR, ldr << 24)

    def who(destination: int) -> list[int]:
        cpus[0].send(r.LOGICAL | 0x50, to=destination)
        found = hit(cpus)
        for number in found:
            cpus[number].apic.acknowledge()
            cpus[number].write(r.EOI, 0)
        return found

    return who


def test_flat_logical_destinations(cpus: list[Cpu]) -> None:
    who = logical(cpus, 0xFFFFFFFF, (1, 2, 4, 0x82))
    assert [who(d) for d in (1, 2, 6, 0x80, 0xFF, 0x10, 0)] == [[0], [1, 3], [1, 2, 3], [3], [0, 1, 2, 3], [], []]


def test_cluster_logical_destinations(cpus: list[Cpu]) -> None:
    who = logical(cpus, 0x0FFFFFFF, (0x01, 0x02, 0x11, 0x18))
    assert [who(d) for d in (0x01, 0x03, 0x1F, 0xF1, 0xFF, 0x21)] == [[0], [0, 1], [2, 3], [0, 2], [0, 1, 2, 3], []]


def test_physical_broadcast(cpus: list[Cpu]) -> None:
    cpus[0].send(0x50, to=0xFF)
    assert hit(cpus) == [0, 1, 2, 3]


def test_lowest_priority_goes_to_the_idlest(cpus: list[Cpu]) -> None:
    for cpu, priority in zip(cpus, (0x40, 0x20, 0x30, 0x20), strict=True):
        cpu.write(r.TPR, priority)
    cpus[0].send(Mode.LOWEST << 8 | 0x90, to=0xFF)
    assert hit(cpus) == [1]
    cpus[1].write(r.SVR, 0xFF)  # it takes none any more
    cpus[0].send(Mode.LOWEST << 8 | 0x90, to=0xFF)
    assert hit(cpus) == [3]


def test_init_and_start_up_reach_an_apic_that_is_off(cpus: list[Cpu]) -> None:
    cpus[2].write(r.SVR, 0xFF)
    cpus[0].send(Mode.INIT << 8 | r.LEVEL | r.ASSERT, to=2)
    cpus[0].send(Mode.INIT << 8 | r.LEVEL, to=2)  # the de-assertion
    cpus[0].send(Mode.STARTUP << 8 | 0x9A, to=2)
    cpus[0].send(Mode.NMI << 8, to=2)
    cpus[0].send(0x50, to=2)
    assert cpus[2].events == ["init", 0x9A, "nmi"]
    assert not cpus[2].intr.level
    assert [cpu.events for cpu in (cpus[0], cpus[1], cpus[3])] == [[], [], []]


def test_init_keeps_the_id_and_clears_the_rest(cpus: list[Cpu]) -> None:
    cpus[1].write(r.ID, 9 << 24)
    cpus[1].write(r.TPR, 0x20)
    interrupt(cpus[1], 0x50)
    cpus[0].send(Mode.INIT << 8 | r.ASSERT, to=9)
    assert (cpus[1].read(r.ID), cpus[1].read(r.TPR), cpus[1].read(r.IRR + 0x20)) == (9 << 24, 0, 0)
    assert not cpus[1].intr.level


def test_a_reserved_vector_is_refused_by_the_sender_and_by_the_receiver(cpus: list[Cpu]) -> None:
    cpus[0].send(0x0F, to=1)
    interrupt(cpus[1], 0x0F)
    for cpu, error in ((cpus[0], r.ESR_SEND_ILLEGAL), (cpus[1], r.ESR_RECEIVE_ILLEGAL)):
        cpu.write(r.ESR, 0)
        assert cpu.read(r.ESR) == error
    assert hit(cpus) == []


# ---- the timer (SDM 10.5.4)


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
