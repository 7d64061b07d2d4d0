"""What keeps interrupts from a guest that only waits, as a sentence."""

from __future__ import annotations

from typing import Any

from hypervisor.arch import flags
from hypervisor.debug.mistakes import mistakes
from hypervisor.devices.i8259 import I8259Pair, I8259State

CASCADE = 1 << 2


def hint(vm: Any) -> str:
    """A likely mistake of a guest that waits, halts or spins, or "" where none is recognised."""
    vcpu = vm.vcpus[0]
    pic = next((device for device in vm.devices.values() if isinstance(device, I8259Pair)), None)
    found = mistakes(vcpu, (), None, vm.events())
    if not found and pic is not None and vcpu.rflags & flags.RFLAGS_IF:
        found = [text for text in (_in_service(pic.state()),) if text]
    return found[0] if found else ""


def _in_service(state: I8259State) -> str:
    """An interrupt whose handler has not told the PIC that it is done, while others wait behind it."""
    serving = state.slave.isr << 8 | state.master.isr & ~CASCADE
    waiting = (state.slave.irr & ~state.slave.imr) << 8 | state.master.irr & ~state.master.imr & ~CASCADE
    if not serving or not waiting:
        return ""
    irq = (serving & -serving).bit_length() - 1
    vector = (state.slave.base if irq >= 8 else state.master.base) | irq & 7
    behind = ", ".join(str(n) for n in range(16) if waiting >> n & 1)
    end = "OUT 0xa0, 0x20 and OUT 0x20, 0x20" if irq >= 8 else "OUT 0x20, 0x20"
    return (
        f"IRQ {irq} (vector {vector:#x}) is still in service, since its handler sent no end of interrupt (EOI): IRQ "
        f"{behind} waits for that. End the handler with {end}."
    )
