"""Who called a function, by the call frame information of its ELF file (DWARF 5, 6.4): exact, frame pointers or not."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from operator import itemgetter
from typing import Any, NamedTuple

from hypervisor.core.dwarf import damage, read_each

ReadWord = Callable[[int], int | None]
"""A word of the stack at an offset in its segment, None where it cannot be read."""


class Registers(NamedTuple):
    """What is known of a function's registers: instruction, stack and frame pointer."""

    ip: int
    sp: int
    bp: int


class _Numbers(NamedTuple):
    """DWARF's numbers of registers (System V ABI of each architecture)."""

    sp: int
    bp: int


_NUMBERS = {32: _Numbers(sp=4, bp=5), 64: _Numbers(sp=7, bp=6)}


class FrameTable:
    """The call frames of one ELF file, which ``read`` returns; ``base`` is added to its addresses. Read when first
    asked for: ``.eh_frame``, or ``.debug_frame`` where there is none.
    """

    def __init__(self, read: Callable[[], bytes], base: int = 0) -> None:
        self._read = read
        self._base = base
        self._bits = 0
        self._entries: list[tuple[int, int, Any]] | None = None  # first address, end, FDE

    def caller(self, registers: Registers, instruction: int, word: ReadWord, bits: int) -> Registers | None:
        """See `SymbolTable.caller`."""
        row = self._row(instruction - self._base)
        if row is None or bits != self._bits:
            return None
        cfa, numbers = row["cfa"], _NUMBERS[bits]
        start = {numbers.sp: registers.sp, numbers.bp: registers.bp}.get(cfa.reg)
        if start is None:
            return None  # an expression, or a register that is not followed
        frame = start + cfa.offset
        back, pointer = _saved(row, row["return"], frame, word), _saved(row, numbers.bp, frame, word)
        if back is None:
            return None
        return Registers(back, frame, registers.bp if pointer is None else pointer)

    def _row(self, address: int) -> dict[Any, Any] | None:
        """The rules at an address, with the return address's number as ``return``."""
        if self._entries is None:
            self._entries = self._load()
        index = bisect_right(self._entries, address, key=itemgetter(0)) - 1
        if index < 0 or address >= self._entries[index][1]:
            return None
        entry = self._entries[index][2]
        try:
            rows = [row for row in entry.get_decoded().table if row["pc"] <= address]
        except damage():
            return None
        return {**rows[-1], "return": entry.cie["return_address_register"]} if rows else None

    def _load(self) -> list[tuple[int, int, Any]]:
        found: list[tuple[int, int, Any]] = []

        def collect(elf: Any, info: Any) -> None:
            self._bits = elf.elfclass
            for entry in info.EH_CFI_entries() if info.has_EH_CFI() else info.CFI_entries() if info.has_CFI() else ():
                if "initial_location" in getattr(entry, "header", ()):  # an FDE, and not what ends the list
                    start = entry["initial_location"]
                    found.append((start, start + entry["address_range"], entry))

        read_each(self._read(), collect)
        return sorted(found, key=itemgetter(0))


def _saved(row: dict[Any, Any], number: int, frame: int, word: ReadWord) -> int | None:
    """A register that the function has saved in its frame."""
    rule = row.get(number)
    return word(frame + rule.arg) if rule is not None and rule.type == "OFFSET" else None
