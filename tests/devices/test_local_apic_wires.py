"""The local APIC's wires, and the 8259 behind them."""

from __future__ import annotations

import pytest

from hypervisor.arch import apic_registers as r
from hypervisor.arch.apic_registers import Mode
from hypervisor.bus.clock import ManualClock
from hypervisor.devices.apic_bus import ApicBus, Message
from tests.devices.local_apics import ENABLED, Cpu, Pic, interrupt


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
