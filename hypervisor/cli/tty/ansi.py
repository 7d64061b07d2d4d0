"""A text screen as what a terminal must be sent: colours, and only what has changed.

Source: ECMA-48, 8.3.14 CUP, 8.3.41 EL, 8.3.117 SGR; the alternate screen is xterm's private mode 1049.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

ENTER = "\x1b[?1049h\x1b[?7l\x1b[?25l\x1b[0m\x1b[2J"
"""The alternate screen, without wrapping at the right edge."""
LEAVE = "\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l"
RESET = "\x1b[0m"
HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"
_RED_AND_BLUE = (0, 4, 2, 6, 1, 5, 3, 7)
"""A terminal's number of the colour that a PC calls n: red is its bit 0."""


class Line(NamedTuple):
    """One row: characters, and for each the PC's numbers (0 to 15) of its colour and its background."""

    text: str
    colours: tuple[tuple[int, int], ...]


class Shown(NamedTuple):
    """What the terminal shows: rows, and the cursor's row and column, if it is shown."""

    lines: tuple[Line, ...]
    cursor: tuple[int, int] | None


def window(shown: Shown, columns: int, rows: int) -> Shown:
    """The part that fits a terminal: its left edge, and those rows that have the cursor."""
    row = 0 if shown.cursor is None else shown.cursor[0]
    first = max(min(row - rows + 1, len(shown.lines) - rows), 0)
    lines = tuple(Line(line.text[:columns], line.colours[:columns]) for line in shown.lines[first : first + rows])
    cursor = None if shown.cursor is None else (shown.cursor[0] - first, shown.cursor[1])
    return Shown(lines, cursor if cursor is not None and cursor[1] < columns else None)


def update(before: Shown | None, now: Shown) -> str:
    """What turns a terminal that shows ``before`` (None: nothing) into one that shows ``now``; empty if that is
    the same.
    """
    if before == now:
        return ""
    out = []
    for row, line in enumerate(now.lines):
        old = before.lines[row] if before is not None and row < len(before.lines) else None
        if old != line:
            out.append(_row(row, old, line))
    for row in range(len(now.lines), len(before.lines) if before is not None else 0):
        out.append(f"\x1b[{row + 1};1H{RESET}\x1b[2K")
    if now.cursor is None:
        out.append(HIDE)
    else:
        out.append(f"\x1b[{now.cursor[0] + 1};{now.cursor[1] + 1}H{SHOW}")
    return HIDE + "".join(out)


def _row(row: int, old: Line | None, line: Line) -> str:
    """The cells of a row from the first that differs to the last."""
    first, last = 0, len(line.text)
    clear = ""
    if old is not None and len(old.text) == len(line.text):
        differing = [n for n in range(last) if (old.text[n], old.colours[n]) != (line.text[n], line.colours[n])]
        first, last = differing[0], differing[-1] + 1
    else:
        clear = f"{RESET}\x1b[K"
    return f"\x1b[{row + 1};{first + 1}H{clear}{_run(line.text[first:last], line.colours[first:last])}"


def _run(text: str, colours: Sequence[tuple[int, int]]) -> str:
    out, present = [], None
    for character, pair in zip(text, colours, strict=True):
        if pair != present:
            out.append(sgr(*pair))
            present = pair
        out.append(character if character.isprintable() else " ")
    return "".join([*out, RESET])


def sgr(colour: int, background: int) -> str:
    """Choose colours by the PC's numbers."""
    front = (90 if colour & 8 else 30) + _RED_AND_BLUE[colour & 7]
    back = (100 if background & 8 else 40) + _RED_AND_BLUE[background & 7]
    return f"\x1b[{front};{back}m"
