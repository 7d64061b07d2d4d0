"""From the compiler's object files to one piece of machine code, which later processes load without a linker.

The objects are ELF files for x86-64 (System V Application Binary Interface, AMD64 supplement, 4.1 to 4.4) in the large
code model: all that refers to something does so by a word of 64 bits with its address. So the piece is linked as if it
began at address 0, beside a list of the words to which its address is added, and of those that are the address of
something else in the process. No object needs anything of another.
"""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from hypervisor.errors import EngineError

_HEADER, _SECTION, _SYMBOL, _RELOCATION = map(struct.Struct, ("<40xQ10xHHH", "<IIQQQQIIQQ", "<IBBHQQ", "<QQq"))
_IN_MEMORY, _SYMBOLS, _RELOCATIONS, _ZEROS, _UNWINDING = 2, 2, 4, 8, 0x70000001  # flag; types of sections
_UNDEFINED, _COMMON = 0, (0xFFF2, 0xFF02)  # instead of a symbol's section; the other one is of the large model
_ABSOLUTE, _RELATIVE = 1, 24  # R_X86_64_64, R_X86_64_PC64
_WORD = struct.Struct("<q")


class Linked(NamedTuple):
    """Machine code that begins at address 0."""

    content: bytes
    entries: dict[str, int]
    """Where functions begin, by name."""
    own: list[int]
    """Where words are to which the address of the whole is added."""
    outside: dict[str, list[int]]
    """Where words are that get the address of what the process knows by this name."""
    unwinding: int
    """Where it says how its frames are unwound (``.eh_frame``), up to a word of 0."""


class _Section(NamedTuple):
    name: int
    type: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int
    alignment: int
    row_size: int


class _Object:
    """One object file."""

    def __init__(self, content: bytes) -> None:
        at, size, count, _ = _HEADER.unpack_from(content)
        self.content = content
        self.sections = [_Section(*_SECTION.unpack_from(content, at + size * n)) for n in range(count)]

    def contents(self, section: _Section) -> bytes:
        """What is in a section."""
        if section.type == _ZEROS:
            return bytes(section.size)
        return self.content[section.offset : section.offset + section.size]

    def rows(self, section: _Section, shape: struct.Struct) -> Iterator[tuple[int, ...]]:
        """The rows of a table."""
        return shape.iter_unpack(self.contents(section))

    def name(self, symbols: _Section, at: int) -> str:
        """Of a symbol of this table."""
        start = self.sections[symbols.link].offset + at
        return self.content[start : self.content.index(b"\0", start)].decode()


def link(objects: Mapping[str, tuple[str, bytes]]) -> Linked:
    """Objects by the names of their functions, each with that function's symbol. Raises `EngineError`."""
    content = bytearray()
    own: list[int] = []
    outside: defaultdict[str, list[int]] = defaultdict(list)
    read = {name: (symbol, _Object(file)) for name, (symbol, file) in objects.items()}
    places: dict[str, dict[int, int]] = {name: {} for name in read}
    for unwinding in (False, True):  # what says how frames are unwound is in one piece, behind all the rest
        content += bytes(-len(content) % 8)
        start = len(content)
        for name, (_, file) in read.items():
            for number, section in enumerate(file.sections):
                if section.flags & _IN_MEMORY and (section.type == _UNWINDING) is unwinding:
                    content += bytes(0 if unwinding else -len(content) % section.alignment)
                    places[name][number] = len(content)
                    content += file.contents(section)
    content += bytes(8)
    entries = {}
    for name, (symbol, file) in read.items():
        found = _relocate(content, file, places[name], own, outside)
        if symbol not in found:
            raise EngineError(f"The compiled kernel {name} has no symbol {symbol}.")
        entries[name] = found[symbol]
    return Linked(bytes(content), entries, own, dict(outside), start)


def _relocate(
    content: bytearray, file: _Object, places: dict[int, int], own: list[int], outside: defaultdict[str, list[int]]
) -> dict[str, int]:
    """Let what an object's sections in ``content`` refer to be there; where its symbols are."""
    table = next(section for section in file.sections if section.type == _SYMBOLS)
    symbols: list[tuple[str, int | None]] = []
    for at, _, _, section, value, size in file.rows(table, _SYMBOL):
        where = places[section] + value if section in places else None
        if section in _COMMON:
            content += bytes(-len(content) % value)  # its alignment
            where = len(content)
            content += bytes(size)
        symbols.append((file.name(table, at), where))
    for relocations in file.sections:
        if relocations.type != _RELOCATIONS or relocations.info not in places:
            continue
        for offset, info, addend in file.rows(relocations, _RELOCATION):
            at, kind, (name, where) = places[relocations.info] + offset, info & 0xFFFFFFFF, symbols[info >> 32]
            if kind == _RELATIVE and where is not None:
                _WORD.pack_into(content, at, where + addend - at)
            elif kind == _ABSOLUTE and where is not None:
                _WORD.pack_into(content, at, where + addend)
                own.append(at)
            elif kind == _ABSOLUTE and addend == 0 and name:
                outside[name].append(at)
            else:
                raise EngineError(f"The compiled kernels refer to {name or 'something'} in a way that is not known.")
    return {name: where for name, where in symbols if where is not None}


__all__ = ["Linked", "link"]
