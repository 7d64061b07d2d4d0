"""The states of handlers that run inside the engine (`hypervisor.traps.compiled`), as a record."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypervisor.errors import ConfigError
from hypervisor.state import numbers, record, several, text

if TYPE_CHECKING:
    from hypervisor.traps.registry import TrapRegistry

_MAX_HANDLERS, _MAX_WORDS = 255, 1 << 20


@record
class HandlerState:
    """The words of one handler, by its name."""

    name: str = text(1 << 10)
    words: list[int] = numbers(_MAX_WORDS, -(1 << 63), (1 << 63) - 1)


@record
class HandlersState:
    """The compiled handlers that are enabled, in the order in which they are asked."""

    handlers: list[HandlerState] = several(HandlerState, _MAX_HANDLERS)


class HandlersPart:
    """The words of a machine's compiled handlers as a part of its state. Handlers in Python remember what they do
    outside the machine: those of a plugin are the plugin's to save.
    """

    def __init__(self, traps: TrapRegistry) -> None:
        self._traps = traps
        self._known: tuple[int, list[tuple[str, memoryview]]] = -1, []
        """The handlers' words, and which revision of the registry they are of."""

    def _words(self) -> list[tuple[str, memoryview]]:
        if self._known[0] != self._traps.revision:
            compiled = [(one.name, one.compiled) for one in self._traps.compiled()]
            self._known = self._traps.revision, [(name, one.state) for name, one in compiled if one is not None]
        return self._known[1]

    def state(self) -> HandlersState:
        """Their words."""
        return HandlersState([HandlerState(name, words.tolist()) for name, words in self._words()])

    def is_still(self, state: HandlersState) -> bool:
        """See `hypervisor.state.InRecord`."""
        here = self._words()
        return len(here) == len(state.handlers) and all(
            name == one.name and words.tolist() == one.words
            for (name, words), one in zip(here, state.handlers, strict=True)
        )

    def restore(self, state: HandlersState) -> None:
        """Go on from ``state``. Raises `ConfigError` for a state of other handlers."""
        here = self._words()
        theirs = [(one.name, len(one.words)) for one in state.handlers]
        if theirs != [(name, len(words)) for name, words in here]:
            raise ConfigError(
                f"this state has the compiled handlers {', '.join(name for name, _ in theirs) or 'none'}, and this "
                f"machine {', '.join(name for name, _ in here) or 'none'}; register the same ones."
            )
        for one, (_, words) in zip(state.handlers, here, strict=True):
            for n, word in enumerate(one.words):
                words[n] = word


__all__ = ["HandlersPart", "HandlersState"]
