"""The table of BIOS services: each is a method that says which call it serves.

::

    class Disk:
        @service(0x13, 0x02, "read sectors")
        def _read(self, call: Call) -> Outcome: ...

A function number up to FFh is AH, a larger one is AX (INT 15h AX=E820h); without one, the service is the whole
interrupt. `Services` finds the method for a call, and docs/bios.md is made of the same rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple, TypeVar

from hypervisor.errors import TrapError
from hypervisor.firmware.bios.call import Call, Outcome
from hypervisor.firmware.bios.names import NAMES

F = TypeVar("F", bound=Callable[..., Outcome])


@dataclass(frozen=True, order=True)
class Service:
    """One row: which call, and what it does in a few words."""

    interrupt: int
    function: int
    """AH up to FFh, AX above; -1 is the whole interrupt."""
    title: str
    method: str = ""

    def __str__(self) -> str:
        return call_name(self.interrupt, self.function)


def call_name(interrupt: int, function: int) -> str:
    """A call as manuals write it: ``INT 13h AH=05h``."""
    if function < 0:
        return f"INT {interrupt:02X}h"
    return (
        f"INT {interrupt:02X}h AH={function:02X}h" if function <= 0xFF else f"INT {interrupt:02X}h AX={function:04X}h"
    )


def service(interrupt: int, function: int | None, title: str) -> Callable[[F], F]:
    """Declare a method as the service of a call. Several may be stacked on one method."""

    def declare(method: F) -> F:
        row = Service(interrupt, -1 if function is None else function, title, method.__name__)
        method.__dict__.setdefault("bios_services", []).append(row)
        return method

    return declare


def rows(classes: Iterable[type]) -> list[Service]:
    """The rows that ``classes`` declare, in the order of their numbers."""
    return sorted(row for one in classes for row in _declared(one))


@cache
def _declared(one: type) -> tuple[Service, ...]:
    return tuple(row for value in vars(one).values() for row in getattr(value, "bios_services", ()))


class _Table(NamedTuple):
    """The calls that classes serve: by interrupt and function which of the classes does and by which method, what they
    are called, and the interrupts and AH for which AL chooses among services.
    """

    by_call: dict[tuple[int, int], tuple[int, str]]
    titles: dict[tuple[int, int], str]
    families: set[tuple[int, int]]


@cache
def _table(kinds: tuple[type, ...]) -> _Table:
    """Of these classes, of which all VMs have the same. Raises `TrapError` where two serve a call."""
    table = _Table({}, dict(NAMES), set())
    for number, kind in enumerate(kinds):
        for row in _declared(kind):
            key = (row.interrupt, row.function)
            if key in table.by_call:
                raise TrapError(f"{row} ({row.title}) is declared twice; a BIOS call has one service.")
            table.by_call[key] = number, row.method
            table.titles[key] = row.title
            if row.function > 0xFF:
                table.families.add((row.interrupt, row.function >> 8))
    return table


class Services:
    """The services of one VM: objects whose classes declare them."""

    def __init__(self, providers: Iterable[Any]) -> None:
        self._providers = tuple(providers)
        self._by_call, self._titles, self._families = _table(tuple(map(type, self._providers)))

    def find(self, interrupt: int, ax: int) -> Callable[[Call], Outcome] | None:
        """The service for a call with ``ax``, or None: that of AX, of AH, or of the whole interrupt."""
        table = self._by_call
        found = table.get((interrupt, ax)) if ax > 0xFF else None
        found = found or table.get((interrupt, ax >> 8)) or table.get((interrupt, -1))
        if found is None:
            return None
        number, method = found
        service: Callable[[Call], Outcome] = getattr(self._providers[number], method)
        return service

    def function(self, interrupt: int, ax: int) -> int:
        """What of ``ax`` says which call it is: AX where AL chooses among services, else AH."""
        return ax if (interrupt, ax >> 8) in self._families else ax >> 8

    def describe(self, interrupt: int, function: int) -> str:
        """A call with its name, if it has one: ``INT 13h AH=05h (format track)``."""
        keys = ((interrupt, known) for known in (function, function >> 8, -1))
        title = next((self._titles[key] for key in keys if key in self._titles), "")
        return call_name(interrupt, function) + (f" ({title})" if title else "")


def markdown(services: Iterable[Service]) -> str:
    """The rows as the table of docs/bios.md."""
    lines = ["| INT | AH or AX | service |", "|---|---|---|"]
    for row in services:
        digits = 2 if row.function <= 0xFF else 4
        number = "" if row.function < 0 else f"{row.function:0{digits}X}h"
        lines.append(f"| {row.interrupt:02X}h | {number} | {row.title} |")
    return "\n".join(lines) + "\n"
