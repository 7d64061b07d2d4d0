"""The built-in trap handlers, registered through the same public methods as a user's."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING

from hypervisor.traps.builtin import control, counters, debug_registers, msr_access, random_numbers

if TYPE_CHECKING:
    from hypervisor.traps.registry import TrapRegistry


def install(traps: TrapRegistry, random: Random, note_unclaimed: Callable[[str, int], None]) -> None:
    """Register every built-in handler of a VM's processor."""
    for module in (control, counters, debug_registers):
        module.install(traps)
    msr_access.install(traps, note_unclaimed)
    random_numbers.install(traps, random)
