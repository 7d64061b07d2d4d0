"""Who called a function, by the call frame information of its ELF file: exact, with frame pointers or without."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from hypervisor.elf import CallFrames, ElfError, Row
from hypervisor.symbols.once import Once

ReadWord = Callable[[int], int | None]
"""A word of the stack at an offset in its segment, None where it cannot be read."""


class Registers(NamedTuple):
    """What is known of a function's registers: instruction, stack and frame pointer."""

    ip: int
    sp: int
    bp: int


STACK_POINTER = {32: 4, 64: 7}
"""DWARF's number of ESP and RSP (System V ABI of each architecture)."""


class FrameTable:
    """The call frames of one ELF file, which ``read`` returns; ``base`` is added to its addresses. Read when first
    asked for.
    """

    def __init__(self, read: Callable[[], bytes], base: int = 0) -> None:
        self._frames = Once(lambda: CallFrames(read()))
        self._base = base

    def caller(self, registers: Registers, instruction: int, word: ReadWord, bits: int) -> Registers | None:
        """See `SymbolTable.caller`."""
        frames = self._frames.get()
        if frames is None or frames.bits != bits:
            return None
        try:
            row = frames.row(instruction - self._base)
        except ElfError:
            return None
        if row is None or row.register is None:  # an expression
            return None
        start = {STACK_POINTER[bits]: registers.sp, row.pointer: registers.bp}.get(row.register)
        if start is None:
            return None  # a register that is not followed
        frame = start + row.offset
        back, pointer = _saved(row, row.back, frame, word), _saved(row, row.pointer, frame, word)
        if back is None:
            return None
        return Registers(back, frame, registers.bp if pointer is None else pointer)


def _saved(row: Row, number: int, frame: int, word: ReadWord) -> int | None:
    """A register that the function has saved in its frame."""
    distance = row.saved.get(number)
    return None if distance is None else word(frame + distance)
