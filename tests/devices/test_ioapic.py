"""The I/O APIC: its table, edges and levels, and the way to a local APIC and back."""

from __future__ import annotations

import pytest

from hypervisor.arch import apic_registers as r
from hypervisor.arch.apic_registers import Mode
from hypervisor.bus import Line
from hypervisor.bus.clock import ManualClock
from hypervisor.devices.apic_bus import ApicBus
from hypervisor.devices.ioapic import ID, IOREGSEL, IOWIN, PINS, TABLE, VERSION, IoApic
from hypervisor.devices.local_apic import LocalApic, Pins


class Machine:
    """An I/O APIC and two local APICs that are enabled."""

    def __init__(self) -> None:
        self.bus = ApicBus()
        self.io = IoApic(self.bus)
        self.events: list[str] = []
        self.intr = [Line(), Line()]
        self.apics = [self._apic(number) for number in range(2)]

    def _apic(self, number: int) -> LocalApic:
        pins = Pins(self.intr[number], lambda: self.events.append("nmi"), lambda: None, lambda vector: None)
        apic = LocalApic(pins, ManualClock(), self.bus, number)
        apic.write(r.SVR, 4, 0x1FF)
        return apic

    def register(self, index: int) -> int:
        self.io.write(IOREGSEL, 4, index)
        return self.io.read(IOWIN, 4)

    def set(self, index: int, value: int) -> None:
        self.io.write(IOREGSEL, 4, index)
        self.io.write(IOWIN, 4, value)

    def entry(self, pin: int, low: int, destination: int = 0) -> None:
        self.set(TABLE + 2 * pin + 1, destination << 24)
        self.set(TABLE + 2 * pin, low)

    def take(self, number: int = 0) -> int | None:
        """The vector that a processor gets, with its end; None if there is none."""
        if not self.intr[number].level:
            return None
        vector = self.apics[number].acknowledge()
        self.apics[number].write(r.EOI, 4, 0)
        return vector


@pytest.fixture
def m() -> Machine:
    return Machine()


def test_registers_after_reset(m: Machine) -> None:
    assert m.register(VERSION) == 0x00170011
    assert [m.register(TABLE + 2 * n) for n in range(PINS)] == [r.MASKED] * PINS
    m.set(ID, 0xFFFFFFFF)
    assert m.register(ID) == 0x0F000000
    assert m.register(0x0F) == 0


def test_an_entry_has_its_writable_bits(m: Machine) -> None:
    m.entry(23, 0xFFFFFFFF, 0xAB)
    assert m.register(TABLE + 46) == 0x1AFFF
    assert m.register(TABLE + 47) == 0xAB000000


def test_an_edge_is_delivered_once_and_lost_while_masked(m: Machine) -> None:
    m.entry(4, 0x34)
    m.io.drive(4, True)
    assert (m.take(), m.take()) == (0x34, None)
    m.io.drive(4, False)
    m.entry(4, r.MASKED | 0x34)
    m.io.drive(4, True)
    m.entry(4, 0x34)
    assert m.take() is None


def test_a_level_is_delivered_until_it_falls(m: Machine) -> None:
    m.entry(9, r.LEVEL | 0x39)
    m.io.drive(9, True)
    assert m.register(TABLE + 18) & r.REMOTE_IRR
    assert [m.take() for _ in range(3)] == [0x39] * 3
    m.io.drive(9, False)
    assert (m.take(), m.take()) == (0x39, None)  # it was delivered already when the wire fell
    assert not m.register(TABLE + 18) & r.REMOTE_IRR


def test_a_level_that_came_while_masked_is_seen_when_unmasked(m: Machine) -> None:
    m.entry(9, r.LEVEL | r.MASKED | 0x39)
    m.io.drive(9, True)
    assert m.take() is None
    m.entry(9, r.LEVEL | 0x39)
    assert m.take() == 0x39


def test_a_level_that_comes_back_while_in_service_waits_for_the_end(m: Machine) -> None:
    m.entry(9, r.LEVEL | 0x39)
    m.io.drive(9, True)
    assert m.apics[0].acknowledge() == 0x39
    m.io.drive(9, False)
    m.io.drive(9, True)
    m.apics[0].write(r.EOI, 4, 0)
    assert m.apics[0].acknowledge() == 0x39
    m.io.drive(9, False)
    m.io.drive(9, True)
    m.io.drive(9, False)
    m.apics[0].write(r.EOI, 4, 0)
    assert m.take() is None  # what came and went meanwhile was not sent


def test_a_level_that_is_masked_again_is_not_delivered(m: Machine) -> None:
    m.io.drive(9, True)
    m.entry(9, r.LEVEL | r.MASKED | 0x39)
    assert m.take() is None


def test_an_entry_that_becomes_an_edge_forgets_its_level(m: Machine) -> None:
    m.entry(9, r.LEVEL | 0x39)
    m.io.drive(9, True)
    m.entry(9, 0x39)
    assert not m.register(TABLE + 18) & r.REMOTE_IRR


def test_a_narrow_write_changes_no_register(m: Machine) -> None:
    m.io.write(IOREGSEL, 1, TABLE + 18)
    m.io.write(IOWIN, 1, 0x39)
    m.io.write(IOWIN, 2, 0x39)
    assert m.register(TABLE + 18) == r.MASKED


def test_the_end_of_another_vector_does_not_repeat_a_level(m: Machine) -> None:
    m.entry(9, r.LEVEL | 0x39)
    m.entry(10, r.LEVEL | 0x4A)
    m.io.drive(9, True)
    m.io.drive(10, True)
    m.io.drive(10, False)
    assert m.apics[0].acknowledge() == 0x4A
    m.apics[0].write(r.EOI, 4, 0)
    assert m.register(TABLE + 18) & r.REMOTE_IRR
    assert not m.register(TABLE + 20) & r.REMOTE_IRR


def test_destinations(m: Machine) -> None:
    m.entry(1, 0x41, destination=1)
    m.io.drive(1, True)
    assert (m.take(0), m.take(1)) == (None, 0x41)
    for number, apic in enumerate(m.apics):
        apic.write(r.LDR, 4, 1 << 24 + number)
    m.entry(3, r.LOGICAL | 0x43, destination=3)
    m.io.drive(3, True)
    assert (m.take(0), m.take(1)) == (0x43, 0x43)
    m.entry(5, r.LOGICAL | Mode.LOWEST << 8 | 0x45, destination=3)
    m.apics[0].write(r.TPR, 4, 0x20)
    m.io.drive(5, True)
    assert (m.take(0), m.take(1)) == (None, 0x45)


def test_a_level_that_nobody_takes_comes_when_the_entry_is_written_again(m: Machine) -> None:
    m.entry(9, r.LEVEL | 0x39, destination=7)
    m.io.drive(9, True)
    assert not m.register(TABLE + 18) & r.REMOTE_IRR
    m.entry(9, r.LEVEL | 0x39, destination=0)
    assert m.take() == 0x39


def test_an_nmi_from_a_pin(m: Machine) -> None:
    m.entry(2, Mode.NMI << 8, destination=1)
    m.io.drive(2, True)
    assert m.events == ["nmi"]
    m.entry(3, r.LEVEL | Mode.NMI << 8, destination=1)
    for _ in range(2):
        m.io.drive(3, True)
        m.io.drive(3, False)
    assert m.events == ["nmi"] * 3  # only fixed interrupts wait for an end
    assert not m.register(TABLE + 6) & r.REMOTE_IRR


def test_wires_are_asked_for_when_the_first_input_is_unmasked() -> None:
    calls = []
    io = IoApic(ApicBus(), lambda: calls.append(len(calls)))
    for low in (r.MASKED | 0x30, r.LEVEL | r.MASKED):
        io.write(IOREGSEL, 4, TABLE + 4)
        io.write(IOWIN, 4, low)
    assert calls == []
    io.write(IOWIN, 4, 0x30)
    io.write(IOWIN, 4, 0x31)
    assert calls == [0]
    other = IoApic(ApicBus(), lambda: calls.append(len(calls)))
    other.restore(io.state())
    assert calls == [0, 1]


def test_a_wire_that_is_high_when_it_is_led_here_is_no_edge_but_a_level(m: Machine) -> None:
    line = Line()
    line.raise_()
    for low, vector in ((0x34, None), (r.LEVEL | 0x34, 0x34)):
        io = IoApic(m.bus, lambda: line.fork(lambda level: io.drive(4, level)))  # noqa: B023 - called within the turn
        io.write(IOREGSEL, 4, TABLE + 8)
        io.write(IOWIN, 4, low)
        assert m.take() == vector
