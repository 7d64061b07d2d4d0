"""What keeps interrupts from a guest that only waits, as a sentence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypervisor.arch import flags
from hypervisor.debug.crash import place
from hypervisor.debug.interrupted import interrupted
from hypervisor.debug.mistakes import mistakes
from hypervisor.devices.i8259 import I8259Pair, I8259State
from hypervisor.devices.local_apic import LocalApic
from hypervisor.traps.history import EXCEPTION, Event

CASCADE = 1 << 2


def hint(vm: Any) -> str:
    """A likely mistake of a guest that waits, halts or spins, or "" where none is recognised."""
    for vcpu in vm.vcpus:
        own = [event for event in vm.events() if event.vcpu == vcpu.number]
        if found := mistakes(vcpu, (), None, None, own):
            return found[0]
        if text := _in_handler(vm, vcpu, own):
            return text
        if vcpu.rflags & flags.RFLAGS_IF and (text := _no_eoi(vm, vcpu)):
            return text
    return ""


def _in_handler(vm: Any, vcpu: Any, events: Sequence[Event]) -> str:
    """The handler of an exception is where it stopped for good: a kernel's panic, most likely."""
    if not vcpu.halted or vcpu.rflags & flags.RFLAGS_IF:
        return ""
    cause = next((came.event for came in interrupted(vcpu, events) if came.event.origin == EXCEPTION), None)
    return "" if cause is None else f"The handler of {cause}, raised at {place(cause.rip, vm.symbols)}, stopped here."


def _no_eoi(vm: Any, vcpu: Any) -> str:
    """An interrupt whose handler has not told the controller that it is done, while others wait behind it."""
    if isinstance(vcpu.interrupt_controller, LocalApic) and (text := _in_apic(vcpu.interrupt_controller)):
        return text
    pic = next((device for device in vm.devices.values() if isinstance(device, I8259Pair)), None)
    return _in_pic(pic.state()) if pic is not None and vcpu.number == 0 else ""


def _in_pic(state: I8259State) -> str:
    serving = state.slave.isr << 8 | state.master.isr & ~CASCADE
    waiting = (state.slave.irr & ~state.slave.imr) << 8 | state.master.irr & ~state.master.imr & ~CASCADE
    if not serving or not waiting:
        return ""
    irq = (serving & -serving).bit_length() - 1
    vector = (state.slave.base if irq >= 8 else state.master.base) | irq & 7
    end = "OUT 0xa0, 0x20 and OUT 0x20, 0x20" if irq >= 8 else "OUT 0x20, 0x20"
    return _sentence(f"IRQ {irq} (vector {vector:#x})", f"IRQ {_numbers(waiting, 16, str)}", f"with {end}")


def _in_apic(apic: LocalApic) -> str:
    state = apic.state()
    serving, waiting = state.isr.bit_length() - 1, state.irr.bit_length() - 1
    if waiting < 0 or serving < 0 or waiting >> 4 > serving >> 4:
        return ""
    behind = f"interrupt {_numbers(state.irr, 256, hex)}"
    return _sentence(
        f"Interrupt {serving:#x}", behind, "with a write of 0 to the local APIC's EOI register (offset 0xb0)"
    )


def _numbers(bits: int, width: int, text: Any) -> str:
    return ", ".join(text(n) for n in range(width) if bits >> n & 1)


def _sentence(what: str, behind: str, how: str) -> str:
    return (
        f"{what} is still in service, since its handler sent no end of interrupt (EOI): {behind} waits for that. "
        f"End the handler {how}."
    )
