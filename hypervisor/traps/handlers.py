"""One registered trap handler, and the sealed handlers of one kind of exit."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypervisor.arch.exits import ExitKind
from hypervisor.errors import TrapError
from hypervisor.traps.callables import only_begins
from hypervisor.traps.compiled import Compiled
from hypervisor.vcpu.exit import Exit

HandlerFunction = Callable[..., Any]


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
    """A registered handler. ``key`` narrows it: each pair is an exit's field and the half-open range of values it may
    have.

    ``rank`` is "user", "builtin" (asked last, what the processor does) or "private" (asked first: a firmware's own
    calls, which nobody else sees).
    """

    name: str
    kind: ExitKind
    function: HandlerFunction
    key: tuple[tuple[str, range], ...]
    mode: str = "decide"
    when: str = "before"
    rank: str = "user"
    plugin: str | None = None
    watch: Watch | None = None
    enabled: bool = True

    @property
    def compiled(self) -> Compiled | None:
        """The function, if it runs inside the engine."""
        return self.function if isinstance(self.function, Compiled) else None

    def matches(self, exit: Exit) -> bool:
        """Whether this handler is for the exit."""
        if self.watch is not None:
            exit.address = exit.gpa if self.watch.space == "physical" else exit.gva
            return self.watch.sees(exit)
        return all(getattr(exit, field) in values for field, values in self.key)

    @property
    def named(self) -> str:
        """Its name and its plugin's, as a sentence needs them."""
        if self.plugin is None:
            return f"handler {self.name!r}"
        return f"handler {self.name.removeprefix(f'{self.plugin}.')!r} of plugin {self.plugin!r}"

    def describe(self) -> str:
        """The handler as a sentence needs it."""
        return f"{self.named} for {self.kind.name.lower()}"

    def describe_key(self) -> str:
        """The key as a sentence needs it."""
        if not self.key:
            return "any"
        parts = []
        for field, values in self.key:
            first, last = values.start, values.stop - 1
            parts.append(f"{field} {first:#x}" if first == last else f"{field} {first:#x}-{last:#x}")
        return ", ".join(parts)

    def breadth(self) -> tuple[int, int]:
        """How much the key lets through; a smaller one is narrower."""
        total = 1
        for _, values in self.key:
            total *= values.stop - values.start
        return -len(self.key), total

    def clashes(self, other: Handler) -> bool:
        """Whether both would decide the same exit and neither is narrower than the other."""
        if self.kind is not other.kind or {self.mode, other.mode} != {"decide"} or {self.rank, other.rank} != {"user"}:
            return False
        if not (self.enabled and other.enabled) or self.watch is not None:
            return False  # memory traps may overlap: each is asked
        if (self.compiled is None) is not (other.compiled is None):
            return False  # compiled ones are asked first
        mine, others = dict(self.key), dict(other.key)
        for field in mine.keys() & others.keys():
            if mine[field].start >= others[field].stop or others[field].start >= mine[field].stop:
                return False
        return mine == others or not (_within(mine, others) or _within(others, mine))


def check_function(handler: Handler, function: HandlerFunction) -> None:
    """Raise `TrapError` unless ``function`` can be that of ``handler``."""
    if not isinstance(function, Compiled):
        check_signature(function, handler.describe())
        return
    if (handler.mode, handler.when) != ("decide", "before"):
        raise TrapError(f"{handler.describe()} is compiled, and decides: leave mode= and when= out.")
    function.check(handler.kind, dict(handler.key), handler.describe())


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


def number(kind: ExitKind, field: str, value: Any, bits: int) -> range | None:
    """The key that is one number of ``bits`` bits, or any if None."""
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << bits:
        raise TrapError(f"{kind.name.lower()}({field}={value!r}): a number of {bits} bits is needed.")
    return range(value, value + 1)


def one_of(kind: ExitKind, value: Any, allowed: tuple[int, ...]) -> range | None:
    """The key that is one of a few numbers, or any if None."""
    if value is None:
        return None
    if isinstance(value, bool) or value not in allowed:
        raise TrapError(f"{kind.name.lower()}({value!r}): choose one of {', '.join(map(str, allowed))}.")
    return range(value, value + 1)


def number_or_range(kind: ExitKind, field: str, key: Any, bits: int) -> range | None:
    """The key that is a number or a half-open range of numbers of ``bits`` bits, or any if None."""
    if key is None:
        return None
    if isinstance(key, int) and not isinstance(key, bool):
        key = range(key, key + 1)
    if not isinstance(key, range) or key.step != 1 or len(key) == 0:
        raise TrapError(
            f"{kind.name.lower()}({key!r}): a number or a non-empty range of {field} values with step 1 is needed."
        )
    if key.start < 0 or key.stop > 1 << bits:
        raise TrapError(
            f"{kind.name.lower()}: {field} {key.start:#x}-{key.stop - 1:#x} is outside 0x0-{(1 << bits) - 1:#x}."
        )
    return key


def _within(inner: dict[str, range], outer: dict[str, range]) -> bool:
    return all(f in inner and inner[f].start >= r.start and inner[f].stop <= r.stop for f, r in outer.items())


__all__ = [
    "Handler",
    "HandlerFunction",
    "Watch",
    "check_function",
    "check_options",
    "check_signature",
    "number",
    "number_or_range",
    "one_of",
]
