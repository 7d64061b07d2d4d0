"""Source lines of a guest's code, out of the DWARF data of its ELF file, read when first asked for."""

from __future__ import annotations

from collections.abc import Callable

from hypervisor.elf import Lines, functions
from hypervisor.symbols.once import Once


class LineTable:
    """The lines of one ELF file, which ``read`` returns; ``base`` is added to its addresses.

    A file without line numbers, or with damaged ones, has no lines: a report goes without them.
    """

    def __init__(self, read: Callable[[], bytes], base: int = 0) -> None:
        self._lines = Once(lambda: Lines(read()))
        self._functions = Once(lambda: functions(read()))
        self._base = base

    def line(self, address: int) -> tuple[str, int] | None:
        """File and line number of the instruction at ``address``, or None."""
        lines = self._lines.get()
        return None if lines is None else lines.line(address - self._base)

    def all_lines(self) -> set[tuple[str, int]]:
        """See `hypervisor.elf.Lines.all_lines`."""
        lines = self._lines.get()
        return set() if lines is None else lines.all_lines()

    def functions(self) -> dict[int, str]:
        """See `hypervisor.elf.functions`."""
        return {address + self._base: name for address, name in (self._functions.get() or {}).items()}
