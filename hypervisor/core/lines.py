"""Source lines of a guest's code, out of the DWARF data of its ELF file (DWARF 2 to 5), read when first asked for."""

from __future__ import annotations

import io
from bisect import bisect_right
from collections.abc import Callable, Iterator
from typing import Any

LARGEST_FILE = 256 << 20
"""Bytes of an ELF file beyond which its lines are not looked up: reading them would take minutes."""

_STUMBLES = (
    ValueError, KeyError, IndexError, ArithmeticError, AssertionError, TypeError, AttributeError, NotImplementedError,
)  # fmt: skip
"""What pyelftools raises besides its own errors where a file is damaged."""

Row = tuple[int, str, int]
"""Address, file, line; an empty file ends a sequence."""


class LineTable:
    """The lines of one ELF file, which ``read`` returns; ``base`` is added to its addresses.

    A file without line numbers, or with damaged ones, has no lines: a report goes without them.
    """

    def __init__(self, read: Callable[[], bytes], base: int = 0) -> None:
        self._read = read
        self._base = base
        self._rows: tuple[list[int], list[tuple[str, int]]] | None = None

    def line(self, address: int) -> tuple[str, int] | None:
        """File and line number of the instruction at ``address``, or None."""
        if self._rows is None:
            rows = sorted(self._load(), key=lambda row: (row[0], bool(row[1])))
            self._rows = [row[0] for row in rows], [(row[1], row[2]) for row in rows]
        addresses, places = self._rows
        index = bisect_right(addresses, address - self._base) - 1
        return places[index] if index >= 0 and places[index][0] else None

    def _load(self) -> list[Row]:
        """The rows of every unit. pyelftools is imported late: most runs need no line."""
        from elftools.common.exceptions import DWARFError, ELFError
        from elftools.construct import ConstructError
        from elftools.elf.elffile import ELFFile

        data = self._read()
        if len(data) > LARGEST_FILE or data[:4] != b"\x7fELF":
            return []
        rows: list[Row] = []
        try:
            elf = ELFFile(io.BytesIO(data))
            if elf.has_dwarf_info():
                for unit in (info := elf.get_dwarf_info()).iter_CUs():
                    rows += _unit_rows(info.line_program_for_CU(unit))
        except (ELFError, DWARFError, ConstructError, *_STUMBLES):
            return rows  # damaged: what was read until here is used
        return rows


def _unit_rows(program: Any) -> Iterator[Row]:
    """A compilation unit's rows (DWARF 5, 6.2)."""
    if program is None:
        return
    header = program.header
    for entry in program.get_entries():
        state = entry.state
        if state is None:
            continue
        if state.end_sequence:
            yield state.address, "", 0
        else:
            yield state.address, _file(header, state.file), state.line


def _file(header: Any, number: int) -> str:
    """A file's name as the compiler was given it: DWARF 5 counts files from 0, earlier ones from 1."""
    files = header["file_entry"]
    index = number if header["version"] >= 5 else number - 1
    name = files[index].name if 0 <= index < len(files) else b"?"
    return str(name.decode(errors="replace") if isinstance(name, bytes) else name)
