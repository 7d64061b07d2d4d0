"""The rules of a function's call frames (DWARF 5, 6.4.2), carried out up to an instruction."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from hypervisor.elf.reader import Data, ElfError, Reader
from hypervisor.units import KIB

LONGEST_RULES = 16 * KIB
"""Bytes of the rules of one function."""
DEEPEST = 64
"""Rows that DW_CFA_remember_state keeps."""

ABSOLUTE = 0x00
"""DW_EH_PE_absptr: an address as it is."""


@dataclass(frozen=True)
class Row:
    """The rules at an instruction: the caller's stack pointer is register ``register`` and ``offset``, and ``saved``
    has the distance from there to where a register's value in the caller lies. ``register`` is None where the rule is
    an expression. ``back`` is the number of the return address, ``pointer`` that of the frame pointer.
    """

    back: int
    pointer: int
    register: int | None = None
    offset: int = 0
    saved: dict[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Common:
    """A common information entry."""

    code_factor: int
    data_factor: int
    back: int
    encoding: int
    augmented: bool
    address_size: int
    rules: tuple[int, int]


class Rules:
    """The instructions of an entry (6.4.2), carried out up to an address from the row that ``first`` is."""

    def __init__(self, data: Data, common: Common, where: tuple[int, int], first: Row) -> None:
        if where[1] - where[0] > LONGEST_RULES:
            raise ElfError(f"the rules of a function have more than {LONGEST_RULES // KIB} KiB")
        self._reader = Reader(data, *where)
        self._common = common
        self._first = first
        self._followed = (first.back, first.pointer)
        self._register, self._offset, self._saved = first.register, first.offset, dict(first.saved)
        self._kept: list[tuple[int | None, int, dict[int, int]]] = []

    def run(self, location: int, address: int) -> Row:
        """The row at ``address``, of rules that begin at ``location``."""
        reader, factor = self._reader, self._common.code_factor
        while reader.at < reader.end:
            opcode = reader.byte()
            match opcode >> 6, opcode & 0x3F:
                case 1, advance:
                    location += advance * factor
                case 2, register:
                    self._save(register, reader.uleb() * self._common.data_factor)
                case 3, register:
                    self._restore(register)
                case 0, 0x01:  # DW_CFA_set_loc
                    if self._common.encoding != ABSOLUTE:
                        raise ElfError("an encoded DW_CFA_set_loc is not understood")
                    location = reader.number(self._common.address_size)
                case 0, (0x02 | 0x03 | 0x04) as size:  # DW_CFA_advance_loc1, 2, 4
                    location += reader.number(1 << size - 2) * factor
                case 0, other:
                    self._other(other)
            if location > address:
                break
        return replace(self._first, register=self._register, offset=self._offset, saved=self._saved)

    def _other(self, opcode: int) -> None:
        reader, factor = self._reader, self._common.data_factor
        match opcode:
            case 0x00:  # DW_CFA_nop
                pass
            case 0x05:  # DW_CFA_offset_extended
                self._save(reader.uleb(), reader.uleb() * factor)
            case 0x11:  # DW_CFA_offset_extended_sf
                self._save(reader.uleb(), reader.sleb() * factor)
            case 0x06:  # DW_CFA_restore_extended
                self._restore(reader.uleb())
            case 0x07 | 0x08:  # DW_CFA_undefined, DW_CFA_same_value
                self._saved.pop(reader.uleb(), None)
            case 0x09 | 0x14:  # DW_CFA_register, DW_CFA_val_offset
                self._saved.pop(reader.uleb(), None)
                reader.uleb()
            case 0x15:  # DW_CFA_val_offset_sf
                self._saved.pop(reader.uleb(), None)
                reader.sleb()
            case 0x10 | 0x16:  # DW_CFA_expression, DW_CFA_val_expression
                self._saved.pop(reader.uleb(), None)
                reader.skip(reader.uleb())
            case 0x0A:  # DW_CFA_remember_state
                if len(self._kept) == DEEPEST:
                    raise ElfError(f"a function's rules remember more than {DEEPEST} states")
                self._kept.append((self._register, self._offset, dict(self._saved)))
            case 0x0B:  # DW_CFA_restore_state
                if not self._kept:
                    raise ElfError("a function's rules restore a state that they have not remembered")
                self._register, self._offset, self._saved = self._kept.pop()
            case 0x0C:  # DW_CFA_def_cfa
                self._register, self._offset = reader.uleb(), reader.uleb()
            case 0x12:  # DW_CFA_def_cfa_sf
                self._register, self._offset = reader.uleb(), reader.sleb() * factor
            case 0x0D:  # DW_CFA_def_cfa_register
                self._register = reader.uleb()
            case 0x0E:  # DW_CFA_def_cfa_offset
                self._offset = reader.uleb()
            case 0x13:  # DW_CFA_def_cfa_offset_sf
                self._offset = reader.sleb() * factor
            case 0x0F:  # DW_CFA_def_cfa_expression
                self._register = None
                reader.skip(reader.uleb())
            case 0x2E:  # DW_CFA_GNU_args_size
                reader.uleb()
            case _:
                raise ElfError(f"the rule {opcode:#x} of a function is not understood")

    def _save(self, register: int, distance: int) -> None:
        if register in self._followed:
            self._saved[register] = distance

    def _restore(self, register: int) -> None:
        """As the common entry has it."""
        if register in self._first.saved:
            self._saved[register] = self._first.saved[register]
        else:
            self._saved.pop(register, None)
