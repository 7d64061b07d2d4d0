"""The states of devices: dataclasses whose fields carry their own limits, so that `adopt` can check what comes back.

A state may come from a file or from another machine; nothing in it is trusted.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from hypervisor.errors import DeviceError

T = TypeVar("T")
Check = Callable[[Any, str], "str | None"]
"""Takes a value and its path; returns what is wrong as a sentence's end, or None."""

_NS_LIMIT = 1 << 62


def number(low: int, high: int, default: int = 0) -> Any:
    """A field: an int from ``low`` to ``high``, both included."""

    def check(value: Any, path: str) -> str | None:
        good = type(value) is int and low <= value <= high
        return None if good else f"{path} is {value!r}, but must be an integer from {low} to {high}"

    return field(default=default, metadata={"check": check})


def u8(default: int = 0) -> Any:
    """A field: one byte."""
    return number(0, 0xFF, default)


def time_ns(default: int = 0) -> Any:
    """A field: a time of the VM's clock in nanoseconds."""
    return number(-_NS_LIMIT, _NS_LIMIT, default)


def ticks(default: int = 0) -> Any:
    """A field: a number of periods of about a microsecond, whose time in nanoseconds still fits 63 bits."""
    return number(-(1 << 52), 1 << 52, default)


def flag(default: bool = False) -> Any:
    """A field: True or False."""

    def check(value: Any, path: str) -> str | None:
        return None if type(value) is bool else f"{path} is {value!r}, but must be True or False"

    return field(default=default, metadata={"check": check})


def data(limit: int, *, exact: bool = False) -> dict[str, Check]:
    """A field's metadata: a bytearray of at most (with ``exact``, of just) ``limit`` bytes."""

    def check(value: Any, path: str) -> str | None:
        if type(value) is not bytearray:
            return f"{path} is of type {type(value).__name__}, but must be a bytearray"
        if len(value) > limit or (exact and len(value) != limit):
            return f"{path} has {len(value)} bytes, but must have {'' if exact else 'at most '}{limit}"
        return None

    return {"check": check}


def numbers(limit: int, low: int, high: int) -> dict[str, Check]:
    """A field's metadata: a list of at most ``limit`` integers, each from ``low`` to ``high``."""

    def check(value: Any, path: str) -> str | None:
        if type(value) is not list or len(value) > limit:
            return f"{path} must be a list of at most {limit} integers"
        for item in value:
            if type(item) is not int or not low <= item <= high:
                return f"{path} holds {item!r}, but its integers must be from {low} to {high}"
        return None

    return {"check": check}


def part(kind: type[Any]) -> dict[str, Check]:
    """A field's metadata: another state dataclass."""
    return {"check": lambda value, path: _wrong(kind, value, path)}


def parts(kind: type[Any], count: int) -> dict[str, Check]:
    """A field's metadata: a list of ``count`` states of the same kind."""

    def check(value: Any, path: str) -> str | None:
        if type(value) is not list or len(value) != count:
            return f"{path} must be a list of {count} {kind.__name__}"
        return next((w for i, item in enumerate(value) if (w := _wrong(kind, item, f"{path}[{i}]"))), None)

    return {"check": check}


def _wrong(kind: type[Any], value: Any, path: str) -> str | None:
    if type(value) is not kind:
        return f"{path} is of type {type(value).__name__}, but must be a {kind.__name__}"
    for one in fields(kind):
        wrong: str | None = one.metadata["check"](getattr(value, one.name, None), f"{path}.{one.name}")
        if wrong:
            return wrong
    return None


@dataclass(slots=True)
class NoState:
    """The state of a device that remembers nothing."""


class Stateless:
    """A device that remembers nothing: its part of the contract that is about memory."""

    name: str

    def reset(self) -> None:
        """Nothing to do."""

    def state(self) -> NoState:
        """An empty state."""
        return NoState()

    def restore(self, state: NoState) -> None:
        """Raises `DeviceError` if ``state`` is not one of such a device."""
        adopt(self.name, NoState, state)


def adopt(name: str, kind: type[T], state: Any) -> T:
    """A copy of ``state`` for device ``name`` to live in; raises `DeviceError` if a type or a range is wrong."""
    wrong = _wrong(kind, state, "state")
    if wrong:
        raise refuse(name, wrong)
    checked: T = state
    return copy.deepcopy(checked)


def refuse(name: str, what: str) -> DeviceError:
    """The error for a state whose fields are each in range but do not fit together."""
    return DeviceError(f"{name}: this state cannot be restored: {what}. Use what state() of the same device returned.")
