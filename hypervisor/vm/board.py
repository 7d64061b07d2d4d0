"""A board as a value: a list of parts, each a device and where it sits. Take one apart, extend it, give it to
``hv.boot(board=...)``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from hypervisor.bus import Device
from hypervisor.errors import ConfigError

if TYPE_CHECKING:
    from hypervisor.vm.vm import VM


T = TypeVar("T")


class Parts:
    """The devices of a board that is being built, by name, and what their wiring has in common."""

    def __init__(self) -> None:
        self._devices: dict[str, object] = {}
        self._common: dict[str, object] = {}
        self.slots: dict[str, tuple[int, int]] = {}
        """Device and function number of those that are PCI functions."""

    def __contains__(self, name: str) -> bool:
        return name in self._devices

    def __getitem__(self, name: str) -> Any:
        """A device whatever it is; `need` is for those whose kind matters. Raises `ConfigError`."""
        return self.need(name, object)

    def get(self, name: str, kind: type[T]) -> T | None:
        """The device of this name, None if the board has none. Raises `ConfigError` where it is of another kind."""
        device = self._devices.get(name)
        if device is None or isinstance(device, kind):
            return device
        raise ConfigError(
            f"the board's part {name!r} is a {type(device).__name__}; what it is wired to needs a {kind.__name__}."
        )

    def need(self, name: str, kind: type[T]) -> T:
        """The device of this name. Raises `ConfigError` if the board has none, or one of another kind."""
        device = self.get(name, kind)
        if device is None:
            raise ConfigError(f"the board has no part {name!r}, which another one needs; parts come in their order.")
        return device

    def add(self, name: str, device: object) -> None:
        """A device has been built."""
        self._devices[name] = device

    def once(self, name: str, kind: type[T], make: Callable[[], T]) -> T:
        """What several parts have in common (a shared interrupt line, say), made when it is first asked for."""
        if name not in self._common:
            self._common[name] = make()
        made = self._common[name]
        assert isinstance(made, kind), f"{name} is a {type(made).__name__}"
        return made


@dataclass(frozen=True)
class Part:
    """One device of a board.

    ``make`` builds it, given the VM and the parts built before it, by name. ``ports`` are pairs of a range and the
    address that offset 0 stands for (usually the range's start). ``slot`` is the device and function number of a part
    that is a PCI function.
    """

    name: str
    make: Callable[[VM, Parts], Device]
    ports: tuple[tuple[range, int], ...] = ()
    mmio: tuple[tuple[range, int], ...] = ()
    slot: tuple[int, int] | None = None


@dataclass(frozen=True)
class Board:
    """Parts in the order in which they are built, and what is set up when all are there."""

    name: str
    parts: tuple[Part, ...]
    wire: Callable[[VM, Parts], None] = lambda vm, parts: None

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

    def build(self, vm: VM) -> Parts:
        """Build every part into a VM; returns them by name."""
        with vm.ports.changing(), vm.mmio.changing():
            return self._build(vm)

    def _build(self, vm: VM) -> Parts:
        built = Parts()
        for part in self.parts:
            device = part.make(vm, built)
            built.add(part.name, device)
            if part.slot is not None:
                built.slots[part.name] = part.slot
            for where, base in part.ports:
                vm.ports.attach(device, where, base=base)
            for where, base in part.mmio:
                vm.mmio.attach(device, where, base=base)
            vm.devices[part.name] = device
        self.wire(vm, built)
        return built
