"""What narrows a trap: numbers, half-open ranges of them, and lists of both."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable
from operator import attrgetter

from hypervisor.errors import TrapError

Keys = int | range | Iterable[int | range]
"""What a user may give as a key."""

Spans = tuple[range, ...]
"""A key as it is kept: ranges in order, none of which touches another."""

FEW = 4096
"""Values of a key up to which they are looked up one by one."""


def spans(trap: str, field: str, keys: Keys | None, bits: int) -> Spans | None:
    """The key of a trap as ranges of numbers of ``bits`` bits, or None for any. Raises `TrapError`."""
    if keys is None:
        return None
    given = [keys] if isinstance(keys, (int, range, str)) or not isinstance(keys, Iterable) else list(keys)
    if not given:
        raise TrapError(f"{trap}({field}={keys!r}): the list is empty; leave {field} out to mean any.")
    return merged(_span(trap, field, one, bits) for one in given)


def _span(trap: str, field: str, key: object, bits: int) -> range:
    if isinstance(key, int) and not isinstance(key, bool):
        key = range(key, key + 1)
    if not isinstance(key, range) or key.step != 1 or len(key) == 0:
        raise TrapError(
            f"{trap}({key!r}): a number or a non-empty range of {field} values with step 1 is needed, or a list."
        )
    if key.start < 0 or key.stop > 1 << bits:
        raise TrapError(f"{trap}: {field} {key.start:#x}-{key.stop - 1:#x} is outside 0x0-{(1 << bits) - 1:#x}.")
    return key


def some_of(trap: str, keys: Keys | None, allowed: tuple[int, ...]) -> Spans | None:
    """The key that is one of a few numbers, or several of them; None for any. Raises `TrapError`."""
    if keys is None:
        return None
    given = list(keys) if isinstance(keys, Iterable) else [keys]
    numbers = [n for one in given for n in (one if isinstance(one, range) else (one,))]
    if not numbers or any(isinstance(n, bool) or n not in allowed for n in numbers):
        raise TrapError(f"{trap}({keys!r}): choose one of {', '.join(map(str, allowed))}, or a list of them.")
    return merged(range(n, n + 1) for n in numbers)


def merged(ranges: Iterable[range]) -> Spans:
    """Ranges in order, those that overlap or touch as one."""
    found: list[range] = []
    for one in sorted(ranges, key=lambda r: r.start):
        if found and one.start <= found[-1].stop:
            found[-1] = range(found[-1].start, max(found[-1].stop, one.stop))
        else:
            found.append(one)
    return tuple(found)


def breadth(key: Spans) -> int:
    """How many values it lets through."""
    return sum(one.stop - one.start for one in key)


def meet(first: Spans, second: Spans) -> bool:
    """Whether a value is in both."""
    return any(one.start < other.stop and other.start < one.stop for one in first for other in second)


def within(inner: Spans, outer: Spans) -> bool:
    """Whether every value of the one is in the other."""
    return all(any(o.start <= i.start and i.stop <= o.stop for o in outer) for i in inner)


def matcher(field: str, key: Spans) -> Callable[[object], bool]:
    """A function that says whether a field of an exit is in it: the usual keys cost one comparison."""
    get = attrgetter(field)
    if len(key) == 1:
        start, stop = key[0].start, key[0].stop
        return (lambda exit: get(exit) == start) if stop == start + 1 else lambda exit: start <= get(exit) < stop
    if breadth(key) <= FEW:
        values = frozenset(value for one in key for value in one)
        return lambda exit: get(exit) in values
    starts, stops = [one.start for one in key], [one.stop for one in key]

    def holds(exit: object) -> bool:
        at = bisect_right(starts, get(exit)) - 1
        return at >= 0 and get(exit) < stops[at]

    return holds


def describe(key: Spans) -> str:
    """``0x60``, ``0x60-0x64`` or several of these, as a sentence needs them."""
    return ", ".join(f"{one.start:#x}" if len(one) == 1 else f"{one.start:#x}-{one.stop - 1:#x}" for one in key)


__all__ = ["Keys", "Spans", "breadth", "describe", "matcher", "meet", "merged", "some_of", "spans", "within"]
