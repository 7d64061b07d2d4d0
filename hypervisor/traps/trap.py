"""What registering a handler returns."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from hypervisor.errors import TrapError
from hypervisor.traps.handlers import HandlerFunction

if TYPE_CHECKING:
    from hypervisor.traps.registry import TrapRegistry

F = TypeVar("F", bound=HandlerFunction)


class Trap:
    """A trap of one VM: a decorator while it has no handler, then what its handler is switched by."""

    def __init__(self, registry: TrapRegistry, what: str, register: Callable[[HandlerFunction], str]) -> None:
        """``register`` registers a handler, and returns the name that it got."""
        self._registry, self._what, self._register = registry, what, register
        self._name: str | None = None

    def __call__(self, function: F) -> F:
        """Register ``function``, and return it as it is. Raises `TrapError`."""
        self._name = self._register(function)
        return function

    @property
    def name(self) -> str:
        """The handler's name among those of `TrapRegistry.names`. Raises `TrapError` while there is no handler."""
        if self._name is None:
            raise TrapError(
                f"traps.{self._what}(...) has no handler yet: use it as a decorator, or give it a function."
            )
        return self._name

    @property
    def registered(self) -> bool:
        """Whether there is a handler, and it has not been removed."""
        return self._name is not None and self._name in self._registry.names()

    def remove(self) -> None:
        """See `TrapRegistry.remove`; nothing for one that is gone already."""
        if self.registered:
            self._registry.remove(self.name)

    def disable(self) -> None:
        """See `TrapRegistry.disable`."""
        self._registry.disable(self.name)

    def enable(self) -> None:
        """See `TrapRegistry.enable`."""
        self._registry.enable(self.name)

    def __repr__(self) -> str:
        if self._name is None:
            return f"<trap {self._what}: no handler yet>"
        if not self.registered:
            return f"<trap {self._what}: gone>"
        return f"<trap {self._what}: {self._registry.describe(self._name)}>"


__all__ = ["Trap"]
