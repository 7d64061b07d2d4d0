"""A set of machines as a picture of text for a terminal of some size: one table, the last events, the keys."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from hypervisor.run.observing.host_events import HostEvent, What
from hypervisor.units import GIB, KIB, MIB
from hypervisor.vm.figures import HostFigures, VmFigures, VmRates

KEYS = "up/down, p pause, r resume, s stop, n snapshot, c console, v screen, q quit"
NOTES = 5
"""Lines of events and messages below the table."""
PLAIN, BOLD, DIM, REVERSE, YELLOW, RED = "", "1", "2", "7", "33", "31"
"""Styles, as ECMA-48 8.3.117 numbers them."""
STYLES = {"paused": YELLOW, "crashed": RED, "host-error": RED}


@dataclass(frozen=True)
class View:
    """What is shown: readings, the events and messages below, and which machine is chosen."""

    title: str
    now: HostFigures
    rates: dict[str, VmRates]
    notes: Sequence[str]
    chosen: str


class Column(NamedTuple):
    """A figure of a machine, and how wide a terminal must be to have room for it."""

    name: str
    from_width: int
    text: Callable[[VmFigures, VmRates], str]


COLUMNS = (
    Column("TIME", 50, lambda one, rates: f"{one.virtual_s:.1f}s"),
    Column("RUN", 40, lambda one, rates: f"{rates.run:.0%}"),
    Column("READY", 60, lambda one, rates: f"{rates.ready:.0%}"),
    Column("BLOCKED", 70, lambda one, rates: f"{rates.blocked:.0%}"),
    Column("OWN", 80, lambda one, rates: amount(one.memory.own)),
    Column("SHARED", 90, lambda one, rates: amount(one.memory.shared)),
    Column("ZERO", 100, lambda one, rates: amount(one.memory.zero)),
    Column("SWAPPED", 160, lambda one, rates: amount(one.memory.swapped)),
    Column("BALLOON", 150, lambda one, rates: amount(one.memory.ballooned)),
    Column("ASKED", 170, lambda one, rates: amount(one.memory.asked)),
    Column("READ", 130, lambda one, rates: amount(one.io.read_bytes)),
    Column("WRITTEN", 130, lambda one, rates: amount(one.io.written_bytes)),
)


def lines_of(view: View, columns: int, rows: int, *, colour: bool = True) -> list[str]:
    """The picture's lines, ``rows`` of at most ``columns`` places, with their colours as a terminal takes them."""
    notes = view.notes[-min(NOTES, rows // 4) :]
    room = max(rows - 3 - len(notes), 0)
    lines = [(_head(view), PLAIN), *_table(view, columns, room)]
    lines += [("", PLAIN)] * (rows - 1 - len(notes) - len(lines))
    lines += [(note, DIM) for note in notes]
    lines = [*lines[: rows - 1], (KEYS, REVERSE)]
    return [f"\x1b[{style}m{text[:columns]}\x1b[0m" if colour and style else text[:columns] for text, style in lines]


def _head(view: View) -> str:
    now = view.now
    busy = sum(rates.run for rates in view.rates.values())
    return (
        f"{view.title}: {len(now.vms)} VMs on {len(now.pcpus)} pCPUs, {busy:.0%} busy; "
        f"{amount(now.used)} of {amount(now.memory)} used, {amount(now.promised)} promised"
    )


def _table(view: View, columns: int, room: int) -> list[tuple[str, str]]:
    """The rows that there is room for, the chosen one among them, with their styles."""
    shown = [column for column in COLUMNS if columns >= column.from_width]
    names = [one.name for one in view.now.vms]
    width = min(max(map(len, ["VM", *names])), max(columns - 60, 12))
    figures = " ".join(f"{column.name:>7}" for column in shown)
    rows = [(f" {'VM':{width}} {'STATE':15} {figures} EXITS/S", BOLD)]
    chosen = names.index(view.chosen) if view.chosen in names else 0
    first = max(min(chosen - room // 2, len(names) - room), 0)
    for one in view.now.vms[first : first + room]:
        rates = view.rates[one.name]
        figures = " ".join(f"{column.text(one, rates):>7}" for column in shown)
        mark = ">" if one.name == view.chosen else " "
        text = f"{mark}{printable(one.name)[:width]:{width}} {one.state:15} {figures} {exits(rates)}"
        rows.append((text, BOLD if mark == ">" else STYLES.get(one.state, PLAIN)))
    return rows


def exits(rates: VmRates) -> str:
    """Exits a second: all, and by kind, those that are most first."""
    kinds = sorted(rates.exits.items(), key=lambda each: -each[1])
    total = sum(rates.exits.values())
    return f"{count(total)}" + "".join(f" {kind} {count(rate)}" for kind, rate in kinds[:4])


def count(value: float) -> str:
    """A number of things in four places or so."""
    for least, unit, letter in ((1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if value >= least:
            return f"{value / unit:.1f}{letter}"
    return f"{value:.0f}"


def amount(size: int) -> str:
    """Bytes in five places or so."""
    for limit, unit in ((GIB, "G"), (MIB, "M"), (KIB, "K")):
        if size >= limit:
            return f"{size / limit:.1f}{unit}"
    return str(size)


def printable(text: str) -> str:
    """A text on one line, each letter of which takes one place of a terminal."""
    return "".join(letter if _takes_one_place(letter) else "?" for letter in text.partition("\n")[0])


def _takes_one_place(letter: str) -> bool:
    wide = unicodedata.east_asian_width(letter) in "WF"
    return letter.isprintable() and not wide and not unicodedata.combining(letter)


def of_event(event: HostEvent) -> str:
    """An event as a line."""
    text = f"{event.vm} {event.what.value} at {event.virtual_s:.3f} s"
    if event.reason is not None and event.what is not What.CRASHED:
        text += f" ({event.reason.value})"
    return f"{text}: {event.message}" if event.message else text


__all__ = ["View", "amount", "count", "exits", "lines_of", "of_event", "printable"]
