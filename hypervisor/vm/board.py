"""A board as a value: a list of parts, each a device and where it sits. Take one apart, extend it, give it to
``hv.boot(board=...)``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from hypervisor.errors import ConfigError

if TYPE_CHECKING:
    from hypervisor.vm.vm import VM


@dataclass(frozen=True)
class Part:
    """One device of a board.

    ``make`` builds it, given the VM and the parts built before it, by name. ``ports`` are pairs of a range and the
    address that offset 0 stands for (usually the range's start). ``slot`` is the device and function number of a part
    that is a PCI function.
    """

    name: str
    make: Callable[[VM, dict[str, Any]], Any]
    ports: tuple[tuple[range, int], ...] = ()
    mmio: tuple[tuple[range, int], ...] = ()
    slot: tuple[int, int] | None = None


@dataclass(frozen=True)
class Board:
    """Parts in the order in which they are built, and what is set up when all are there."""

    name: str
    parts: tuple[Part, ...]
    wire: Callable[[VM, dict[str, Any]], None] = lambda vm, parts: None

    def part(self, name: str) -> Part:
        """The part of this name."""
        for part in self.parts:
            if part.name == name:
                return part
        raise ConfigError(f"board {self.name!r} has no part {name!r}; it has {', '.join(p.name for p in self.parts)}.")

    def with_part(self, part: Part) -> Board:
        """This board and one part more; a part of the same name is replaced in its place."""
        if any(p.name == part.name for p in self.parts):
            return replace(self, parts=tuple(part if p.name == part.name else p for p in self.parts))
        return replace(self, parts=(*self.parts, part))

    def without(self, name: str) -> Board:
        """This board less one part."""
        self.part(name)
        return replace(self, parts=tuple(p for p in self.parts if p.name != name))

    def build(self, vm: VM) -> dict[str, Any]:
        """Build every part into a VM; returns them by name."""
        built: dict[str, Any] = {}
        for part in self.parts:
            device = part.make(vm, built)
            built[part.name] = device
            for where, base in part.ports:
                vm.ports.attach(device, where, base=base)
            for where, base in part.mmio:
                vm.mmio.attach(device, where, base=base)
            vm.devices[part.name] = device
        built["slots"] = {part.name: part.slot for part in self.parts if part.slot is not None}
        self.wire(vm, built)
        return built
