"""One registered trap handler, and the sealed handlers of one kind of exit."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from math import prod
from typing import TYPE_CHECKING, Any

from hypervisor.arch.exits import ExitKind
from hypervisor.errors import TrapError
from hypervisor.traps import keys
from hypervisor.traps.callables import only_begins
from hypervisor.traps.compiled import Compiled
from hypervisor.traps.keys import Spans
from hypervisor.traps.verdicts import Verdict
from hypervisor.vcpu.exit import Exit

if TYPE_CHECKING:
    from hypervisor.vcpu.processor import Processor

HandlerFunction = Callable[[Any, Exit], Verdict | None] | Compiled
"""A handler: a function of the vCPU (`hypervisor.Vcpu`) and the exit, or one that is compiled."""


@dataclass(frozen=True, slots=True)
class Watch:
    """What a memory trap looks at: a range of addresses, letters of accesses, and the space of the addresses."""

    where: range
    access: str
    space: str

    def sees(self, exit: Exit) -> bool:
        """Whether an access touches the range."""
        start = exit.gpa if self.space == "physical" else exit.gva
        return (
            exit.access in self.access
            and start is not None
            and start < self.where.stop
            and self.where.start < start + exit.size
        )


@dataclass(slots=True)
class Handler:
    """A registered handler, for one kind of exit or for both directions of an access. ``key`` narrows it: each pair is
    an exit's field and the values it may have.

    ``rank`` is "user", "builtin" (asked last, what the processor does) or "private" (asked first: a firmware's own
    calls, which nobody else sees). ``once`` says that it is removed when it is called.
    """

    name: str
    kinds: tuple[ExitKind, ...]
    function: HandlerFunction
    key: tuple[tuple[str, Spans], ...]
    mode: str = "decide"
    when: str = "before"
    rank: str = "user"
    once: bool = False
    plugin: str | None = None
    watches: tuple[Watch, ...] = ()
    enabled: bool = True
    condition: Callable[[Processor], bool] | None = None
    """Of one that is called once: whether it is for this vCPU."""

    @property
    def compiled(self) -> Compiled | None:
        """The function, if it runs inside the engine."""
        return self.function if isinstance(self.function, Compiled) else None

    def matches(self, exit: Exit) -> bool:
        """Whether this handler is for the exit."""
        if self.watches:
            address = exit.gpa if self.watches[0].space == "physical" else exit.gva
            if address is None:
                return False
            exit.address = address
            return any(watch.sees(exit) for watch in self.watches)
        return all(any(getattr(exit, field) in span for span in values) for field, values in self.key)

    def apart(self) -> Iterator[Handler]:
        """The same for one kind and one range of each field at a time, as the engine has handlers."""
        fields, values = [field for field, _ in self.key], [spans for _, spans in self.key]
        for kind in self.kinds:
            for chosen in product(*values):
                yield replace(
                    self, kinds=(kind,), key=tuple((f, (one,)) for f, one in zip(fields, chosen, strict=True))
                )

    @property
    def only(self) -> dict[str, range]:
        """The key of a part (`apart`)."""
        return {field: spans[0] for field, spans in self.key}

    @property
    def named(self) -> str:
        """Its name and its plugin's, as a sentence needs them."""
        if self.plugin is None:
            return f"handler {self.name!r}"
        return f"handler {self.name.removeprefix(f'{self.plugin}.')!r} of plugin {self.plugin!r}"

    def describe(self) -> str:
        """The handler as a sentence needs it."""
        return f"{self.named} for {' and '.join(kind.name.lower() for kind in self.kinds)}"

    def describe_key(self) -> str:
        """The key as a sentence needs it."""
        return ", ".join(f"{field} {keys.describe(values)}" for field, values in self.key) or "any"

    def breadth(self) -> tuple[int, int]:
        """How much the key lets through; a smaller one is narrower."""
        return -len(self.key), prod(keys.breadth(values) for _, values in self.key)

    def clashes(self, other: Handler) -> bool:
        """Whether both would decide the same exit and neither is narrower than the other."""
        if {self.mode, other.mode} != {"decide"} or {self.rank, other.rank} != {"user"}:
            return False
        if not set(self.kinds) & set(other.kinds) or not (self.enabled and other.enabled):
            return False
        if self.watches or self.once or other.once:
            return False  # memory traps may overlap, and so may those that are soon gone: each is asked
        if (self.compiled is None) is not (other.compiled is None):
            return False  # compiled ones are asked first
        mine, others = dict(self.key), dict(other.key)
        if not all(keys.meet(mine[field], others[field]) for field in mine.keys() & others.keys()):
            return False
        return mine == others or not (_within(mine, others) or _within(others, mine))


def check_function(handler: Handler, function: HandlerFunction) -> None:
    """Raise `TrapError` unless ``function`` can be that of ``handler``."""
    if not isinstance(function, Compiled):
        check_signature(function, handler.describe())
        return
    if (handler.mode, handler.when) != ("decide", "before"):
        raise TrapError(f"{handler.describe()} is compiled, and decides: leave mode= and when= out.")
    if handler.once:
        raise TrapError(f"{handler.describe()} is compiled, and stays in the engine: leave once= out.")
    for part in handler.apart():
        function.check(part.kinds[0], part.only, part.describe())


def check_signature(function: HandlerFunction, where: str) -> None:
    """Raise `TrapError` unless ``function`` can be called with (vcpu, exit)."""
    if not callable(function):
        raise TrapError(f"{where}: {function!r} is not a function.")
    if made := only_begins(function):
        raise TrapError(f"{where}: calling it only makes {made}.")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return
    try:
        signature.bind(None, None)
    except TypeError:
        raise TrapError(f"{where}: a handler takes (vcpu, exit), this one takes {signature}.") from None


def check_options(handler: Handler) -> None:
    """Raise `TrapError` for a ``mode`` or ``when`` that does not exist or does not go together."""
    mode, when = handler.mode, handler.when
    if mode not in ("decide", "observe"):
        raise TrapError(f"{handler.describe()}: mode={mode!r} is unknown; choose 'decide' or 'observe'.")
    if when not in ("before", "after"):
        raise TrapError(f"{handler.describe()}: when={when!r} is unknown; choose 'before' or 'after'.")
    if mode == "decide" and when == "after":
        raise TrapError(
            f"{handler.describe()}: when='after' is for mode='observe'; a deciding handler always comes before."
        )


def _within(inner: dict[str, Spans], outer: dict[str, Spans]) -> bool:
    return all(field in inner and keys.within(inner[field], values) for field, values in outer.items())


__all__ = ["Handler", "HandlerFunction", "Watch", "check_function", "check_options", "check_signature"]
