"""The built-in trap handlers, registered through the same public methods as a user's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypervisor.traps import control, counters, debug_registers, msr, random_numbers

if TYPE_CHECKING:
    from hypervisor.core import VM


def install(vm: VM) -> None:
    """Register every built-in handler of a VM's processor."""
    for module in (control, counters, debug_registers, msr, random_numbers):
        module.install(vm)
