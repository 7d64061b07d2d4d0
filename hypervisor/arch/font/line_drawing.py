"""Code page 437's shades, blocks and box-drawing characters, for a cell of any height and 8 dots of width."""

from __future__ import annotations

_NONE, _SINGLE, _DOUBLE = range(3)
_ARMS = (
    "1010 1011 1012 2021 0021 0012 2022 2020 0022 2002 2001 1002 0011 1100 1101 0111 1110 0101 1111 1210 2120 2200 "
    "0220 2202 0222 2220 0202 2222 1202 2101 0212 0121 2100 1200 0210 0120 2121 1212 1001 0110"
).split()
"""B3h to DAh by their arms up, right, down, left: none, single or double."""
_LEFT, _MIDDLE, _RIGHT = (1, 2), (3, 4), (5, 6)
"""The columns of upright strokes: two of a double line, or the single one between."""


def lines(character: int, height: int) -> bytes | None:
    """The rows of a character from B0h to DFh, 8 dots each; None for any other character."""
    if 0xB0 <= character <= 0xB2:
        pattern = ((0x88, 0x22), (0xAA, 0x55), (0xEE, 0xBB))[character - 0xB0]
        return bytes(pattern[row & 1] for row in range(height))
    if 0xB3 <= character <= 0xDA:
        up, right, down, left = map(int, _ARMS[character - 0xB3])
        return _box(up, right, down, left, height)
    half = height // 2
    blocks = {
        0xDB: b"\xff" * height,
        0xDC: bytes(half) + b"\xff" * (height - half),
        0xDD: b"\xf0" * height,
        0xDE: b"\x0f" * height,
        0xDF: b"\xff" * half + bytes(height - half),
    }
    return blocks.get(character)


def _reach(side: int, crossing: tuple[int, int], opposite: int, places: tuple[int, int, int]) -> int:
    """How far a stroke of an arm goes towards the centre and beyond: one of ``places`` (near, middle, far).

    ``side`` is -1 or 1 for a stroke of a double line, which has one of the two ``crossing`` arms beside it (0: the
    first, 1: the second), and 0 for a single line. A stroke stops at the near stroke of a double line beside it; the
    outer stroke of a corner goes on to the far one.
    """
    near, middle, far = places
    if side:
        facing, other = crossing if side < 0 else crossing[::-1]
        if facing == _DOUBLE:
            return near
        return far if facing == _NONE and not opposite and other == _DOUBLE else middle
    if opposite or _DOUBLE not in crossing:
        return middle
    return near if crossing == (_DOUBLE, _DOUBLE) else far


def _box(up: int, right: int, down: int, left: int, height: int) -> bytes:
    centre = height // 2
    dots = [0] * height
    upright = {_NONE: (), _SINGLE: ((0, _MIDDLE),), _DOUBLE: ((-1, _LEFT), (1, _RIGHT))}
    for side, columns in upright[up]:
        end = _reach(side, (left, right), down, (centre - 1, centre, centre + 1))
        _fill(dots, range(0, end + 1), range(columns[0], columns[1] + 1))
    for side, columns in upright[down]:
        start = _reach(side, (left, right), up, (centre + 1, centre, centre - 1))
        _fill(dots, range(start, height), range(columns[0], columns[1] + 1))
    level = {_NONE: (), _SINGLE: ((0, centre),), _DOUBLE: ((-1, centre - 1), (1, centre + 1))}
    for side, row in level[left]:
        end = _reach(side, (up, down), right, (_LEFT[1], _MIDDLE[1], _RIGHT[1]))
        _fill(dots, range(row, row + 1), range(0, end + 1))
    for side, row in level[right]:
        start = _reach(side, (up, down), left, (_RIGHT[0], _MIDDLE[0], _LEFT[0]))
        _fill(dots, range(row, row + 1), range(start, 8))
    return bytes(dots)


def _fill(dots: list[int], rows: range, columns: range) -> None:
    bits = sum(0x80 >> column for column in columns)
    for row in rows:
        dots[row] |= bits
