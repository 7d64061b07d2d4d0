"""The VGA's memory: four planes of 64 KiB, and behind them the rest of the linear frame buffer.

Planes are interleaved: byte 4 * n + p is byte n of plane p, as mode 13h and the linear frame buffer show it. So a
*cell* of 32 bits holds one byte of each plane. Text mode shows the guest planes 0 and 1 as one run of bytes, which is
no slice of that: while a guest sees it so, those bytes live in memory of their own.
"""

from __future__ import annotations

from typing import Protocol

PLANES_SIZE = 0x40000
CELLS = 0x10000
TEXT_SIZE = 0x8000
TEXT_CELLS = TEXT_SIZE // 2


class Memory(Protocol):
    """Bytes that a board gives the adapter, and shows the guest."""

    @property
    def size(self) -> int:
        """How many there are."""
        ...

    def read(self, offset: int, size: int) -> bytes:
        """``size`` bytes from ``offset`` on."""
        ...

    def write(self, offset: int, data: bytes) -> None:
        """Store ``data`` from ``offset`` on."""
        ...

    def zero(self, size: int) -> None:
        """Clear the first ``size`` bytes."""
        ...


class OwnMemory:
    """Memory that no guest sees, for an adapter without a board."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._bytes = bytearray(size)

    def read(self, offset: int, size: int) -> bytes:
        """See `Memory.read`."""
        return bytes(self._bytes[offset : offset + size])

    def write(self, offset: int, data: bytes) -> None:
        """See `Memory.write`."""
        self._bytes[offset : offset + len(data)] = data

    def zero(self, size: int) -> None:
        """See `Memory.zero`."""
        self._bytes[:size] = bytes(size)


class VideoMemory:
    """``vram`` has at least `PLANES_SIZE` bytes, a multiple of 64 KiB; ``text`` has `TEXT_SIZE` bytes."""

    def __init__(self, vram: Memory, text: Memory) -> None:
        self.vram = vram
        self.text = text
        self.count = vram.size >> 2
        """Cells."""

    @property
    def banks(self) -> int:
        """Its size in banks of 64 KiB."""
        return self.vram.size >> 16

    def cell(self, number: int) -> int:
        """A cell, plane 0 in its low byte."""
        return int.from_bytes(self.vram.read(4 * number, 4), "little")

    def store_cell(self, number: int, value: int) -> None:
        """Replace a cell."""
        self.vram.write(4 * number, value.to_bytes(4, "little"))

    def text_to_planes(self) -> None:
        """Bring planes 0 and 1 up to date with what the guest wrote as text."""
        cells, text = bytearray(self.vram.read(0, 4 * TEXT_CELLS)), self.text.read(0, TEXT_SIZE)
        for plane in (0, 1):
            cells[plane::4] = text[plane::2]
        self.vram.write(0, bytes(cells))

    def planes_to_text(self) -> None:
        """The reverse, before the guest sees text again."""
        cells, text = self.vram.read(0, 4 * TEXT_CELLS), bytearray(TEXT_SIZE)
        for plane in (0, 1):
            text[plane::2] = cells[plane::4]
        self.text.write(0, bytes(text))

    def plane(self, number: int, start: int, count: int) -> bytes:
        """``count`` bytes of a plane from byte ``start``, wrapping at its end."""
        start %= CELLS
        here = min(count, CELLS - start)
        data = self.vram.read(4 * start, 4 * here)[number::4]
        return data if here == count else data + self.plane(number, 0, count - here)

    def write_plane(self, number: int, start: int, data: bytes) -> None:
        """Store ``data`` from byte ``start`` of a plane on."""
        cells = bytearray(self.vram.read(4 * start, 4 * len(data)))
        cells[number::4] = data
        self.vram.write(4 * start, bytes(cells))
