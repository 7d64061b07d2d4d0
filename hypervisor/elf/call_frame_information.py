"""Call frames: how to find a function's caller at each of its instructions (DWARF 5, 6.4; LSB 5.0, 10.6 for eh_frame).

Of all the registers that the rules speak of, three are followed: the return address, the stack and the frame pointer.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from operator import itemgetter
from typing import NamedTuple

from hypervisor.elf.frame_rules import ABSOLUTE, Common, Row, Rules
from hypervisor.elf.reader import Data, ElfError, Reader
from hypervisor.elf.sections import Sections

MOST_ENTRIES = 200_000
"""Functions; a Linux kernel has half of that."""
FRAME_POINTER = {32: 5, 64: 6}
"""DWARF's number of EBP and RBP (System V ABI of each architecture)."""

PC_RELATIVE, OMITTED = 0x10, 0xFF
FORMATS = {0x02: (2, False), 0x03: (4, False), 0x04: (8, False), 0x0A: (2, True), 0x0B: (4, True), 0x0C: (8, True)}
"""DW_EH_PE_udata2 and so on: bytes, and whether they are signed."""


class _Entry(NamedTuple):
    """A frame description entry: its code, its common entry, and where its rules are."""

    start: int
    end: int
    common: Common
    rules: tuple[int, int]


class CallFrames:
    """The call frames of one file: those of ``.eh_frame``, or of ``.debug_frame`` where there is none.

    Raises `ElfError` for a damaged file; what lies before the damage counts.
    """

    def __init__(self, data: bytes) -> None:
        sections = Sections(data)
        self.bits = sections.bits
        self._data: Data = b""
        self._base, self._eh = 0, True
        if not sections.relocatable:
            found = sections.debug(b".eh_frame")
            if found is None or not len(found[1]):
                self._eh, found = False, sections.debug(b".debug_frame")
            if found is not None:
                self._base, self._data = found[0].address, found[1]
        self._commons: dict[int, Common] = {}
        self._entries = sorted(self._read(), key=itemgetter(0))

    def row(self, address: int) -> Row | None:
        """The rules at the instruction at ``address``, None where there are none. Raises `ElfError`."""
        index = bisect_right(self._entries, address, key=itemgetter(0)) - 1
        if index < 0 or address >= self._entries[index].end:
            return None
        entry = self._entries[index]
        row = Row(entry.common.back, FRAME_POINTER[self.bits])
        first = Rules(self._data, entry.common, entry.common.rules, row).run(0, 0)
        return Rules(self._data, entry.common, entry.rules, first).run(entry.start, address)

    def _read(self) -> Iterator[_Entry]:
        at = 0
        try:
            for _ in range(MOST_ENTRIES):
                if at >= len(self._data):
                    return
                reader = Reader(self._data, at)
                size, offset_size = reader.number(4), 4
                if size == 0xFFFFFFFF:
                    size, offset_size = reader.number(8), 8
                start = reader.at
                at = start + size
                if not size:
                    continue
                entry = self._entry(Reader(self._data, start, at), 4 if self._eh else offset_size)
                if entry is not None:
                    yield entry
        except ElfError:
            return

    def _entry(self, reader: Reader, offset_size: int) -> _Entry | None:
        """A frame description entry; None for a common one, and for one that cannot be understood."""
        start = reader.at
        pointer = reader.number(offset_size)
        if pointer == (0 if self._eh else (1 << 8 * offset_size) - 1):
            return None
        where = start - pointer if self._eh else pointer
        try:
            if where not in self._commons:
                self._commons[where] = self._common(where, offset_size)
            common = self._commons[where]
            begin = self._pointer(reader, common, common.encoding)
            length = self._pointer(reader, common, common.encoding & 0x0F)
            if common.augmented:
                reader.skip(reader.uleb())
        except ElfError:
            return None
        return _Entry(begin, begin + length, common, (reader.at, reader.end))

    def _common(self, where: int, offset_size: int) -> Common:
        """The common information entry at ``where``: behind its length in ``.eh_frame``, which points there."""
        reader = Reader(self._data, where)
        if self._eh:
            reader = Reader(self._data, where - 4) if where >= 4 else reader
        size = reader.number(4)
        if size == 0xFFFFFFFF:
            size = reader.number(8)
        reader = Reader(self._data, reader.at, reader.at + size)
        reader.skip(offset_size)
        return _common(reader, self.bits)

    def _pointer(self, reader: Reader, common: Common, encoding: int) -> int:
        """An encoded address (LSB 5.0, 10.5)."""
        at = self._base + reader.at
        if encoding & 0xF0 not in (ABSOLUTE, PC_RELATIVE):
            raise ElfError(f"pointers encoded as {encoding:#x} are not understood")
        match encoding & 0x0F:
            case 0x00:
                value = reader.number(common.address_size)
            case 0x01:
                value = reader.uleb()
            case 0x09:
                value = reader.sleb()
            case format if format in FORMATS:
                size, signed = FORMATS[format]
                value = reader.signed(size) if signed else reader.number(size)
            case _:
                raise ElfError(f"pointers encoded as {encoding:#x} are not understood")
        if encoding & 0xF0 == PC_RELATIVE:
            value += at
        return value & (1 << self.bits) - 1


def _common(reader: Reader, bits: int) -> Common:
    version, text = reader.byte(), reader.text()
    address_size, encoding = bits // 8, ABSOLUTE
    if version >= 4:
        address_size = reader.byte()
        reader.skip(1)  # segment_selector_size
        if address_size not in (4, 8):
            raise ElfError(f"addresses of {address_size} bytes are not understood")
    code_factor, data_factor = reader.uleb(), reader.sleb()
    back = reader.byte() if version == 1 else reader.uleb()
    if text.startswith(b"z"):
        size = reader.uleb()
        rules = reader.at + size
        for letter in text[1:].decode(errors="replace"):
            match letter:
                case "R":
                    encoding = reader.byte()
                case "P":
                    personality = reader.byte()
                    if personality == OMITTED:
                        continue
                    whole = {0x00: address_size, **{key: size for key, (size, _) in FORMATS.items()}}
                    reader.skip(whole.get(personality & 0x0F, reader.end))
                case "L":
                    reader.skip(1)
                case "S" | "B":
                    pass
                case _:
                    break
        reader.skip(rules - reader.at)
    elif text:
        raise ElfError(f"augmentation {text!r} is not understood")
    return Common(
        code_factor, data_factor, back, encoding, text.startswith(b"z"), address_size, (reader.at, reader.end)
    )
