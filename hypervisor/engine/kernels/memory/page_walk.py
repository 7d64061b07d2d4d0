"""The first-stage page walk, for every paging mode of a PC (AMD64 APM volume 2, chapter 5)."""

from __future__ import annotations

from hypervisor.arch.flags import (
    CR0_PG,
    CR0_WP,
    CR4_PAE,
    CR4_PSE,
    CR4_SMAP,
    CR4_SMEP,
    EFER_LMA,
    EFER_NXE,
    PAGE_FAULT_NAMES,
)
from hypervisor.arch.vectors import GP, PF
from hypervisor.engine import block as b_
from hypervisor.engine import layout as l_
from hypervisor.engine.jit import inlined, kernel, ld32, ld64, seldom, st32, st64
from hypervisor.engine.kernels.memory.access import host_address, own_address
from hypervisor.engine.kernels.memory.notes import written
from hypervisor.engine.kernels.memory.walked_tables import find_entry, keep_table

_ENV, _CR0, _CR3, _CR4, _EFER = b_.ENV, l_.CR0, l_.CR3, l_.CR4, l_.EFER
_W_VECTOR, _W_ERROR, _W_PERM, _W_SHIFT = b_.W_VECTOR, b_.W_ERROR, b_.W_PERM, b_.W_SHIFT

READ, WRITE, FETCH = 0, 1, 2
"""Kinds of access."""
USER, IMPLICIT, AC, PEEK = 1, 2, 4, 8
"""How an access is made: from CPL 3; by the CPU itself (descriptor tables, the TSS); with RFLAGS.AC set; without
setting accessed and dirty bits."""

_ADDRESS = 0x000FFFFFFFFFF000
_RESERVED_HIGH = 0x000FFF0000000000  # bits 51:40, MAXPHYADDR = 40
_RESERVED_PAE = 0x7FFFFF0000000000  # bits 62:40
_RESERVED_2M = 0x1FE000  # of an entry for 2 MiB
_NX = -(1 << 63)
_ACCESSED, _DIRTY, _LARGE = 0x20, 0x40, 0x80
_AMD_BIT8 = 0x100  # must be zero in a PML4 entry and in a PDP entry that is no page (APM volume 2, 5.3.3)
_RAM = b_.RAM
_PRESENT, _WRITE, _USER, _RESERVED, _FETCH = PAGE_FAULT_NAMES.values()  # of an error code


@kernel
def _fault(b, vector, error):  # type: ignore[no-untyped-def]
    st64(b + _W_VECTOR, vector)
    st64(b + _W_ERROR, error)
    return -1


@kernel
def _mark(b, gpa, bits):  # type: ignore[no-untyped-def]
    """Set accessed and dirty bits in the entry at ``gpa``. Tables in read-only memory stay as they are."""
    where = own_address(b, gpa)
    if where:
        st32(where, ld32(where) | bits)
        written(b, where - ld64(b + _RAM), 4)
    return 0


@kernel
def _find_table(b, level, gpa):  # type: ignore[no-untyped-def]
    """The process address of an entry whose table has not been walked last, 0 where there is no memory."""
    seldom()
    where = host_address(b, gpa)
    if where:
        keep_table(b, level, gpa, where)
    return where


@inlined
def _entry_at(b, level, gpa):  # type: ignore[no-untyped-def]
    """The process address of the entry at guest-physical ``gpa`` of a table of this level, 0 where is no memory."""
    where = find_entry(b, level, gpa)
    return where if where else _find_table(b, level, gpa)


@inlined
def _permissions(how, cr0, cr4, us, rw, nx):  # type: ignore[no-untyped-def]
    """What entries grant together: 1 read, 2 write, 4 execute."""
    user = 1 if how & USER and how & IMPLICIT == 0 else 0
    perm = 1
    if user:
        if us == 0:
            perm = 0
    elif us and cr4 & CR4_SMAP and (how & IMPLICIT or how & AC == 0):
        perm = 0  # SMAP: no supervisor data access to a user page
    if perm and (rw or (user == 0 and cr0 & CR0_WP == 0)):
        perm = 3
    executable = nx == 0 and not (user and us == 0) and not (user == 0 and us and cr4 & CR4_SMEP)
    return perm | 4 if executable else perm


@inlined
def _needs(access):  # type: ignore[no-untyped-def]
    return 4 if access == FETCH else (2 if access == WRITE else 1)


@inlined
def _walk_unmarked(b, va, access, how):  # type: ignore[no-untyped-def]
    """`_walk` in long mode where all entries are as they should be, and marked already; -1 where it must look closer.

    Most walks are such, so each entry is only read here, and what holds for all of them is asked once.
    """
    env = ld64(b + _ENV)
    if (va >> 47) != 0 and (va >> 47) != -1:
        return -1
    at = _entry_at(b, 0, (ld64(env + _CR3) & _ADDRESS) + ((va >> 39) & 0x1FF) * 8)
    if at == 0:
        return -1
    first = ld64(at)
    at = _entry_at(b, 1, (first & _ADDRESS) + ((va >> 30) & 0x1FF) * 8)
    if at == 0:
        return -1
    second = ld64(at)
    at = _entry_at(b, 2, (second & _ADDRESS) + ((va >> 21) & 0x1FF) * 8)
    if at == 0:
        return -1
    entry = ld64(at)
    every, some = first & second & entry, first | second | entry
    shift = 21
    if entry & _LARGE == 0:
        at = _entry_at(b, 3, (entry & _ADDRESS) + ((va >> 12) & 0x1FF) * 8)
        if at == 0:
            return -1
        entry = ld64(at)
        every, some = every & entry, some | entry
        shift = 12
    elif entry & _RESERVED_2M:
        return -1
    reserved = _RESERVED_HIGH if ld64(env + _EFER) & EFER_NXE else _RESERVED_HIGH | _NX
    if every & (1 | _ACCESSED) != 1 | _ACCESSED or some & reserved or (first | second) & (_LARGE | _AMD_BIT8):
        return -1
    perm = _permissions(how, ld64(env + _CR0), ld64(env + _CR4), every & 4, every & 2, 1 if some < 0 else 0)
    if entry & _DIRTY == 0:
        perm &= ~2
    if perm & _needs(access) == 0:
        return -1
    st64(b + _W_VECTOR, -1)
    st64(b + _W_SHIFT, shift)
    st64(b + _W_PERM, perm)
    offset = (1 << shift) - 1
    return (entry & _ADDRESS & ~offset) | (va & offset)


@kernel
def _walk(b, va, access, how):  # type: ignore[no-untyped-def]
    """`walk`, in every mode and whatever the tables are."""
    seldom()
    env = ld64(b + _ENV)
    cr0 = ld64(env + _CR0)
    st64(b + _W_VECTOR, -1)
    if cr0 & CR0_PG == 0:
        st64(b + _W_PERM, 7)
        st64(b + _W_SHIFT, 12)
        return va & 0xFFFFFFFF
    cr4 = ld64(env + _CR4)
    efer = ld64(env + _EFER)
    cr3 = ld64(env + _CR3)
    long_mode = efer & EFER_LMA
    pae = (cr4 & CR4_PAE) | long_mode >> 5  # long mode implies it, even where the host has put the registers together
    nxe = (efer & EFER_NXE) if pae else 0
    # the error code of a violation; a missing page clears bit 0
    error = _PRESENT | (_WRITE if access == WRITE else 0) | (_USER if how & USER and how & IMPLICIT == 0 else 0)
    if access == FETCH and (nxe or cr4 & CR4_SMEP):
        error |= _FETCH
    if long_mode:
        if (va >> 47) != 0 and (va >> 47) != -1:
            return _fault(b, GP, 0)
        shift = 39
        table = cr3 & _ADDRESS
    elif pae:
        va = va & 0xFFFFFFFF
        shift = 30
        table = cr3 & 0xFFFFFFE0
    else:
        va = va & 0xFFFFFFFF
        shift = 22
        table = cr3 & 0xFFFFF000
    rw, us, nx = 2, 4, 0
    size = 8 if pae else 4
    index_mask = 0x1FF if pae else 0x3FF
    step = 9 if pae else 10
    # host and guest-physical addresses of the entries used, to set their accessed bits at the end
    a1, a2, a3 = 0, 0, 0
    g1, g2, g3 = 0, 0, 0
    entry = 0
    where = 0
    level = 0
    while True:
        gpa = table + ((va >> shift) & index_mask) * size
        if long_mode == 0 and pae and shift == 30:
            gpa = table + ((va >> 30) & 3) * 8
        where = _entry_at(b, level, gpa)
        if where == 0:
            entry = -1 if pae else 0xFFFFFFFF
        elif pae:
            entry = ld64(where)
        else:
            entry = ld32(where)
        if entry & 1 == 0:
            return _fault(b, PF, error & ~_PRESENT)
        leaf = shift == 12
        if pae:
            reserved = _RESERVED_HIGH if long_mode else _RESERVED_PAE
            if nxe == 0:
                reserved |= _NX
            if shift == 39:
                reserved |= _LARGE | _AMD_BIT8
            elif shift == 30:
                if long_mode == 0:
                    reserved |= 0x1E6 | _NX
                elif entry & _LARGE:
                    leaf = True
                    reserved |= 0x3FFFE000
                else:
                    reserved |= _AMD_BIT8
            elif shift == 21 and entry & _LARGE:
                leaf = True
                reserved |= _RESERVED_2M
            if entry & reserved:
                return _fault(b, PF, error | _RESERVED)
        elif shift == 22 and entry & _LARGE and cr4 & CR4_PSE:
            leaf = True
            if entry & (1 << 21):
                return _fault(b, PF, error | _RESERVED)
        if not (shift == 30 and long_mode == 0 and pae):  # a legacy PDPTE has no permission bits
            rw &= entry
            us &= entry
            if entry < 0 and pae:
                nx = 1
        if leaf:
            break
        if not (shift == 30 and long_mode == 0 and pae):
            a3, g3 = a2, g2
            a2, g2 = a1, g1
            a1, g1 = where, gpa
        table = entry & _ADDRESS if pae else entry & 0xFFFFF000
        shift -= step
        level += 1
    perm = _permissions(how, cr0, cr4, us, rw, nx)
    if perm & _needs(access) == 0:
        return _fault(b, PF, error)
    st64(b + _W_SHIFT, shift)
    if how & PEEK == 0:
        if a1 and ld32(a1) & _ACCESSED == 0:
            _mark(b, g1, _ACCESSED)
        if a2 and ld32(a2) & _ACCESSED == 0:
            _mark(b, g2, _ACCESSED)
        if a3 and ld32(a3) & _ACCESSED == 0:
            _mark(b, g3, _ACCESSED)
        bits = _ACCESSED | (_DIRTY if access == WRITE else 0)
        if entry & bits != bits:
            entry |= bits
            _mark(b, gpa, bits)
    if entry & _DIRTY == 0:
        perm &= ~2  # the first store must come back here to set the dirty bit
    st64(b + _W_PERM, perm)
    offset = (1 << shift) - 1
    if pae:
        return (entry & _ADDRESS & ~offset) | (va & offset)
    if shift == 22:
        return (entry & 0xFFC00000) | ((entry >> 13) & 0xFF) << 32 | (va & offset)
    return (entry & 0xFFFFF000) | (va & offset)


@kernel
def walk(b, va, access, how):  # type: ignore[no-untyped-def]
    """Translate a linear address: the guest-physical address, or -1 with W_VECTOR and W_ERROR set.

    W_PERM receives what a TLB entry may grant this mode's privilege (1 read, 2 write, 4 execute), W_SHIFT the page's
    size as a shift. Accessed and dirty bits are set as the manual says: accessed on each level of a walk that
    succeeds, dirty on a write.
    """
    env = ld64(b + _ENV)
    if ld64(env + _CR0) & CR0_PG and ld64(env + _EFER) & EFER_LMA:
        gpa = _walk_unmarked(b, va, access, how)
        if gpa >= 0:
            return gpa
    return _walk(b, va, access, how)
