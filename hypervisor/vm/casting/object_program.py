"""A graph of objects as a program that makes such a graph: a function with a statement for each object and attribute.

(`pickle`, which does the same thing, takes three times as long as the program, and twice the memory, as it gives each
object a dictionary of its own; and it cannot copy functions with variables.) What is there before, as modules, classes,
constants and what is given as such, is referred to and not copied, and so is what nobody can change.

Only what is ours is copied, and a few kinds of the standard library's: of a user's objects nobody knows what they are,
and some of ours are known by their addresses.
"""

from __future__ import annotations

import _thread
import threading
import types
from collections import Counter, deque
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial
from typing import Any

from hypervisor.arch.apic_page import ApicPage
from hypervisor.bus.timed_register import TimedRegister
from hypervisor.memory.frames import Promise
from hypervisor.memory.layers import Hole, Region

_OURS = "hypervisor."
_NATIVE = (f"{_OURS}engine.", f"{_OURS}memory.")
"""Rooms whose objects are known by their addresses."""
_VALUES = (Region, Hole)
"""But for these."""
_WORDS = (ApicPage, TimedRegister)
"""Words that the engine reads, and that are their contents as long as it is told where they are (`VM.on_cast`)."""
_ATOMS = (int, str, bool, types.NoneType)
"""What is written as it is."""
_REFERRED = (int, str, float, bytes, range, datetime, type, types.ModuleType, types.CodeType)
"""What nobody can change."""
_RLOCK = type(threading.RLock())


class Uncastable(Exception):
    """A machine has something that cannot be copied."""


def program(root: object, core: list[object], before: list[object]) -> tuple[Callable[[list[object]], Any], list[Any]]:
    """A function that makes copies of what ``root`` leads to, given the core of another machine and then all else that
    it refers to, which is the second result.
    """
    graph = _Graph(core, before)
    graph.find(root)
    making = graph.lines()
    names = [f"o{number}" for number in range(len(graph.referred))]
    lines = ["def make(referred):", f" ({', '.join(names)},) = referred", *making, f" return {graph.name(root)}"]
    space: dict[str, Any] = {}
    exec(compile("\n".join(lines), "<a machine's parts>", "exec"), space)
    return space["make"], graph.referred[len(core) :]


class _Graph:
    """The objects that are copied, those that are referred to, and the statements that make the former."""

    def __init__(self, core: list[object], before: list[object]) -> None:
        self.referred = list(core)
        self._numbers = {id(one): f"o{number}" for number, one in enumerate(core)}
        self._before = {id(one) for one in before}
        self._names: dict[int, str] = {}
        self._copied: list[Any] = []

    def name(self, one: object) -> str:
        """An expression for an object or its copy, once that is made."""
        if type(one) in _ATOMS:
            return repr(one)
        return self._names.get(id(one)) or self._numbers[id(one)]

    def _refer(self, one: object) -> str:
        name = self._numbers.get(id(one))
        if name is None:
            name = self._numbers[id(one)] = f"o{len(self.referred)}"
            self.referred.append(one)
        return name

    # --- finding ------------------------------------------------------------------------------------------------------

    def find(self, root: object) -> None:
        """All that is to be copied from here on, so that what is immutable comes behind its parts. Raises
        `Uncastable`.
        """
        going: list[tuple[Any, Iterator[Any]]] = []
        self._meet(root, going)
        while going:
            one, parts = going[-1]
            part = next(parts, going)  # which is no part of anything
            if part is going:
                going.pop()
                self._copied.append(one)
            else:
                self._meet(part, going)

    def _meet(self, one: Any, going: list[tuple[Any, Iterator[Any]]]) -> None:
        if type(one) in _ATOMS or id(one) in self._names or id(one) in self._numbers:
            return
        if type(one) is Promise:  # each machine is promised its own
            self._numbers[id(one)] = "None"
            return
        if self._is_referred(one):
            self._refer(one)
            return
        self._names[id(one)] = f"a{len(self._names)}"
        going.append((one, iter(_parts(one))))

    def _is_referred(self, one: Any) -> bool:
        kind = type(one)
        if id(one) in self._before or isinstance(one, _REFERRED) or kind is object:
            return True
        if kind is types.BuiltinFunctionType:
            return isinstance(one.__self__, types.ModuleType)
        module = str(one.__module__ if kind is types.FunctionType else kind.__module__)
        if kind in _MADE or isinstance(one, _VALUES) or kind in _WORDS:
            if kind is not types.FunctionType or module.startswith(_OURS):
                return False
        elif module.startswith(_OURS) and not module.startswith(_NATIVE):
            return False
        raise Uncastable(f"a {module}.{kind.__qualname__} cannot be copied")

    # --- writing ------------------------------------------------------------------------------------------------------

    def lines(self) -> list[str]:
        """Statements that make all copies: first what can be empty, then what is made of others, then the contents."""
        empty: list[str] = []
        whole: list[str] = []
        contents: list[str] = []
        for one in self._copied:
            name = self._names[id(one)]
            kind = type(one)
            making = _MADE.get(kind)
            if making is not None:
                (whole if kind in _WHOLE else empty).append(f" {name} = {making(self, one)}")
            elif isinstance(one, tuple):
                whole.append(f" {name} = {self._refer(tuple.__new__)}({self._refer(kind)}, {self._row(one)})")
            elif kind in _WORDS:
                empty.append(f" {name} = {self._copier(one)}")
            else:
                base = next(base for base in (dict, list, set, object) if isinstance(one, base))
                empty.append(f" {name} = {self._refer(base.__new__)}({self._refer(kind)})")
            contents += self._contents(one, name)
        return empty + whole + contents

    def _copier(self, one: Any) -> str:
        function, arguments = one.__reduce__()
        self.referred.append(function)  # a bound method: another one each time, so it has no number
        called = f"o{len(self.referred) - 1}"
        return f"{called}({', '.join(self._refer(argument) for argument in arguments)})"

    def _row(self, parts: Any) -> str:
        return f"({''.join(self.name(part) + ', ' for part in parts)})"

    def _contents(self, one: Any, name: str) -> Iterator[str]:
        kind = type(one)
        if isinstance(one, (list, deque)) and one:
            yield f" {name} += {self._row(one)}"
        elif isinstance(one, set) and one:
            yield f" {name} |= {{{', '.join(map(self.name, one))}}}"
        elif isinstance(one, dict) and one and kind not in _MADE:
            items = ", ".join(f"{self.name(key)}: {self.name(value)}" for key, value in one.items())
            yield f" {self._refer(dict.update)}({name}, {{{items}}})"
        elif kind in (dict, Counter) and one:
            yield from (f" {name}[{self.name(key)}] = {self.name(value)}" for key, value in one.items())
        elif kind is types.CellType:
            yield f" {name}.cell_contents = {self.name(one.cell_contents)}"
        if kind in _MADE or kind in _WORDS:
            return
        plain = getattr(kind, "__setattr__", None) is object.__setattr__
        for attribute, value in _attributes(one):
            if plain and attribute.isidentifier():
                yield f" {name}.{attribute} = {self.name(value)}"
            else:  # a frozen record, which is not settled yet
                yield f" {self._refer(object.__setattr__)}({name}, {attribute!r}, {self.name(value)})"


def _attributes(one: Any) -> Iterator[tuple[str, Any]]:
    """Of an object, in its dictionary and in slots."""
    yield from getattr(one, "__dict__", {}).items()
    for kind in type(one).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for slot in (slots,) if isinstance(slots, str) else slots:
            if slot not in ("__dict__", "__weakref__") and hasattr(one, slot):
                yield slot, getattr(one, slot)


def _parts(one: Any) -> Iterator[Any]:
    """What an object refers to."""
    kind = type(one)
    if kind is types.MethodType:
        yield from (one.__func__, one.__self__)
    elif kind is types.BuiltinFunctionType:
        yield one.__self__
    elif kind is types.FunctionType:
        if one.__kwdefaults__ or vars(one):
            raise Uncastable(f"the function {one.__qualname__} has attributes of its own")
        yield from (one.__code__, one.__globals__, one.__defaults__, one.__closure__)
    elif kind is types.CellType:
        try:
            yield one.cell_contents
        except ValueError:
            raise Uncastable("a variable of a function has no value") from None
    elif kind is partial:
        yield from (one.func, *one.args, *one.keywords.values())
    elif isinstance(one, dict):
        yield from one.keys()
        yield from one.values()
    elif isinstance(one, (tuple, list, set, frozenset, deque)):
        yield from one
    if kind not in _MADE and kind not in _WORDS:
        yield from (value for _, value in _attributes(one))


def _lock(graph: _Graph, one: Any) -> str:
    if one.locked():
        raise Uncastable("somebody waits for a lock that is closed")
    return f"{graph._refer(_thread.allocate_lock)}()"


def _partial(graph: _Graph, one: Any) -> str:
    given = [graph.name(one.func), *map(graph.name, one.args)]
    given += [f"{key}={graph.name(value)}" for key, value in one.keywords.items()]
    return f"{graph._refer(partial)}({', '.join(given)})"


def _function(graph: _Graph, one: Any) -> str:
    given = one.__code__, one.__globals__, one.__name__, one.__defaults__, one.__closure__
    return f"{graph._refer(types.FunctionType)}({', '.join(map(graph.name, given))})"


def _method(graph: _Graph, one: Any) -> str:
    return f"{graph._refer(types.MethodType)}({graph.name(one.__func__)}, {graph.name(one.__self__)})"


_MADE: dict[type, Callable[[_Graph, Any], str]] = {
    list: lambda graph, one: "[]",
    dict: lambda graph, one: "{}",
    set: lambda graph, one: f"{graph._refer(set)}()",
    Counter: lambda graph, one: f"{graph._refer(Counter)}()",
    deque: lambda graph, one: f"{graph._refer(deque)}((), {one.maxlen})",
    bytearray: lambda graph, one: f"{graph._refer(bytearray)}({graph._refer(bytes(one))})",
    types.CellType: lambda graph, one: f"{graph._refer(types.CellType)}()",
    _thread.LockType: _lock,
    _RLOCK: lambda graph, one: f"{graph._refer(threading.RLock)}()",
    tuple: lambda graph, one: graph._row(one),
    frozenset: lambda graph, one: f"{graph._refer(frozenset)}({graph._row(one)})",
    partial: _partial,
    types.FunctionType: _function,
    types.MethodType: _method,
    types.BuiltinFunctionType: lambda graph, one: f"{graph.name(one.__self__)}.{one.__name__}",
}
"""How what is no object of ours is made, empty or whole."""
_WHOLE = (tuple, frozenset, partial, types.FunctionType, types.MethodType, types.BuiltinFunctionType)


__all__ = ["Uncastable", "program"]
