"""The kinds of fields that a record may have.

A kind knows three things of a value: as source text, whether it is good and how it is copied, from which
`hypervisor.state.record` makes one function for each record; and, for a value that is not good, what is wrong with it,
as the end of a sentence.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


class Kind(ABC):
    """What a field may hold. In templates ``v`` is the value."""

    @abstractmethod
    def good(self) -> str:
        """An expression: whether ``v`` is a value of this kind."""

    @abstractmethod
    def wrong(self, value: Any, path: str) -> str | None:
        """What is wrong with a value that is not ``good``, None if that is in a record within."""

    def copy(self) -> str:
        """An expression: a copy of ``v``."""
        return "v"

    def plain(self) -> str:
        """An expression: ``v`` as integers, bytes, text, lists and maps."""
        return "v"

    def taken(self, value: Any) -> Any:
        """The value that `plain` was made of; nonsense stays what it is, and is not ``good``."""
        return value


@dataclass(frozen=True)
class Number(Kind):
    """An integer from ``low`` to ``high``, both included."""

    low: int
    high: int

    def good(self) -> str:
        """See `Kind.good`."""
        return f"type(v) is int and {self.low} <= v <= {self.high}"

    def wrong(self, value: Any, path: str) -> str:
        """See `Kind.wrong`."""
        return f"{path} is {shown(value)}, but must be an integer from {self.low} to {self.high}"


@dataclass(frozen=True)
class Flag(Kind):
    """True or False."""

    def good(self) -> str:
        """See `Kind.good`."""
        return "type(v) is bool"

    def wrong(self, value: Any, path: str) -> str:
        """See `Kind.wrong`."""
        return f"{path} is {shown(value)}, but must be True or False"


@dataclass(frozen=True)
class Data(Kind):
    """A bytearray of at most ``limit`` bytes, or of just so many; bytes if nobody changes them in place."""

    limit: int
    exact: bool = False
    constant: bool = False

    @property
    def _type(self) -> type[Any]:
        return bytes if self.constant else bytearray

    def good(self) -> str:
        """See `Kind.good`."""
        return f"type(v) is {self._type.__name__} and len(v) {'==' if self.exact else '<='} {self.limit}"

    def wrong(self, value: Any, path: str) -> str:
        """See `Kind.wrong`."""
        if type(value) is not self._type:
            return f"{path} is of type {type(value).__name__}, but must be {_a(self._type)}"
        return f"{path} has {len(value)} bytes, but must have {'' if self.exact else 'at most '}{self.limit}"

    def copy(self) -> str:
        """See `Kind.copy`."""
        return "v" if self.constant else "v[:]"

    def plain(self) -> str:
        """See `Kind.plain`."""
        return "v" if self.constant else "bytes(v)"

    def taken(self, value: Any) -> Any:
        """See `Kind.taken`."""
        return bytearray(value) if type(value) is bytes and not self.constant else value


@dataclass(frozen=True)
class Text(Kind):
    """A string of at most ``limit`` characters, which UTF-8 has: no lone surrogates."""

    limit: int

    def good(self) -> str:
        """See `Kind.good`."""
        return f"type(v) is str and len(v) <= {self.limit} and {_in_utf8('v')}"

    def wrong(self, value: Any, path: str) -> str:
        """See `Kind.wrong`."""
        return f"{path} is {shown(value)}, but must be a text of at most {self.limit} characters of UTF-8"


@dataclass(frozen=True)
class Several(Kind):
    """A list of at most ``limit`` values of a simple kind, or of just so many."""

    each: Number | Text
    limit: int
    exact: bool = False

    def good(self) -> str:
        """See `Kind.good`."""
        count = f"len(v) {'==' if self.exact else '<='} {self.limit}"
        return f"type(v) is list and {count} and all([{self.each.good()} for v in v])"

    def wrong(self, value: Any, path: str) -> str:
        """See `Kind.wrong`."""
        what = "integers" if isinstance(self.each, Number) else "texts"
        if type(value) is not list:
            return f"{path} is of type {type(value).__name__}, but must be a list of {what}"
        if len(value) > self.limit or (self.exact and len(value) != self.limit):
            return f"{path} has {len(value)} {what}, but must have {'' if self.exact else 'at most '}{self.limit}"
        good = eval(f"lambda v: {self.each.good()}")  # of our own text
        return next(self.each.wrong(one, f"{path}[{n}]") for n, one in enumerate(value) if not good(one))

    def copy(self) -> str:
        """See `Kind.copy`."""
        return "v[:]"


@dataclass(frozen=True)
class Words(Kind):
    """A dict of at most ``limit`` integers from ``low`` to ``high``, by their names."""

    limit: int
    low: int
    high: int

    def good(self) -> str:
        """See `Kind.good`."""
        item = f"type(k) is str and {_in_utf8('k')} and type(n) is int and {self.low} <= n <= {self.high}"
        return f"type(v) is dict and len(v) <= {self.limit} and all([{item} for k, n in v.items()])"

    def wrong(self, value: Any, path: str) -> str:
        """See `Kind.wrong`."""
        limits = f"integers from {self.low} to {self.high}"
        return f"{path} is {shown(value)}, but must have at most {self.limit} {limits} by their names"

    def copy(self) -> str:
        """See `Kind.copy`."""
        return "v.copy()"


@dataclass(frozen=True)
class Real(Kind):
    """A floating-point number."""

    def good(self) -> str:
        """See `Kind.good`."""
        return "type(v) is float"

    def wrong(self, value: Any, path: str) -> str:
        """See `Kind.wrong`."""
        return f"{path} is {shown(value)}, but must be a floating-point number"


@dataclass(frozen=True)
class Part(Kind):
    """Another record."""

    record: type[Any]

    def good(self) -> str:
        """See `Kind.good`."""
        return f"good_{self.record.__name__}(v)"

    def wrong(self, value: Any, path: str) -> str | None:
        """See `Kind.wrong`."""
        if type(value) is not self.record:
            return f"{path} is of type {type(value).__name__}, but must be a {self.record.__name__}"
        return None

    def copy(self) -> str:
        """See `Kind.copy`."""
        return f"copy_{self.record.__name__}(v)"

    def plain(self) -> str:
        """See `Kind.plain`."""
        return f"plain_{self.record.__name__}(v)"


@dataclass(frozen=True)
class Parts(Kind):
    """A list of ``limit`` records of one kind, or of at most so many."""

    record: type[Any]
    limit: int
    exact: bool = True

    def good(self) -> str:
        """See `Kind.good`."""
        count = f"len(v) {'==' if self.exact else '<='} {self.limit}"
        return f"type(v) is list and {count} and all([good_{self.record.__name__}(one) for one in v])"

    def wrong(self, value: Any, path: str) -> str | None:
        """See `Kind.wrong`."""
        if type(value) is not list or len(value) > self.limit or (self.exact and len(value) != self.limit):
            count = f"{'' if self.exact else 'at most '}{self.limit}"
            return f"{path} must be a list of {count} {self.record.__name__}"
        for n, one in enumerate(value):
            if type(one) is not self.record:
                return f"{path}[{n}] is of type {type(one).__name__}, but must be a {self.record.__name__}"
        return None

    def copy(self) -> str:
        """See `Kind.copy`."""
        return f"[copy_{self.record.__name__}(one) for one in v]"

    def plain(self) -> str:
        """See `Kind.plain`."""
        return f"[plain_{self.record.__name__}(one) for one in v]"


def _in_utf8(name: str) -> str:
    """An expression: whether UTF-8 has this string."""
    return rf"({name}.isascii() or not [c for c in {name} if '\ud800' <= c <= '\udfff'])"


def shown(value: Any) -> str:
    """A value as a sentence quotes it: one that came from outside may be large."""
    if isinstance(value, (int, str, bytes, bytearray)) and not isinstance(value, bool):
        size = value.bit_length() // 8 if isinstance(value, int) else len(value)
        if size > 100:
            return f"{_a(type(value))} of {size} bytes"
    if isinstance(value, (list, tuple, Mapping)):
        return f"{_a(type(value))} of {len(value)}"
    return repr(value)[:200]


def _a(kind: type[Any]) -> str:
    return f"{'an' if kind.__name__[0] in 'aeiou' else 'a'} {kind.__name__}"
