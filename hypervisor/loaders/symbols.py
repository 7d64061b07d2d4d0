"""Symbols of an ELF image, read when somebody first looks: a kernel has a hundred thousand and most runs need none."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping

from hypervisor.errors import ImageError
from hypervisor.loaders.elf_file import ElfFile
from hypervisor.loaders.image import Image

SHT_SYMTAB = 2
SHN_UNDEF = 0
NOTYPE, OBJECT, FUNCTION = 0, 1, 2
LOCAL = 0


class ElfSymbols(Mapping[str, int]):
    """Names of functions, objects and plain labels to virtual addresses.

    Where a name occurs twice, a global symbol wins over a local one, and the first over later ones. A file without a
    symbol table, or with a damaged one, has no symbols: the image runs without them.
    """

    def __init__(self, elf: ElfFile) -> None:
        self._elf = elf
        self._table: dict[str, int] | None = None

    def __getitem__(self, name: str) -> int:
        return self._read()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._read())

    def __len__(self) -> int:
        return len(self._read())

    def _read(self) -> dict[str, int]:
        if self._table is None:
            try:
                self._table = _parse(self._elf)
            except ImageError:
                self._table = {}
        return self._table


def _parse(elf: ElfFile) -> dict[str, int]:
    offset, entry_size, count, _ = elf.section_table
    sections = [_section(elf, offset + index * entry_size) for index in range(count)] if offset else []
    table: dict[str, int] = {}
    for kind, start, size, link in sections:
        if kind == SHT_SYMTAB and link < len(sections):
            _, names_start, names_size, _ = sections[link]
            names = elf.image.slice(names_start, names_size, "the symbol names")
            _add(table, elf.bits, elf.image, start, size, names)
    return table


def _section(elf: ElfFile, at: int) -> tuple[int, int, int, int]:
    """Type, file offset, size and link of a section."""
    layout = "<IIIIIII" if elf.bits == 32 else "<IIQQQQI"
    _, kind, _, _, offset, size, link = elf.image.unpack(layout, at, "a section header")
    return kind, offset, size, link


def _add(table: dict[str, int], bits: int, image: Image, start: int, size: int, names: bytes) -> None:
    layout = struct.Struct("<IIIBBH" if bits == 32 else "<IBBHQQ")
    data = image.slice(start, size - size % layout.size, "the symbol table")
    local: dict[str, int] = {}
    for fields in layout.iter_unpack(data):
        if bits == 32:
            name_at, value, _, info, _, section = fields
        else:
            name_at, info, _, section, value, _ = fields
        if section == SHN_UNDEF or info & 0xF not in (NOTYPE, OBJECT, FUNCTION) or not 0 < name_at < len(names):
            continue
        end = names.find(b"\0", name_at)
        name = names[name_at : end if end >= 0 else len(names)].decode(errors="replace")
        (local if info >> 4 == LOCAL else table).setdefault(name, value)
    for name, value in local.items():
        table.setdefault(name, value)
