"""Reading numbers and texts one after the other, never beyond the end."""

from __future__ import annotations

import struct

LONGEST_NAME = 4096
"""Bytes of a name that are looked at: mangled names of C++ have hundreds."""
LONGEST_LEB = 16
"""Bytes of a LEB128 number, which has ten if it has 64 bits and no padding."""

Data = bytes | memoryview


class ElfError(ValueError):
    """An ELF file that is damaged, or beyond a limit; the text says what, as the end of a sentence."""


class Reader:
    """A place in ``data``, which moves on as things are read. Raises `ElfError` at the end, which is at ``end``."""

    __slots__ = ("at", "data", "end")

    def __init__(self, data: Data, at: int = 0, end: int | None = None) -> None:
        self.data = data
        self.at = at
        self.end = len(data) if end is None else end
        if not 0 <= at <= self.end <= len(data):
            raise ElfError(f"{at:#x} to {self.end:#x} lie outside its {len(data)} bytes")

    def unpack(self, layout: struct.Struct) -> tuple[int, ...]:
        """Fields of a fixed layout."""
        at = self.at
        self.skip(layout.size)
        return layout.unpack_from(self.data, at)

    def byte(self) -> int:
        """One byte."""
        at = self.at
        if at >= self.end:
            raise ElfError(f"a byte at {at:#x} lies beyond the end")
        self.at = at + 1
        return self.data[at]

    def number(self, size: int) -> int:
        """An unsigned number of ``size`` bytes."""
        at = self.at
        self.skip(size)
        return int.from_bytes(self.data[at : at + size], "little")

    def signed(self, size: int) -> int:
        """A signed number of ``size`` bytes."""
        at = self.at
        self.skip(size)
        return int.from_bytes(self.data[at : at + size], "little", signed=True)

    def uleb(self) -> int:
        """An unsigned LEB128 number (DWARF 5, 7.6)."""
        value, _ = self._leb()
        return value

    def sleb(self) -> int:
        """A signed LEB128 number."""
        value, bits = self._leb()
        return value - (1 << bits) if value >> bits - 1 else value

    def text(self) -> bytes:
        """A text that ends in NUL, without it."""
        found = text_at(self.data, self.at, self.end)
        self.skip(len(found) + 1)
        return found

    def skip(self, count: int) -> None:
        """Leave bytes out."""
        if count < 0 or self.at + count > self.end:
            raise ElfError(f"{count} bytes at {self.at:#x} lie beyond the end at {self.end:#x}")
        self.at += count

    def _leb(self) -> tuple[int, int]:
        value = bits = 0
        data, at = self.data, self.at
        for at in range(self.at, min(self.end, self.at + LONGEST_LEB)):
            value |= (data[at] & 0x7F) << bits
            bits += 7
            if data[at] < 0x80:
                self.at = at + 1
                return value, bits
        raise ElfError(f"the number at {self.at:#x} has no end")


def text_at(data: Data, at: int, end: int | None = None) -> bytes:
    """The text at ``at`` that ends in NUL before ``end``, without the NUL."""
    limit = min(len(data) if end is None else end, at + LONGEST_NAME + 1)
    if not 0 <= at < limit:
        raise ElfError(f"a name would be at {at:#x}, beyond the end")
    found, nul, _ = bytes(data[at:limit]).partition(b"\0")
    if not nul:
        raise ElfError(f"the name at {at:#x} has no end within {LONGEST_NAME} bytes")
    return found


def shown(name: bytes) -> str:
    """A name as text that can be printed on a terminal: what a file says must not move its cursor."""
    text = name.decode(errors="replace")
    return text if text.isprintable() else "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
