"""How a record declares its fields: each function gives the default of a field and says what it may hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from typing import Any

from hypervisor.state.kinds import Data, Flag, Kind, Number, Part, Parts, Real, Several, Text, Words

_NS_LIMIT = 1 << 62


def _fixed(kind: Kind, default: Any) -> Any:
    return field(default=default, metadata={"kind": kind})


def _made(kind: Kind, make: Any) -> Any:
    return field(default_factory=make, metadata={"kind": kind})


def number(low: int, high: int, default: int = 0) -> Any:
    """An int from ``low`` to ``high``, both included."""
    return _fixed(Number(low, high), default)


def u8(default: int = 0) -> Any:
    """One byte, as an int."""
    return number(0, 0xFF, default)


def time_ns(default: int = 0) -> Any:
    """A time of the VM's clock in nanoseconds."""
    return number(-_NS_LIMIT, _NS_LIMIT, default)


def deadline() -> Any:
    """When a timer is due, in nanoseconds; -1 (`hypervisor.bus.Timer.due`) while it is not set."""
    return number(-1, _NS_LIMIT, -1)


def ticks(default: int = 0) -> Any:
    """A number of periods of about a microsecond, whose time in nanoseconds still fits 63 bits."""
    return number(-(1 << 52), 1 << 52, default)


def flag(default: bool = False) -> Any:
    """True or False."""
    return _fixed(Flag(), default)


def data(limit: int, default: bytes = b"", *, exact: bool = False) -> Any:
    """A bytearray of at most (with ``exact``, of just) ``limit`` bytes; of zeros where no default is given."""
    default = default or bytes(limit if exact else 0)
    return _made(Data(limit, exact), lambda: bytearray(default))


def blob(limit: int, default: bytes = b"") -> Any:
    """Bytes, at most ``limit``, that copies share."""
    return _fixed(Data(limit, constant=True), default)


def text(limit: int, default: str = "") -> Any:
    """A string of at most ``limit`` characters."""
    return _fixed(Text(limit), default)


def numbers(limit: int, low: int, high: int, default: Sequence[int] = (), *, exact: bool = False) -> Any:
    """A list of at most (with ``exact``, of just) ``limit`` integers, each from ``low`` to ``high``."""
    default = default or (0,) * (limit if exact else 0)
    return _made(Several(Number(low, high), limit, exact), lambda: list(default))


def names(limit: int, length: int) -> Any:
    """A list of at most ``limit`` strings of at most ``length`` characters."""
    return _made(Several(Text(length), limit), list)


def words(limit: int, low: int = 0, high: int = (1 << 64) - 1) -> Any:
    """A dict of at most ``limit`` integers by their names, each from ``low`` to ``high``."""
    return _made(Words(limit, low, high), dict)


def real(default: float = 0.0) -> Any:
    """A floating-point number."""
    return _fixed(Real(), default)


def part(kind: type[Any]) -> Any:
    """Another record."""
    return _made(Part(kind), kind)


def parts(kind: type[Any], count: int, make: Any = None) -> Any:
    """A list of ``count`` records of one kind, which ``make()`` makes; by default each is as its class makes it."""
    return _made(Parts(kind, count), make or (lambda: [kind() for _ in range(count)]))


def several(kind: type[Any], limit: int) -> Any:
    """A list of at most ``limit`` records of one kind."""
    return _made(Parts(kind, limit, exact=False), list)
