"""Source lines of a guest's code, out of the DWARF data of its ELF file (DWARF 2 to 5), read when first asked for."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from typing import Any

from hypervisor.core.dwarf import read_each

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
        """The rows of every unit."""
        rows: list[Row] = []

        def collect(elf: Any, info: Any) -> None:
            for unit in info.iter_CUs():
                rows.extend(_unit_rows(info.line_program_for_CU(unit)))

        read_each(self._read(), collect)
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
