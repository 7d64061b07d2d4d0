"""Registers that only time changes: what they say without their device is what the device says."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from hypervisor.bus import AddressSpace, Line, TimedRegister
from hypervisor.bus.clock import ManualClock
from hypervisor.devices.acpi_pm import AcpiPm
from hypervisor.devices.hpet import Hpet
from hypervisor.devices.i8254 import I8254
from hypervisor.devices.parts import hpet_registers as h
from hypervisor.devices.parts.pit_counter import RW_BOTH
from hypervisor.devices.uart16550 import POLLS_TO_LISTEN, Uart16550

Operate = Callable[[Any, random.Random], None]


def copy(register: TimedRegister) -> TimedRegister:
    return TimedRegister.from_buffer_copy(register)


def pit(clock: ManualClock) -> I8254:
    return I8254(Line(), clock)


def operate_pit(device: I8254, rng: random.Random) -> None:
    match rng.randrange(6):
        case 0:
            device.write(3, 1, rng.randrange(192) | 0x10)
        case 1 | 2:
            device.write(rng.randrange(3), 1, rng.choice((0, 1, 2, 3, rng.randrange(256))))
        case 3:
            device.write(3, 1, rng.choice((0x00, 0x40, 0x80, 0xC0 | rng.randrange(64))))
        case 4:
            device.set_gate(rng.randrange(3), rng.random() < 0.7)
        case 5:
            device.read(rng.randrange(3), 1)


def hpet(clock: ManualClock) -> Hpet:
    return Hpet(clock, lambda pin, level: None, (Line(), Line()), lambda on: None)


def operate_hpet(device: Hpet, rng: random.Random) -> None:
    if rng.random() < 0.2:
        device.write(h.CONFIGURATION, 4, rng.randrange(4))
    if rng.random() < 0.1:
        device.write(h.COUNTER, 8, rng.choice((0, (1 << 64) - 5, (1 << 63) - 5, rng.getrandbits(64))))
    n = h.TIMER + h.TIMER_SIZE * rng.randrange(h.TIMERS)
    if rng.random() < 0.3:
        device.write(n + h.TIMER_CONFIGURATION, 4, rng.getrandbits(16))
    if rng.random() < 0.3:
        device.write(n + h.COMPARATOR, rng.choice((4, 8)), rng.getrandbits(14))
    if rng.random() < 0.2:
        device.write(h.STATUS, 4, rng.randrange(8))


def acpi_pm(clock: ManualClock) -> AcpiPm:
    return AcpiPm(Line(), clock, lambda: None)


def operate_pm(device: AcpiPm, rng: random.Random) -> None:
    device.write(rng.choice((0, 2, 0x40)), 1, rng.randrange(256))


def uart(clock: ManualClock) -> Uart16550:
    device = Uart16550(Line(), clock, lambda sent: None, hold_when_full=False)
    device.source = lambda: b"typed" if clock.now_ns % 97 == 0 else b""
    return device


def operate_uart(device: Uart16550, rng: random.Random) -> None:
    match rng.randrange(40):
        case 0:
            device.receive(bytes(rng.randrange(4)))
        case 1:
            device.receive_break()
        case 2:
            device.write(rng.choice((1, 2, 4)), 1, rng.randrange(256))
        case 3:
            device.write(2, 1, rng.choice((0, 7)))
            for _ in range(rng.randrange(2 * POLLS_TO_LISTEN)):
                device.read(5, 1)
        case 4:
            for at, value in ((3, 0x83), (0, rng.randrange(1, 4)), (1, 0), (3, 3)):
                device.write(at, 1, value)
        case n if n < 15:
            device.write(4, 1, 0)
            for _ in range(20):
                device.read(0, 1)
                device.read(5, 1)
        case _:
            device.write(0, 1, rng.randrange(256))


@pytest.mark.parametrize(
    "make, operate, farthest",
    [
        (pit, operate_pit, 10**5),
        (hpet, operate_hpet, 10**5),
        (acpi_pm, operate_pm, 10**12),
        (uart, operate_uart, 10**6),
    ],
    ids=["pit", "hpet", "pm", "uart"],
)
def test_what_is_said_without_the_device_is_what_it_says(
    clock: ManualClock, make: Callable[[ManualClock], Any], operate: Operate, farthest: int
) -> None:
    """At random times after random accesses; and such a read leaves the device as the device's own does."""
    rng, device, said = random.Random(7), make(clock), 0
    for round_ in range(6000):
        if rng.random() < 0.4:
            operate(device, rng)
        clock.advance(rng.choice((0, 1, 100, 838, 1000, rng.randrange(10_000), rng.randrange(farthest))))
        at, register = rng.choice(list(device.timed_registers.items()))
        size = rng.choice([size for size in (1, 2, 4, 8) if size <= register.width])
        offset = rng.randrange(register.width - size + 1)
        if not register.answers:
            continue
        said += 1
        without = copy(register)
        before = device.state()
        answer = without.read(clock.now_ns, offset, size)
        assert answer == device.read(at + offset, size), (round_, at, offset, size)
        assert bytes(without) == bytes(device.timed_registers[at])
        after = device.state()
        if make is pit and before.counters[at].control >> 4 == RW_BOTH:
            assert after.counters[at].read_high is not before.counters[at].read_high
            after.counters[at].read_high = before.counters[at].read_high
        if make is uart and before.polls < POLLS_TO_LISTEN:
            assert after.polls == before.polls + 1 < POLLS_TO_LISTEN
            after.polls = before.polls
        assert after == before
    assert said > 1000


def test_whoever_reads_the_status_of_a_line_is_counted(clock: ManualClock) -> None:
    """By the engine, which does not ask, and by the device, in any order: one of `POLLS_TO_LISTEN` is the last."""
    rng, seen = random.Random(11), set()
    for _ in range(400):
        with_engine, without, asked = uart(clock), uart(clock), 0
        for device in (with_engine, without):
            device.source = lambda: b""
        for _ in range(rng.randrange(3 * POLLS_TO_LISTEN)):
            if rng.random() < 0.02:
                with_engine.write(0, 1, 65)
                without.write(0, 1, 65)
            register = with_engine.timed_registers[5]
            if register.answers and rng.random() < 0.9:
                assert register.read(clock.now_ns, 0, 1) == without.read(5, 1)
            else:
                asked += 1
                assert with_engine.read(5, 1) == without.read(5, 1)
            if rng.random() < 0.05:
                with_engine.restore(with_engine.state())
            assert with_engine.is_still(without.state())
        assert with_engine.state() == without.state()
        seen.add((without.state().listens, without.state().polls == POLLS_TO_LISTEN, asked > 0))
    assert len(seen) >= 4, seen


@pytest.mark.parametrize("make", [pit, hpet], ids=["pit", "hpet"])
def test_a_state_brings_its_registers(clock: ManualClock, make: Callable[[ManualClock], Any]) -> None:
    rng = random.Random(3)
    device, twin = make(clock), make(clock)
    operate = operate_pit if make is pit else operate_hpet
    for _ in range(300):
        operate(device, rng)
        clock.advance(rng.randrange(5000))
        for register in device.timed_registers.values():
            if register.active and register.in_turn and rng.random() < 0.3:
                register.read(clock.now_ns, 0, 1)  # as the engine does
        twin.restore(device.state())
        for at, register in device.timed_registers.items():
            other = twin.timed_registers[at]
            assert (other.active, other.high) == (register.active, register.high)
            if register.active:
                assert copy(other).read(clock.now_ns, 0, 1) == copy(register).read(clock.now_ns, 0, 1)


def test_a_space_finds_them_where_they_are_seen_whole(clock: ManualClock) -> None:
    space, told = AddressSpace("I/O ports", 1 << 16), []
    space.timed_changed = lambda: told.append(space.timed())
    device = acpi_pm(clock)
    register = device.timed_registers[8]
    mapping = space.attach(device, range(0x600, 0x640))
    assert told == [[(0x608, 0x60C, register)]]
    space.attach(pit(clock), range(0x60A, 0x60C), base=0x60A, replace=True)
    assert [row[:2] for row in space.timed()] == [(0x60A, 0x60B), (0x60B, 0x60C)]
    space.attach(device, range(0x700, 0x70C), base=0x700)
    assert [row[:2] for row in space.timed()] == [(0x60A, 0x60B), (0x60B, 0x60C), (0x708, 0x70C)]
    count = len(told)
    space.attach(NoTimer(), range(0x800, 0x801))
    space.remove(mapping)
    assert len(told) == count
    space.detach(device)
    assert len(told) > count and [row[:2] for row in told[-1]] == [(0x60A, 0x60B), (0x60B, 0x60C)]


class NoTimer:
    name = "none"


def test_a_rate_that_cannot_be_counted_is_refused() -> None:
    with pytest.raises(ValueError, match="ticks a second can be counted"):
        TimedRegister(4).counts(1 << 40)
