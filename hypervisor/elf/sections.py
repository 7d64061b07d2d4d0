"""The sections of an ELF file, by name or kind, decompressed."""

from __future__ import annotations

import struct
import zlib
from typing import NamedTuple

from hypervisor.elf.reader import Data, ElfError, Reader
from hypervisor.units import MIB

MAGIC = b"\x7fELF"
MOST_SECTIONS = 1 << 16
LARGEST = 64 * MIB
"""Bytes of a section of debug data, decompressed: those of a Linux kernel have half of that."""
LONGEST_SECTION_NAME = 32
"""Bytes of a section's name that are looked at."""

RELOCATABLE = 1
SHT_NOBITS = 8
SHF_COMPRESSED = 1 << 11
ZLIB = 1
EXTENDED = 0xFFFF
"""The index of the section names' section if it does not fit; it is in the first section's link then."""


class Section(NamedTuple):
    """A section header; ``name`` is cut to `LONGEST_SECTION_NAME`, ``link`` the index of another section."""

    name: bytes
    kind: int
    flags: int
    address: int
    offset: int
    size: int
    link: int


class Layout(NamedTuple):
    """What differs between the classes: the header from offset 16 on, a section header, a compressed one's head."""

    header: struct.Struct
    section: struct.Struct
    compressed: struct.Struct


LAYOUTS = {
    32: Layout(struct.Struct("<HHIIIIIHHHHHH"), struct.Struct("<10I"), struct.Struct("<3I")),
    64: Layout(struct.Struct("<HHIQQQIHHHHHH"), struct.Struct("<IIQQQQIIQQ"), struct.Struct("<I4xQQ")),
}


class Sections:
    """The section headers of a file. Raises `ElfError` if it is no little-endian ELF file, or if they lie outside."""

    def __init__(self, data: bytes) -> None:
        self.data = memoryview(data)
        if data[:4] != MAGIC or len(data) < 16:
            raise ElfError("it does not begin as an ELF file")
        if data[4] not in (1, 2) or data[5] != 1:
            raise ElfError(f"class {data[4]}, encoding {data[5]}: 32 or 64 bits, little-endian, are understood")
        self.bits = 32 * data[4]
        """32 or 64: the file's class."""
        self._layout = LAYOUTS[self.bits]
        fields = Reader(data, 16).unpack(self._layout.header)
        self.relocatable = fields[0] == RELOCATABLE
        """Whether it is not linked: its debug data are not finished either."""
        self.all = self._read(offset=fields[5], size=fields[10], count=fields[11], names=fields[12])
        """In the file's order."""

    def first(self, kind: int) -> Section | None:
        """The first section of a kind."""
        return next((section for section in self.all if section.kind == kind), None)

    def named(self, name: bytes) -> Section | None:
        """The first section of a name."""
        return next((section for section in self.all if section.name == name), None)

    def raw(self, section: Section) -> memoryview:
        """A section's bytes as they are in the file."""
        if section.kind == SHT_NOBITS:
            return self.data[:0]
        if section.offset + section.size > len(self.data):
            raise ElfError(f"section {section.name!r} lies beyond the end of the file")
        return self.data[section.offset : section.offset + section.size]

    def debug(self, name: bytes) -> tuple[Section, Data] | None:
        """A section of debug data with its contents, None if there is none."""
        section = self.named(name)
        if section is not None:
            data: Data = self.raw(section)
            if section.flags & SHF_COMPRESSED:
                kind, size, _ = Reader(data).unpack(self._layout.compressed)
                if kind != ZLIB:
                    raise ElfError(f"section {name!r} is compressed in a way that is not understood ({kind})")
                data = _inflated(data[self._layout.compressed.size :], size, name)
        elif (section := self.named(b".z" + name[1:])) is not None:  # as GNU tools did before the ABI had compression
            data = self.raw(section)
            if bytes(data[:4]) != b"ZLIB":
                raise ElfError(f"section {section.name!r} is not compressed")
            data = _inflated(data[12:], int.from_bytes(data[4:12], "big"), name)
        else:
            return None
        if len(data) > LARGEST:
            raise ElfError(f"section {name!r} has {len(data) // MIB} MiB; at most {LARGEST // MIB} are read")
        return section, data

    def _read(self, *, offset: int, size: int, count: int, names: int) -> list[Section]:
        layout = self._layout.section
        if not offset:
            return []
        if size < layout.size:
            raise ElfError(f"section headers of {size} bytes are too small")
        first = Reader(self.data, min(offset, len(self.data))).unpack(layout)
        count = count or first[5]
        names = first[6] if names == EXTENDED else names
        if count > MOST_SECTIONS:
            raise ElfError(f"it has {count} sections; at most {MOST_SECTIONS} are read")
        if offset + count * size > len(self.data):
            raise ElfError("its section headers lie beyond the end of the file")
        found = [layout.unpack_from(self.data, offset + index * size) for index in range(count)]
        texts = found[names][4] if names < count else len(self.data)
        return [
            Section(self._name(texts + name), kind, flags, address, at, length, link)
            for name, kind, flags, address, at, length, link, *_ in found
        ]

    def _name(self, at: int) -> bytes:
        return bytes(self.data[at : at + LONGEST_SECTION_NAME]).partition(b"\0")[0]


def _inflated(data: Data, size: int, name: bytes) -> bytes:
    """Contents that become ``size`` bytes, as their head says; what a file says of itself may be a lie."""
    if size > LARGEST:
        raise ElfError(f"section {name!r} has {size // MIB} MiB; at most {LARGEST // MIB} are read")
    try:
        found = zlib.decompressobj().decompress(data, size + 1)
    except zlib.error as error:
        raise ElfError(f"section {name!r} cannot be decompressed: {error}") from error
    if len(found) != size:
        raise ElfError(f"section {name!r} does not have the {size} bytes that it announces")
    return found
