"""The symbol table of an ELF file (System V ABI, chapter 4, "Symbol Table")."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from hypervisor.elf.reader import LONGEST_NAME, ElfError, shown
from hypervisor.elf.sections import Sections
from hypervisor.units import MIB

MOST_SYMBOLS = 500_000
"""Entries of a symbol table; a Linux kernel has half of that."""
MOST_TEXT = 64 * MIB
"""Bytes of all names together: names may share their ends, so a small file can have much of it."""

SHT_SYMTAB, SHT_DYNSYM = 2, 11
SHN_UNDEF = 0
KINDS = frozenset((0, 1, 2, 10))
"""Untyped labels, objects, functions, and GNU's indirect functions."""
LOCAL = 0
ENTRIES = {32: struct.Struct("<IIIBBH"), 64: struct.Struct("<IBBHQQ")}


FUNCTION = 2


class Symbol(NamedTuple):
    """An entry of the table that is a place in the file's code or data."""

    name: str
    address: int
    local: bool
    function: bool


def symbols(data: bytes) -> dict[str, int]:
    """Names of functions, objects and plain labels to virtual addresses, of the file's symbol table, or else of its
    dynamic one.

    Where a name occurs twice, a global symbol wins over a local one, and the first over later ones. A name that does
    not end within `LONGEST_NAME` bytes is left out. Raises `ElfError` for a damaged file and for one beyond the limits.
    """
    found: dict[str, int] = {}
    local: dict[str, int] = {}
    for each in _entries(data):
        (local if each.local else found).setdefault(each.name, each.address)
    for name, value in local.items():
        found.setdefault(name, value)
    return found


def functions(data: bytes) -> dict[int, str]:
    """Where functions begin, in order, and their names, as far as the table says what is one. Local ones may share a
    name; of several names for one address a global one counts, of these the shortest.

    Raises `ElfError` as `symbols` does.
    """
    ordered = sorted((e.address, e.local, len(e.name), e.name) for e in _entries(data) if e.function)
    found: dict[int, str] = {}
    for address, _, _, name in ordered:
        found.setdefault(address, name)
    return found


def _entries(data: bytes) -> Iterator[Symbol]:
    sections = Sections(data)
    table = sections.first(SHT_SYMTAB) or sections.first(SHT_DYNSYM)
    if table is None:
        return
    if table.link >= len(sections.all):
        raise ElfError("its symbol table has no names")
    layout = ENTRIES[sections.bits]
    entries = sections.raw(table)
    count = len(entries) // layout.size
    if count > MOST_SYMBOLS:
        raise ElfError(f"it has {count} symbols; at most {MOST_SYMBOLS} are read")
    names = bytes(sections.raw(sections.all[table.link]))
    text = 0
    for fields in layout.iter_unpack(entries[: count * layout.size]):
        if sections.bits == 32:
            name_at, value, _, info, _, section = fields
        else:
            name_at, info, _, section, value, _ = fields
        if section == SHN_UNDEF or info & 0xF not in KINDS or not 0 < name_at < len(names):
            continue
        end = names.find(b"\0", name_at, name_at + LONGEST_NAME + 1)
        if end <= name_at:
            continue
        text += end - name_at
        if text > MOST_TEXT:
            raise ElfError(f"the names of its symbols have more than {MOST_TEXT // MIB} MiB")
        yield Symbol(shown(names[name_at:end]), value, info >> 4 == LOCAL, info & 0xF == FUNCTION)
