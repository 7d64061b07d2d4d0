"""The fonts of text modes: code page 437 in 16, 14 and 8 rows, drawn for this project.

`font(16)` and so on; `cp437` holds the same characters as Unicode. Letters with accents are put together from a letter
and a mark, boxes and shades are computed, the rest is pixel art.
"""

from __future__ import annotations

from functools import cache, lru_cache
from typing import NamedTuple

from hypervisor.arch.font.ascii import ART
from hypervisor.arch.font.line_drawing import lines
from hypervisor.arch.font.symbol_glyphs import ACCENTS, CONTROL, GREEK, LETTERS

CP437 = (
    " ☺☻♥♦♣♠•◘○◙♂♀♪♫☼►◄↕‼¶§▬↨↑↓→←∟↔▲▼"
    + bytes(range(32, 127)).decode("ascii")
    + "⌂"
    + bytes(range(128, 255)).decode("cp437")
    + " "
)
"""The characters of code page 437; 0 and 255 are blank."""

_ABOVE = 2
"""Rows above the art's own, where the accents of capitals go."""
_TOP = {16: 1, 14: 0}
"""The scan line on which the accents of capitals begin, by height."""
_SMALL_ROWS = (2, 3, 5, 6, 7, 8, 10)
"""The rows that the 8 by 8 font keeps; 11 and 12 become its eighth."""
_MARKS = "/`^:.~"
"""Acute, grave, circumflex, diaeresis, ring, tilde, as `_ACCENTED` writes them."""
_ACCENTED = {
    "ü": "u:", "é": "e/", "â": "a^", "ä": "a:", "à": "a`", "å": "a.", "ê": "e^", "ë": "e:", "è": "e`", "ï": "i:",
    "î": "i^", "ì": "i`", "Ä": "A:", "Å": "A.", "É": "E/", "ô": "o^", "ö": "o:", "ò": "o`", "û": "u^", "ù": "u`",
    "ÿ": "y:", "Ö": "O:", "Ü": "U:", "á": "a/", "í": "i/", "ó": "o/", "ú": "u/", "ñ": "n~", "Ñ": "N~",
}  # fmt: skip
_OTHER_LETTERS = "æÆ¢£¥₧ƒªº¿⌐¬½¼¡«»"
_X_HEIGHT = 5
"""The row on which small letters begin, with `_ABOVE` rows above capitals."""


class Font(NamedTuple):
    """256 characters of ``height`` rows, one byte a row with the leftmost dot in its top bit, one after the other."""

    height: int
    data: bytes

    def glyph(self, character: int) -> bytes:
        """The rows of one character."""
        return self.data[character * self.height : (character + 1) * self.height]

    def rooms(self, room: int) -> bytes:
        """All characters, each filled up to ``room`` bytes, as plane 2 holds them."""
        return _rooms(self, room)


@lru_cache(maxsize=4)
def _rooms(drawn: Font, room: int) -> bytes:
    return b"".join(drawn.glyph(character).ljust(room, b"\0") for character in range(256))


@cache
def font(height: int) -> Font:
    """The font of 16, 14 or 8 rows."""
    art = _art()
    small = height == 8
    glyphs = []
    for character in range(256):
        drawn = lines(character, height)
        if drawn is None:
            rows = art[character]
            drawn = _shrink(rows) if small else bytes(_TOP[height]) + bytes(rows)
            drawn = drawn.ljust(height, b"\0")
            if character in (0xF4, 0xF5):
                drawn = _run_on(drawn, character == 0xF4)
        glyphs.append(drawn)
    return Font(height, b"".join(glyphs))


def _bands(art: str) -> list[list[int]]:
    """The glyphs of pixel art, left to right in each band."""
    glyphs: list[list[int]] = []
    for band in art.strip("\n").split("\n\n"):
        columns = zip(*(line.split() for line in band.split("\n")), strict=True)
        glyphs += [[int(row.replace(".", "0").replace("#", "1"), 2) << 1 for row in column] for column in columns]
    return glyphs


def _art() -> list[list[int]]:
    """13 rows for each character (none where it is computed)."""
    above = [0] * _ABOVE
    glyphs = [above + rows for rows in _bands(CONTROL) + _bands(ART)]
    glyphs += [[] for _ in range(128, 256)]
    for letter, rows in zip(_OTHER_LETTERS, _bands(LETTERS), strict=True):
        glyphs[CP437.index(letter)] = above + rows
    for code, rows in enumerate(_bands(GREEK), 0xE0):
        glyphs[code] = above + rows
    marks = dict(zip(_MARKS, _bands(ACCENTS), strict=True))
    for accented, parts in _ACCENTED.items():
        letter, mark = parts[0], parts[1]
        rows = list(glyphs[ord(letter)])
        if letter.islower():
            rows[: _X_HEIGHT - 1] = [0, 0, *marks[mark]]
            rows[_X_HEIGHT - 1] = 0
        else:
            rows[:_ABOVE] = marks[mark]
        glyphs[CP437.index(accented)] = rows
    for accented, letter in (("Ç", "C"), ("ç", "c")):
        glyphs[CP437.index(accented)] = [*glyphs[ord(letter)][:11], 0x18, 0x30]
    return glyphs


def _shrink(rows: list[int]) -> bytes:
    """Eight rows of thirteen: doubled rows go, and the accent of a capital takes the place of its top."""
    kept = [rows[row] for row in _SMALL_ROWS]
    if rows[0] | rows[1]:
        kept[0] = rows[0] | rows[1]
    return bytes([*kept, rows[11] | rows[12]])


def _run_on(rows: bytes, upper: bool) -> bytes:
    """Continue a stroke to the edge of the cell."""
    drawn = [index for index, row in enumerate(rows) if row]
    edge = drawn[-1] if upper else drawn[0]
    beyond = range(edge, len(rows)) if upper else range(0, edge)
    return bytes(0x18 if index in beyond else row for index, row in enumerate(rows))
