"""The last exits and events of a VM, as the engine's ring remembers them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypervisor.arch.exits import ExitKind
from hypervisor.engine import block as b

if TYPE_CHECKING:
    from hypervisor.core.vm import VM

_MASK64 = (1 << 64) - 1


def last_exits(vm: VM, count: int = 32) -> list[str]:
    """The last exits, oldest first, one line each."""
    pcpu = vm.last_pcpu
    if pcpu is None or pcpu.owner is not vm:
        return []
    words = pcpu.words
    end = words[b.RING_AT >> 3]
    lines = []
    for n in range(max(0, end - min(count, b.RING_ENTRIES)), end):
        at = (b.RING >> 3) + 4 * (n & b.RING_ENTRIES - 1)
        kind, rip, info, now = words[at : at + 4].tolist()
        name = ExitKind(kind).name.lower()
        if kind == ExitKind.EXCEPTION:
            origin = ("exception", "software interrupt", "interrupt", "int1")[(info >> 24) & 3]
            name = f"{origin} {info & 0xFF}"
            if info & 0xFFFF00:
                name += f", error {info >> 8 & 0xFFFF:#x}"
        else:
            name += f" {info & _MASK64:#x}"
        symbol = vm.symbols.describe(rip & _MASK64)
        lines.append(f"{now:>14} ns  {name} at {rip & _MASK64:#x}{f' ({symbol})' if symbol else ''}")
    return lines
