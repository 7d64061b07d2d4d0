"""A record: a class with slots whose fields say what they may hold (`hypervisor.state.declared`).

::

    @record
    class DiceState:
        face: int = number(1, 6, 1)
        thrown: list[int] = numbers(10, 1, 6)

What is done with records follows from their fields, as functions that are written out once for each class, when it is
first needed: a copy, whether every value is good, and the same as plain data. So no field can be forgotten in one of
them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Generic, NamedTuple, TypeVar, dataclass_transform

from hypervisor.state.kinds import Kind, Part, Parts, shown

T = TypeVar("T")


@dataclass_transform()
def record(cls: type[T]) -> type[T]:
    """Make a class with declared fields a record."""
    return dataclass(slots=True)(cls)


class _Functions(NamedTuple):
    good: Callable[[Any], bool]
    copy: Callable[[Any], Any]
    plain: Callable[[Any], dict[str, Any]]


def kinds(cls: type[Any]) -> dict[str, Kind]:
    """The fields of a record's class. Raises TypeError for another class."""
    if not is_record(cls):
        raise TypeError(f"{cls.__name__} is no record: declare it with @record, and each field with its kind.")
    return {each.name: each.metadata["kind"] for each in fields(cls)}


def is_record(cls: type[Any]) -> bool:
    """Whether a class declares all its fields with their kinds."""
    return is_dataclass(cls) and all("kind" in each.metadata for each in fields(cls))


_MADE: dict[type[Any], _Functions] = {}


def _functions(cls: type[Any]) -> _Functions:
    made = _MADE.get(cls)
    if made is None:
        made = _MADE[cls] = _write(cls)
    return made


def _write(cls: type[Any]) -> _Functions:
    """The functions of one class. Their text is made of the classes' own declarations, and of nothing else."""
    declared = kinds(cls)
    names: dict[str, Any] = {"cls": cls, "new": object.__new__}
    good, copy, plain = ["if type(r) is not cls: return False"], ["n = new(cls)"], ["p = {}"]
    for name, kind in declared.items():
        if isinstance(kind, (Part, Parts)):
            within = _functions(kind.record)
            for what, function in within._asdict().items():
                names[f"{what}_{kind.record.__name__}"] = function
        good += [f"v = r.{name}", f"if not ({kind.good()}): return False"]
        copy += [f"v = r.{name}", f"n.{name} = {kind.copy()}"]
        plain += [f"v = r.{name}", f"p[{name!r}] = {kind.plain()}"]
    for what, lines, result in (("good", good, "True"), ("copy", copy, "n"), ("plain", plain, "p")):
        exec("\n    ".join([f"def {what}(r):", *lines, f"return {result}"]), names)
    return _Functions(names["good"], names["copy"], names["plain"])


def copied(r: T) -> T:
    """A copy that has nothing in common with ``r``."""
    copy: Callable[[T], T] = _functions(type(r)).copy
    return copy(r)


class InRecord(Generic[T]):
    """What lives in one record, ``_s``, and remembers nothing beside it. So whether it is still what a record says is
    known without a copy; of other parts `state` is compared.
    """

    _s: T

    def _up_to_date(self) -> T:
        """The record, with those of its fields that are kept elsewhere meanwhile (a level, when a timer is due)."""
        return self._s

    def state(self) -> T:
        """A copy of all mutable state."""
        return copied(self._up_to_date())

    def is_still(self, state: T) -> bool:
        """Whether `state` would give just this."""
        return self._up_to_date() == state


class _Thread(threading.local):
    trusts = False


_thread = _Thread()


@contextmanager
def trusted() -> Iterator[None]:
    """Records that this thread puts back in the block are a machine's own, taken by this process and changed by nobody
    since: nothing is `wrong` with them, so they are not looked at again.
    """
    before, _thread.trusts = _thread.trusts, True
    try:
        yield
    finally:
        _thread.trusts = before


def wrong(cls: type[Any], r: Any, path: str = "state") -> str | None:
    """What is wrong with ``r``, if it is no record of this class with good values: the end of a sentence, which calls
    the record ``path``. In a block of `trusted` only its class is looked at.
    """
    if _thread.trusts and type(r) is cls:
        return None
    try:
        good = _functions(cls).good(r)
    except AttributeError:  # a slot that nothing was put into
        good = False
    return None if good else _problem(cls, r, path)


def _problem(cls: type[Any], r: Any, path: str) -> str | None:
    if type(r) is not cls:
        return f"{path} is of type {type(r).__name__}, but must be a {cls.__name__}"
    missing = object()
    for name, kind in kinds(cls).items():
        value, at = getattr(r, name, missing), f"{path}.{name}"
        if value is missing:
            return f"{at} is not there"
        if isinstance(kind, (Part, Parts)):
            found = kind.wrong(value, at)
            within = [(value, at)] if isinstance(kind, Part) else [(one, f"{at}[{n}]") for n, one in _each(value)]
            found = found or next((w for one, where in within if (w := _problem(kind.record, one, where))), None)
            if found:
                return found
        elif not eval(f"lambda v: {kind.good()}")(value):  # of our own text
            return kind.wrong(value, at)
    return None


def _each(value: Any) -> Any:
    return enumerate(value) if isinstance(value, list) else ()


def plain(r: Any) -> dict[str, Any]:
    """A record as integers, bytes, texts, lists and maps, by the names of its fields."""
    return _functions(type(r)).plain(r)


def from_plain(cls: type[T], values: Any, path: str = "state") -> T:
    """The record that `plain` was made of. Raises ValueError with the end of a sentence for anything else."""
    made: T = _from_plain(cls, values, path)
    problem = wrong(cls, made, path)
    if problem:
        raise ValueError(problem)
    return made


def _from_plain(cls: type[Any], values: Any, path: str) -> Any:
    if not isinstance(values, dict):
        raise ValueError(f"{path} is {shown(values)}, but must be the fields of a {cls.__name__} by their names")
    declared = kinds(cls)
    for name in values:
        if name not in declared:
            raise ValueError(f"{path} has a field {shown(name)}, which a {cls.__name__} does not have")
    made = object.__new__(cls)
    for name, kind in declared.items():
        if name not in values:
            raise ValueError(f"{path} has no field {name!r}, which a {cls.__name__} must have")
        value, at = values[name], f"{path}.{name}"
        if isinstance(kind, Part):
            value = _from_plain(kind.record, value, at)
        elif isinstance(kind, Parts) and isinstance(value, list):
            value = [_from_plain(kind.record, one, f"{at}[{n}]") for n, one in enumerate(value[: kind.limit + 1])]
        else:
            value = kind.taken(value)
        setattr(made, name, value)
    return made
