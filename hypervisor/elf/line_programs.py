"""Source lines by address: the line number programs of DWARF 2 to 5 (DWARF 5, 6.2).

A kernel's line programs have tens of megabytes, and a report asks for a dozen addresses. So only the programs that can
tell of an address are run: each sequence of rows begins with DW_LNE_set_address, whose encoding is looked for, and the
sequences that begin nearest below the address are tried.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from itertools import islice

from hypervisor.elf.line_program import Program, Unit, run
from hypervisor.elf.reader import Data, ElfError
from hypervisor.elf.sections import Sections
from hypervisor.units import MIB

MOST_UNITS = 100_000
MOST_SEQUENCES = 500_000
"""Beginnings of sequences that are kept."""
MOST_RUN = MIB
"""Bytes of line programs that are run in all: less than a second's work. A unit of a kernel has 20 KiB."""
TRIED = 8
"""Units that are tried for an address."""


SET_ADDRESS = {
    32: re.compile(rb"\x00\x05\x02(?=(.{4}))", re.DOTALL),
    64: re.compile(rb"\x00\x09\x02(?=(.{8}))", re.DOTALL),
}
"""An extended opcode's 0, its length, itself, and the address."""


class Lines:
    """The lines of one file. Raises `ElfError` for a file that is damaged; one without lines has none."""

    def __init__(self, data: bytes) -> None:
        sections = Sections(data)
        found = None if sections.relocatable else sections.debug(b".debug_line")
        self._data: Data = b"" if found is None else found[1]
        self._texts: list[Data] = []
        for name in (b".debug_line_str", b".debug_str"):
            found = None if not len(self._data) else sections.debug(name)
            self._texts.append(b"" if found is None else found[1])
        self._units = list(_units(self._data))
        self._programs: dict[Unit, Program | None] = {}
        self._left = MOST_RUN
        begins = sorted(self._beginnings(SET_ADDRESS[sections.bits]))
        self._addresses = [address for address, _ in begins]
        self._of = [unit for _, unit in begins]

    def line(self, address: int) -> tuple[str, int] | None:
        """File and line number of the instruction at ``address``, None where they are not known."""
        tried: set[Unit] = set()
        for index in range(bisect_right(self._addresses, address) - 1, -1, -1):
            unit = self._of[index]
            if unit not in tried:
                program = self._program(unit)
                found = None if program is None else program.line(address)
                if found is not None:
                    return found
                tried.add(unit)
                if len(tried) == TRIED:
                    break
        return None

    def all_lines(self) -> set[tuple[str, int]]:
        """Files and line numbers of all instructions, as far as they can be found without running too much: first
        those of units that `line` was asked for.
        """
        programs = [self._program(unit) for unit in self._units]
        return {line for program in programs if program is not None for line in program.all_lines()}

    def _beginnings(self, pattern: re.Pattern[bytes]) -> Iterator[tuple[int, Unit]]:
        """Addresses that sequences begin at, with their unit: all there are, and what only looks like one."""
        starts = [unit.start for unit in self._units]
        for match in islice(pattern.finditer(self._data), MOST_SEQUENCES):
            index = bisect_right(starts, match.start()) - 1
            if index >= 0 and match.end(1) <= self._units[index].end:
                yield int.from_bytes(match[1], "little"), self._units[index]

    def _program(self, unit: Unit) -> Program | None:
        """A unit's program, run; None if it is damaged, or if enough have been run."""
        if unit not in self._programs:
            size = unit.end - unit.start
            if size > self._left:
                return None
            self._left -= size
            try:
                self._programs[unit] = run(self._data, unit, self._texts)
            except ElfError:
                self._programs[unit] = None
        return self._programs[unit]


def _units(data: Data) -> Iterator[Unit]:
    """The units of a section, up to one that is damaged."""
    at = 0
    for _ in range(MOST_UNITS):
        if at + 4 > len(data):
            return
        size, offset_size = int.from_bytes(data[at : at + 4], "little"), 4
        at += 4
        if size == 0xFFFFFFFF:
            size, offset_size = int.from_bytes(data[at : at + 8], "little"), 8
            at += 8
        if not 0 < size <= len(data) - at:
            return
        yield Unit(at, at + size, offset_size)
        at += size
