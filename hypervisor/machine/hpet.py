"""The HPET on the board: where it is, and how it takes IRQ 0 and IRQ 8 over from the 8254 and the RTC."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hypervisor.bus import Line, SwitchedLine
from hypervisor.devices.hpet import SIZE, Hpet
from hypervisor.vm.board import Part

if TYPE_CHECKING:
    from hypervisor.vm.vm import VM

ADDRESS = 0xFED00000
"""Where every chip set has it (IA-PC HPET Specification 1.0a, 2.3.1: the first of four choices of an ICH)."""
REPLACED = (0, 8)
"""The interrupts of the PIT and of the RTC, which timers 0 and 1 can take over (2.3.9.1)."""
_LINES = "replaced lines"


def _make(vm: VM, parts: dict[str, Any]) -> Hpet:
    pic, ioapic = parts.get("pic"), parts.get("ioapic")
    switches = [SwitchedLine(Line() if pic is None else pic.line(irq)) for irq in REPLACED]
    parts[_LINES] = {irq: switch.first for irq, switch in zip(REPLACED, switches, strict=True)}

    def replace(on: bool) -> None:
        for switch in switches:
            switch.select(on)

    pin: Callable[[int, bool], object] = (lambda number, level: None) if ioapic is None else ioapic.drive
    return Hpet(vm.clock, pin, (switches[0].second, switches[1].second), replace)


def legacy_line(parts: dict[str, Any], irq: int) -> Line:
    """The wire of the PIT (``irq`` 0) or of the RTC (8): straight to the 8259, or one that the HPET can switch off."""
    lines: dict[int, Line] = parts.get(_LINES, {})
    return lines[irq] if irq in lines else parts["pic"].line(irq)


PARTS = (Part("hpet", _make, mmio=((range(ADDRESS, ADDRESS + SIZE), ADDRESS),)),)
"""The part of the board; those that it replaces come behind it."""
