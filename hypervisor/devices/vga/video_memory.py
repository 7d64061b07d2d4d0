"""The VGA's memory: four planes of 64 KiB, and behind them the rest of the linear frame buffer.

Planes are interleaved: byte 4 * n + p is byte n of plane p, as mode 13h and the linear frame buffer show it. So a
*cell* of 32 bits holds one byte of each plane. Text mode shows the guest planes 0 and 1 as one run of bytes, which is
no slice of that: while a guest sees it so, those bytes live in memory of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct

PLANES_SIZE = 0x40000
CELLS = 0x10000
TEXT_SIZE = 0x8000
TEXT_CELLS = TEXT_SIZE // 2
_CELL = Struct("<I")
pack_cell, unpack_cell = _CELL.pack_into, _CELL.unpack_from
"""Store a cell in ``vram``, and take one from there: a number with plane 0 in its low byte, at four times its place."""


class VideoMemory:
    """``vram`` has at least `PLANES_SIZE` bytes, a multiple of 64 KiB; ``text`` has `TEXT_SIZE` bytes. ``zero``
    is a quick way to clear ``vram``, if there is one.
    """

    def __init__(self, vram: memoryview, text: memoryview, zero: Callable[[int], object] | None = None) -> None:
        self.vram = vram
        self.zero = self._zero if zero is None else zero
        """Clears the first bytes of ``vram``, as many as it is called with."""
        self.text = text
        self.count = len(vram) >> 2
        """Cells."""

    def _zero(self, size: int) -> None:
        self.vram[:size] = bytes(size)

    @property
    def banks(self) -> int:
        """Its size in banks of 64 KiB."""
        return len(self.vram) >> 16

    def text_to_planes(self) -> None:
        """Bring planes 0 and 1 up to date with what the guest wrote as text."""
        for plane in (0, 1):
            self.vram[plane : 4 * TEXT_CELLS : 4] = self.text[plane::2]

    def planes_to_text(self) -> None:
        """The reverse, before the guest sees text again."""
        for plane in (0, 1):
            self.text[plane::2] = self.vram[plane : 4 * TEXT_CELLS : 4]

    def plane(self, number: int, start: int, count: int) -> bytes:
        """``count`` bytes of a plane from byte ``start``, wrapping at its end."""
        start %= CELLS
        data = bytes(self.vram[4 * start + number : min(4 * (start + count), PLANES_SIZE) : 4])
        return data if len(data) == count else data + self.plane(number, 0, count - len(data))

    def write_plane(self, number: int, start: int, data: bytes) -> None:
        """Store ``data`` from byte ``start`` of a plane on."""
        self.vram[4 * start + number : 4 * (start + len(data)) : 4] = data
