"""A line number program (DWARF 5, 6.2): its header, and the rows that it makes when it is run."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from hypervisor.elf.reader import Data, ElfError, Reader, shown, text_at

DW_LNS_COPY, DW_LNS_ADVANCE_PC, DW_LNS_ADVANCE_LINE, DW_LNS_SET_FILE = 1, 2, 3, 4
DW_LNS_CONST_ADD_PC, DW_LNS_FIXED_ADVANCE_PC = 8, 9
DW_LNE_END_SEQUENCE, DW_LNE_SET_ADDRESS = 1, 2
DW_LNCT_PATH = 1
MASK = (1 << 64) - 1


class Unit(NamedTuple):
    """Where a unit's line program is in its section: the header behind its length, the end, the size of offsets."""

    start: int
    end: int
    offset_size: int


@dataclass(frozen=True)
class Sequence:
    """Rows of ascending addresses up to ``end``: instructions of one piece of code."""

    end: int
    addresses: array[int]
    files: array[int]
    lines: array[int]

    def rows(self) -> Iterator[tuple[int, int]]:
        """File and line of each row that has an instruction."""
        for row, following in enumerate((*self.addresses[1:], self.end)):
            if self.addresses[row] < following:
                yield self.files[row], self.lines[row]


@dataclass(frozen=True)
class Program:
    """A unit's sequences, and its files as it numbers them."""

    sequences: list[Sequence]
    files: list[bytes]
    first_file: int

    def line(self, address: int) -> tuple[str, int] | None:
        """File and line at an address."""
        for sequence in self.sequences:
            if sequence.addresses[0] <= address < sequence.end:
                row = bisect_right(sequence.addresses, address) - 1
                return self._file(sequence.files[row]), sequence.lines[row]
        return None

    def all_lines(self) -> set[tuple[str, int]]:
        """Files and lines of all instructions."""
        rows = {row for sequence in self.sequences for row in sequence.rows()}
        return {(self._file(number), line) for number, line in rows}

    def _file(self, number: int) -> str:
        number -= self.first_file
        return shown(self.files[number]) if 0 <= number < len(self.files) else "?"


class _Header(NamedTuple):
    minimum: int
    operations: int
    line_base: int
    line_range: int
    opcode_base: int
    lengths: bytes
    files: list[bytes]
    first_file: int


def run(data: Data, unit: Unit, texts: list[Data]) -> Program:
    """Run a unit's program. Raises `ElfError` if its header is damaged; what it tells before it is damaged counts."""
    reader = Reader(data, unit.start, unit.end)
    header = _header(reader, unit.offset_size, texts)
    return Program(list(_sequences(reader, header)), header.files, header.first_file)


def _header(reader: Reader, offset_size: int, texts: list[Data]) -> _Header:
    """The header (6.2.4), behind which the program begins."""
    version = reader.number(2)
    if not 2 <= version <= 5:
        raise ElfError(f"version {version} of DWARF's lines is not understood")
    if version >= 5:
        reader.skip(2)  # address_size, segment_selector_size
    length = reader.number(offset_size)
    program = reader.at + length
    minimum = reader.byte()
    operations = reader.byte() if version >= 4 else 1
    reader.skip(1)  # default_is_stmt
    line_base, line_range, opcode_base = reader.signed(1), reader.byte(), reader.byte()
    if not line_range or not opcode_base:
        raise ElfError("a header of DWARF's lines has a range or an opcode base of 0")
    lengths = bytes(reader.byte() for _ in range(opcode_base - 1))
    if version >= 5:
        _names(reader, offset_size, texts)
        files = _names(reader, offset_size, texts)
    else:
        while reader.text():
            pass
        files = []
        while name := reader.text():
            files.append(name)
            for _ in range(3):  # directory, time, size
                reader.uleb()
    reader.skip(program - reader.at)
    return _Header(minimum, operations, line_base, line_range, opcode_base, lengths, files, int(version < 5))


def _names(reader: Reader, offset_size: int, texts: list[Data]) -> list[bytes]:
    """The directories or files of DWARF 5: a description of the entries, and the entries."""
    layout = [(reader.uleb(), reader.uleb()) for _ in range(reader.byte())]
    count = reader.uleb()
    if not layout or count > reader.end - reader.at:  # an entry has a byte at least
        return []
    return [_name(reader, layout, offset_size, texts) for _ in range(count)]


def _name(reader: Reader, layout: list[tuple[int, int]], offset_size: int, texts: list[Data]) -> bytes:
    name = b"?"
    for content, form in layout:
        value = _form(reader, form, offset_size, texts)
        if content == DW_LNCT_PATH:
            name = value
    return name


FIXED_FORMS = {0x0B: 1, 0x05: 2, 0x06: 4, 0x07: 8, 0x1E: 16}
"""DW_FORM_data1, 2, 4, 8, 16: bytes."""


def _form(reader: Reader, form: int, offset_size: int, texts: list[Data]) -> bytes:
    """A value of an entry (7.5.6), which has a byte at least; its text if it is one."""
    match form:
        case 0x08:  # DW_FORM_string
            return reader.text()
        case 0x1F | 0x0E:  # DW_FORM_line_strp, DW_FORM_strp
            return text_at(texts[form == 0x0E], reader.number(offset_size))
        case 0x0F:  # DW_FORM_udata
            reader.uleb()
        case 0x09:  # DW_FORM_block
            reader.skip(reader.uleb())
        case _ if form in FIXED_FORMS:
            reader.skip(FIXED_FORMS[form])
        case _:
            raise ElfError(f"form {form:#x} in a header of DWARF's lines is not understood")
    return b""


def _sequences(reader: Reader, header: _Header) -> Iterator[Sequence]:
    """The sequences of a program, up to where it is damaged."""
    try:
        while True:
            sequence = _sequence(reader, header)
            if sequence.addresses:
                yield sequence
    except ElfError:
        return


def _sequence(reader: Reader, header: _Header) -> Sequence:
    """Run a program up to the end of a sequence (6.2.5)."""
    minimum, base, opcode_base, line_range = header.minimum, header.line_base, header.opcode_base, header.line_range
    address, file, line = 0, 1, 1
    addresses, files, lines = array("Q"), array("Q"), array("Q")

    def row() -> None:
        addresses.append(address & MASK)
        files.append(file & MASK)
        lines.append(line & MASK)

    while True:
        opcode = reader.byte()
        if opcode >= opcode_base:
            advance, lines_on = divmod(opcode - opcode_base, line_range)
            address += advance * minimum
            line += base + lines_on
            row()
        elif opcode == DW_LNS_COPY:
            row()
        elif opcode == DW_LNS_ADVANCE_PC:
            address += reader.uleb() * minimum
        elif opcode == DW_LNS_ADVANCE_LINE:
            line += reader.sleb()
        elif opcode == DW_LNS_SET_FILE:
            file = reader.uleb()
        elif opcode == DW_LNS_CONST_ADD_PC:
            address += (255 - opcode_base) // line_range * minimum
        elif opcode == DW_LNS_FIXED_ADVANCE_PC:
            address += reader.number(2)
        elif opcode:  # a standard opcode that changes no address, file or line, or a later one
            for _ in range(header.lengths[opcode - 1]):
                reader.uleb()
        else:
            size = reader.uleb()
            following = reader.at + size
            extended = reader.byte() if size else 0
            if extended == DW_LNE_END_SEQUENCE:
                reader.skip(following - reader.at)
                return Sequence(address & MASK, addresses, files, lines)
            if extended == DW_LNE_SET_ADDRESS:
                address = reader.number(min(size - 1, 8))
            reader.skip(following - reader.at)
