"""The HPET on the board: where it is, and how it takes IRQ 0 and IRQ 8 over from the 8254 and the RTC."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from hypervisor.bus import Line, SwitchedLine
from hypervisor.devices.hpet import SIZE, Hpet
from hypervisor.devices.i8259 import I8259Pair
from hypervisor.devices.ioapic import IoApic
from hypervisor.vm.board import Part, Parts

if TYPE_CHECKING:
    from hypervisor.vm.vm import VM

ADDRESS = 0xFED00000
"""Where every chip set has it (IA-PC HPET Specification 1.0a, 2.3.1: the first of four choices of an ICH)."""
REPLACED = (0, 8)
"""The interrupts of the PIT and of the RTC, which timers 0 and 1 can take over (2.3.9.1)."""
_LINES = "replaced lines"


def _make(vm: VM, parts: Parts) -> Hpet:
    pic, ioapic = parts.get("pic", I8259Pair), parts.get("ioapic", IoApic)
    switches = [SwitchedLine(Line() if pic is None else pic.line(irq)) for irq in REPLACED]
    parts.once(_LINES, dict, lambda: {irq: made.first for irq, made in zip(REPLACED, switches, strict=True)})

    def replace(on: bool) -> None:
        for switch in switches:
            switch.select(on)

    pin: Callable[[int, bool], object] = (lambda number, level: None) if ioapic is None else ioapic.drive
    return Hpet(vm.clock, pin, (switches[0].second, switches[1].second), replace)


def legacy_line(parts: Parts, irq: int) -> Line:
    """The wire of the PIT (``irq`` 0) or of the RTC (8): straight to the 8259, or one that the HPET can switch off."""
    lines: dict[int, Line] = parts.once(_LINES, dict, dict)
    return lines[irq] if irq in lines else parts.need("pic", I8259Pair).line(irq)


PARTS = (Part("hpet", _make, mmio=((range(ADDRESS, ADDRESS + SIZE), ADDRESS),)),)
"""The part of the board; those that it replaces come behind it."""
