"""Moments that gdb's user has given names: ``monitor snapshot NAME`` and ``monitor revert NAME``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypervisor.errors import ConfigError

if TYPE_CHECKING:
    from hypervisor.vm.snapshot import Snapshot
    from hypervisor.vm.vm import VM

MAX_MOMENTS = 64
"""More than anybody tells apart; each keeps memory that the guest has stored to since."""


class Remembered:
    """They stay until the debugger is closed, whoever connects to it."""

    def __init__(self, vm: VM) -> None:
        self._vm = vm
        self._moments: dict[str, Snapshot] = {}

    def take(self, name: str) -> Snapshot:
        """The machine as it is, under a name, which no longer means what it did. Raises `ConfigError`."""
        if name not in self._moments and len(self._moments) >= MAX_MOMENTS:
            raise ConfigError(f"there are {MAX_MOMENTS} snapshots at most; give one of their names to a new one.")
        taken = self._vm.snapshot()
        self._forget(name)
        self._moments[name] = taken
        return taken

    def go_back(self, name: str) -> int:
        """Become what the machine was; how many pages of its memory were others. Raises `ConfigError`."""
        if name not in self._moments:
            raise ConfigError(f"there is no snapshot {name!r}; {self}")
        return self._vm.revert(self._moments[name])

    def __str__(self) -> str:
        if not self._moments:
            return "there are none: monitor snapshot NAME takes one."
        return "there are " + ", ".join(f"{name} ({one.now_ns / 1e9:.6f} s)" for name, one in self._moments.items())

    def _forget(self, name: str) -> None:
        if name in self._moments:
            self._moments.pop(name).close()

    def close(self) -> None:
        """Give their memory back."""
        for name in list(self._moments):
            self._forget(name)


__all__ = ["MAX_MOMENTS", "Remembered"]
