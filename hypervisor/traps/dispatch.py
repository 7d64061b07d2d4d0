"""The dispatch table: for each kind of exit, who decides it and who observes it.

It is made of the registered handlers before a run, one row of tuples for each kind; an exit then costs an index and a
comparison for each handler of its kind.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Set
from operator import attrgetter
from types import FrameType
from typing import TYPE_CHECKING, Any

from hypervisor.arch.exits import ExitKind
from hypervisor.errors import TrapError
from hypervisor.traps import keys
from hypervisor.traps.handlers import Handler
from hypervisor.traps.verdicts import HANDLED, PASS, Verdict
from hypervisor.vcpu.exit import INPUT_BITS, OUTPUTS, STORED, Exit, refuse_foreign_results
from hypervisor.vcpu.widths import fitting

if TYPE_CHECKING:
    from hypervisor.vcpu.processor import Processor

Sealed = tuple[tuple[Callable[[Exit], bool] | None, Handler], ...]
"""Handlers that decide, each with a matcher made for its key, None for one that is asked about every exit."""

_WRITTEN: dict[ExitKind, Callable[[Exit], tuple[Any, ...]]] = {
    kind: attrgetter(*outputs, "kind") for kind, outputs in OUTPUTS.items()
}
"""The values of an exit's result fields (and one more, so that they are a tuple): None is among them where one is
missing.
"""

_INPUT_NAMES = {kind: f"exit.value of {kind.name.lower()}" for kind in INPUT_BITS}


class Table:
    """The sealed handlers of one kind of exit."""

    __slots__ = (
        "after", "before", "builtin", "decide", "input_bits", "outputs", "private", "stored", "written",
    )  # fmt: skip

    def __init__(self, kind: ExitKind, handlers: list[Handler]) -> None:
        by_rank: dict[str, list[Handler]] = {"user": [], "builtin": [], "private": []}
        for handler in handlers:
            if handler.enabled:
                by_rank[handler.rank].append(handler)
        self.before: tuple[Handler, ...] = ()
        self.after: tuple[Handler, ...] = ()
        self.decide: Sealed = ()
        if user := by_rank["user"]:  # there are none for most kinds
            self.before = tuple(h for h in user if h.mode == "observe" and h.when == "before")
            self.after = tuple(h for h in user if h.mode == "observe" and h.when == "after")
            self.decide = _seal(sorted((h for h in user if h.mode == "decide"), key=Handler.breadth))
        self.builtin = _seal(by_rank["builtin"])
        self.private = _seal(by_rank["private"])
        self.outputs = OUTPUTS.get(kind, ()) if self.builtin else ()
        self.written = _WRITTEN[kind] if self.outputs else None
        self.stored = kind in STORED and bool(self.builtin)
        self.input_bits = INPUT_BITS.get(kind, 0) if self.decide else 0
        """Width of the value that handlers may have changed before the built-in one takes it; 0 for none."""

    @property
    def heard(self) -> bool:
        """Whether anyone besides the built-in handlers listens."""
        return bool(self.before or self.after or self.decide or self.private)

    @property
    def listeners(self) -> tuple[Handler, ...]:
        """Those for whom `heard` holds."""
        return (*self.before, *self.after, *(handler for _, handler in (*self.private, *self.decide)))


def _seal(handlers: list[Handler]) -> Sealed:
    return tuple([(_matcher(handler) if handler.key or handler.watches else None, handler) for handler in handlers])


def _matcher(handler: Handler) -> Callable[[Exit], bool]:
    """A function that says whether an exit is for this handler, which is not for every one of its kind."""
    if handler.watches or len(handler.key) > 1:
        return handler.matches
    return keys.matcher(*handler.key[0])


class Dispatch:
    """The sealed handlers of one VM."""

    def __init__(
        self, handlers: Iterable[Handler] = (), before: Dispatch | None = None, changed: Set[ExitKind] = frozenset()
    ) -> None:
        """``before`` are the tables of the same handlers but for those of ``changed`` kinds, if there are any."""
        by_kind: dict[ExitKind, list[Handler]] = {}
        for handler in handlers:
            for kind in handler.kinds:
                if before is None or kind in changed:
                    by_kind.setdefault(kind, []).append(handler)
        same = {} if before is None else {kind: one for kind, one in before.tables.items() if kind not in changed}
        self.tables: dict[ExitKind, Table] = same | {kind: Table(kind, those) for kind, those in by_kind.items()}
        self._by_number: list[Table | None] = [None] * 128
        for kind, table in self.tables.items():
            self._by_number[kind] = table
        self.shown = frozenset(kind for kind, table in self.tables.items() if table.after)
        """Kinds of exit whose final values somebody observes; `decided` does nothing for others."""

    def hears(self, kind: int) -> bool:
        """Whether anybody is asked about this kind of exit; `decide` passes where nobody is."""
        return self._by_number[kind] is not None

    def decide(self, vcpu: Processor, exit: Exit) -> Verdict:
        """Ask the handlers of an exit: observers first, then the deciding ones until one does not pass, then the
        built-in ones.
        """
        table = self._by_number[exit.kind]
        if table is None:
            return PASS
        if table.private and (verdict := _ask(table.private, vcpu, exit)) is not PASS:
            return verdict
        for handler in table.before:
            if handler.matches(exit):
                _observe(handler, vcpu, exit)
        verdict = _ask(table.decide, vcpu, exit)
        if verdict is HANDLED:
            if table.written is not None and None in table.written(exit):
                return _fill_in(table, vcpu, exit)
            if not table.stored:
                return HANDLED
        elif verdict is not PASS:
            return verdict
        if table.input_bits:
            exit.value = fitting(_INPUT_NAMES[exit.kind], exit.value, table.input_bits)
        return _ask(table.builtin, vcpu, exit)

    def decided(self, vcpu: Processor, exit: Exit) -> None:
        """Show observers the final values of an exit."""
        table = self._by_number[exit.kind]
        if table is not None:
            for handler in table.after:
                if handler.matches(exit):
                    _observe(handler, vcpu, exit)


def _observe(handler: Handler, vcpu: Processor, exit: Exit) -> None:
    saved, lock = exit.save(), vcpu.locked
    vcpu.locked = lock or f"{handler.describe()} observes"
    try:
        answer = handler.function(vcpu, exit)
    finally:
        vcpu.locked = lock
        exit.restore(saved)
    if answer is not None:
        raise TrapError(
            f"{handler.describe()} observes and returned {answer!r}: an observer returns nothing. "
            "Register it with mode='decide' if it should answer."
        )


def asking() -> Handler | None:
    """The handler that this thread is calling, if it is."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code in _ASKING:
            found: Handler = frame.f_locals["handler"]
            return found
        frame = frame.f_back
    return None


def _fill_in(table: Table, vcpu: Processor, exit: Exit) -> Verdict:
    """A handler said HANDLED: result fields that it left unwritten get the built-in answer, which may be an
    exception.
    """
    refuse_foreign_results(exit)
    written = [getattr(exit, field) for field in table.outputs]
    verdict = _ask(table.builtin, vcpu, exit)
    for field, value in zip(table.outputs, written, strict=True):
        if value is not None:
            setattr(exit, field, value)
    return HANDLED if verdict is PASS else verdict


def _ask(handlers: Sealed, vcpu: Processor, exit: Exit) -> Verdict:
    """The first answer that is not `PASS`."""
    for matches, handler in handlers:
        if matches is None or matches(exit):
            verdict = handler.function(vcpu, exit)
            if verdict is PASS:
                continue
            if verdict is not HANDLED and not isinstance(verdict, Verdict):
                raise TrapError(
                    f"{handler.describe()} returned {verdict!r} instead of a verdict. End it with one of: return "
                    "hv.HANDLED, return hv.PASS, return hv.RETRY, return hv.inject(vector), return hv.stop('why')."
                )
            return verdict
    return PASS


_ASKING = frozenset((_ask.__code__, _observe.__code__))
