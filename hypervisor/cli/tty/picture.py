"""A picture on a terminal: two pixels a cell, as upper half blocks. Imports numpy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

HALF_BLOCK = "\u2580"
LEVELS = (0, 95, 135, 175, 215, 255)
"""Of each colour in the 256-colour palette's cube (xterm), from number 16 on."""

Pixels = NDArray[np.uint8]


def fit(pixels: Pixels, columns: int, rows: int) -> Pixels:
    """The picture in at most ``columns`` by 2 * ``rows`` pixels, with its proportions; even in height."""
    height, width = pixels.shape[:2]
    scale = max(width / columns, height / (2 * rows), 1 / 8)
    wide, high = max(int(width / scale), 1), max(int(height / scale) // 2 * 2, 2)
    lines = np.arange(high) * height // high
    places = np.arange(wide) * width // wide
    fitted: Pixels = pixels[lines][:, places]
    return fitted


def update(before: Pixels | None, now: Pixels, *, true_colour: bool) -> str:
    """What turns a terminal that shows ``before`` (None: nothing) into one that shows ``now``, a fitted picture."""
    upper, lower = now[::2], now[1::2]
    if before is None or before.shape != now.shape:
        changed = np.ones(upper.shape[:2], bool)
    else:
        changed = (upper != before[::2]).any(axis=-1) | (lower != before[1::2]).any(axis=-1)
    out = []
    for row in np.flatnonzero(changed.any(axis=1)):
        places = np.flatnonzero(changed[row])
        first, last = int(places[0]), int(places[-1]) + 1
        out.append(f"\x1b[{row + 1};{first + 1}H")
        pairs = np.concatenate([upper[row, first:last], lower[row, first:last]], axis=1).tolist()
        present = None
        for pair in pairs:
            if pair != present:
                out.append(_colours(pair, true_colour))
                present = pair
            out.append(HALF_BLOCK)
        out.append("\x1b[0m")
    return "".join(out)


def _colours(pair: list[int], true_colour: bool) -> str:
    if true_colour:
        return "\x1b[38;2;{};{};{};48;2;{};{};{}m".format(*pair)
    return f"\x1b[38;5;{_nearest(pair[:3])};48;5;{_nearest(pair[3:])}m"


def _nearest(colour: list[int]) -> int:
    red, green, blue = (min(range(6), key=lambda n: abs(LEVELS[n] - level)) for level in colour)
    return 16 + 36 * red + 6 * green + blue
