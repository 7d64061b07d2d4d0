"""Page translation as the manual has it: APM volume 2, chapter 5; SDM volume 3, chapter 4.

The walk never writes. A successful one lists the accessed and dirty bits it would set; `commit` stores them.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from .state import (
    AC,
    CR0_WP,
    CR4_PAE,
    CR4_PSE,
    CR4_SMAP,
    CR4_SMEP,
    EFER_NXE,
    MASK32,
    MAXPHYADDR,
    Memory,
    State,
)

PAGE_4K, PAGE_2M, PAGE_4M, PAGE_1G = 1 << 12, 1 << 21, 1 << 22, 1 << 30
P, RW, US, A, D, PS, NX = 1 << 0, 1 << 1, 1 << 2, 1 << 5, 1 << 6, 1 << 7, 1 << 63
STACK_FAULT, GENERAL_PROTECTION, PAGE_FAULT = 12, 13, 14


def _bits(low: int, high: int) -> int:
    """A mask of bits ``low`` to ``high``, both included, as the manual writes ``high:low``."""
    return (1 << high + 1) - (1 << low)


ADDRESS = _bits(12, MAXPHYADDR - 1)
BEYOND_PHYSICAL = _bits(MAXPHYADDR, 51)
# Legacy PAE keeps 62:52 reserved too; long mode leaves them to software (APM 2, 5.2.3 and 5.3.3).
PAE_RESERVED = BEYOND_PHYSICAL | _bits(52, 62)
# A PAE page-directory-pointer entry has no R/W, U/S, A, D, PS, G and no NX (APM 2, figure 5-8).
PDPTE_RESERVED = _bits(1, 2) | _bits(5, 8) | BEYOND_PHYSICAL | _bits(52, 63)
# AMD: bit 8 of a PML4 entry, and of a PDP entry that is not a page, must be zero. Intel ignores it.
AMD_BIT8 = 1 << 8


class Access(enum.Enum):
    """What the processor wants to do with the address."""

    READ = "read"
    WRITE = "write"
    EXECUTE = "execute"


@dataclass(frozen=True)
class PteWrite:
    """An accessed/dirty update: ``size`` bytes at ``gpa`` become ``new``."""

    gpa: int
    size: int
    new: int


@dataclass(frozen=True)
class Ok:
    """A translation that succeeds, with the page's own permissions (all levels combined, before WP, SMEP and SMAP)."""

    gpa: int
    page_size: int
    writable: bool
    user: bool
    executable: bool
    writes: tuple[PteWrite, ...]


@dataclass(frozen=True)
class Fault:
    """The exception instead: ``cr2`` is None for all but page faults."""

    vector: int
    error: int
    cr2: int | None = None


@dataclass(frozen=True)
class _Entry:
    gpa: int
    size: int
    value: int
    reserved: int = 0
    checked: bool = True  # False for a PAE PDPTE: it takes no part in permissions and has no accessed bit.


@dataclass
class _Walk:
    entries: list[_Entry]
    base: int
    page_size: int


class _NotPresentError(Exception):
    pass


class _ReservedError(Exception):
    pass


def canonical(va: int) -> bool:
    """Bits 63:47 all equal (APM 2, 5.3.1)."""
    return va >> 47 in (0, 0x1FFFF)


def commit(memory: Memory, ok: Ok) -> None:
    """Store the accessed and dirty bits of a successful translation."""
    for write in ok.writes:
        memory.write(write.gpa, write.new.to_bytes(write.size, "little"))


def translate(
    memory: Memory, state: State, va: int, access: Access, implicit: bool = False, stack: bool = False
) -> Ok | Fault:
    """Translate linear ``va``.

    ``implicit`` marks the processor's own accesses to descriptor tables and TSS: supervisor at any CPL, and SMAP
    does not look at AC for them. ``stack`` makes a non-canonical address #SS(0) instead of #GP(0).
    """
    if state.long_mode:
        if not canonical(va):
            return Fault(STACK_FAULT if stack else GENERAL_PROTECTION, 0)
    else:
        va &= MASK32
    if not state.paging:
        return Ok(va, PAGE_4K, True, True, True, ())

    user = state.cpl == 3 and not implicit
    try:
        if state.long_mode:
            walk = _walk_long(memory, state, va)
        elif state.cr4 & CR4_PAE:
            walk = _walk_pae(memory, state, va)
        else:
            walk = _walk_32(memory, state, va)
    except _NotPresentError:
        return _page_fault(state, va, access, user, present=False, reserved=False)
    except _ReservedError:
        return _page_fault(state, va, access, user, present=True, reserved=True)

    checked = [entry for entry in walk.entries if entry.checked]
    writable = all(entry.value & RW for entry in checked)
    user_page = all(entry.value & US for entry in checked)
    executable = not any(entry.value & NX for entry in checked)  # with NXE clear a set bit was a reserved-bit fault
    if not _permitted(state, access, user, implicit, writable, user_page, executable):
        return _page_fault(state, va, access, user, present=True, reserved=False)

    gpa = walk.base | va & walk.page_size - 1
    return Ok(gpa, walk.page_size, writable, user_page, executable, _updates(checked, access))


def _permitted(
    state: State, access: Access, user: bool, implicit: bool, writable: bool, user_page: bool, executable: bool
) -> bool:
    """APM 2, 5.6; SDM 3, 4.6.1."""
    if user:
        if not user_page:
            return False
        if access is Access.WRITE:
            return writable
        return executable or access is Access.READ
    if access is Access.EXECUTE:
        return executable and not (user_page and state.cr4 & CR4_SMEP)
    if user_page and state.cr4 & CR4_SMAP and (implicit or not state.rflags & AC):
        return False
    return writable or access is Access.READ or not state.cr0 & CR0_WP


def _page_fault(state: State, va: int, access: Access, user: bool, present: bool, reserved: bool) -> Fault:
    """Error code: P 0, W 1, U 2, RSVD 3, I 4 (APM 2, 8.4.2; SDM 3, 4.7 for SMEP's part in bit 4)."""
    no_execute = state.cr4 & CR4_PAE and state.efer & EFER_NXE
    fetch = access is Access.EXECUTE and bool(no_execute or state.cr4 & CR4_SMEP)
    error = present | (access is Access.WRITE) << 1 | user << 2 | reserved << 3 | fetch << 4
    return Fault(PAGE_FAULT, error, va)


def _updates(entries: list[_Entry], access: Access) -> tuple[PteWrite, ...]:
    """A on every level, D on the last one for a write. One entry may serve as several levels (a recursive map)."""
    values: dict[int, PteWrite] = {}
    for level, entry in enumerate(entries):
        last = level == len(entries) - 1
        before = values[entry.gpa].new if entry.gpa in values else entry.value
        after = before | A | (D if last and access is Access.WRITE else 0)
        if after != before:
            values[entry.gpa] = PteWrite(entry.gpa, entry.size, after)
    return tuple(values.values())


def _load(memory: Memory, gpa: int, size: int, reserved: int = 0, checked: bool = True) -> _Entry:
    """Read an entry; absent beats reserved, and either ends the walk at this level."""
    value = int.from_bytes(memory.read(gpa, size), "little")
    if not value & P:
        raise _NotPresentError
    if value & reserved:
        raise _ReservedError
    return _Entry(gpa, size, value, reserved, checked)


def _require_zero(entry: _Entry, reserved: int) -> None:
    """The reserved bits that are known only after looking at the entry's PS bit."""
    if entry.value & reserved:
        raise _ReservedError


def _walk_32(memory: Memory, state: State, va: int) -> _Walk:
    """32-bit entries, 10+10+12 bits; with CR4.PSE 4 MiB pages in a 40-bit space (APM 2, 5.2.2; SDM 3, 4.3)."""
    pde = _load(memory, (state.cr3 & 0xFFFF_F000) + (va >> 22) * 4, 4)
    if pde.value & PS and state.cr4 & CR4_PSE:
        _require_zero(pde, 1 << 21)  # bits 20:13 are address bits 39:32
        base = pde.value & 0xFFC0_0000 | (pde.value >> 13 & 0xFF) << 32
        return _Walk([pde], base, PAGE_4M)
    pte = _load(memory, (pde.value & 0xFFFF_F000) + (va >> 12 & 0x3FF) * 4, 4)
    return _Walk([pde, pte], pte.value & 0xFFFF_F000, PAGE_4K)


def _walk_pae(memory: Memory, state: State, va: int) -> _Walk:
    """64-bit entries, 2+9+9+12 bits (APM 2, 5.2.3). The PDPTE is read from memory by the walk, as AMD may do."""
    reserved = PAE_RESERVED | _nx_reserved(state)
    pdpte = _load(memory, (state.cr3 & 0xFFFF_FFE0) + (va >> 30) * 8, 8, PDPTE_RESERVED, checked=False)
    return _walk_directory(memory, va, [pdpte], reserved)


def _walk_long(memory: Memory, state: State, va: int) -> _Walk:
    """64-bit entries, 9+9+9+9+12 bits (APM 2, 5.3)."""
    reserved = BEYOND_PHYSICAL | _nx_reserved(state)
    pml4e = _load(memory, (state.cr3 & ADDRESS) + (va >> 39 & 0x1FF) * 8, 8, reserved | PS | AMD_BIT8)
    pdpe = _load(memory, (pml4e.value & ADDRESS) + (va >> 30 & 0x1FF) * 8, 8, reserved)
    if pdpe.value & PS:
        _require_zero(pdpe, _bits(13, 29))  # bit 12 is PAT
        return _Walk([pml4e, pdpe], pdpe.value & _bits(30, MAXPHYADDR - 1), PAGE_1G)
    _require_zero(pdpe, AMD_BIT8)
    return _walk_directory(memory, va, [pml4e, pdpe], reserved)


def _walk_directory(memory: Memory, va: int, above: list[_Entry], reserved: int) -> _Walk:
    """The two lowest levels, alike in PAE and long mode."""
    pde = _load(memory, (above[-1].value & ADDRESS) + (va >> 21 & 0x1FF) * 8, 8, reserved)
    if pde.value & PS:
        _require_zero(pde, _bits(13, 20))  # bit 12 is PAT
        return _Walk([*above, pde], pde.value & _bits(21, MAXPHYADDR - 1), PAGE_2M)
    pte = _load(memory, (pde.value & ADDRESS) + (va >> 12 & 0x1FF) * 8, 8, reserved)
    return _Walk([*above, pde, pte], pte.value & ADDRESS, PAGE_4K)


def _nx_reserved(state: State) -> int:
    """Bit 63 is reserved while EFER.NXE is clear."""
    return 0 if state.efer & EFER_NXE else NX
