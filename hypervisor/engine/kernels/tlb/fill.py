"""The TLB fill: both translation stages, and everything that is a fact about a frame.

First the guest's own TLB or its page tables (`guest_tlb.translate`), then the VM's guest-physical map. An entry grants
what the guest's TLB does, or less: whether tables are walked must not depend on what Unicorn has forgotten.

A data fill never grants execute and a fetch fill never grants write: stores to pages that are executable in the TLB
would each take a slow path. A frame is in its *code* or in its *writable* state; a fill may change the state, and each
change takes the frame's entries out of the TLB, because stale code could otherwise run through an alias.

Unicorn looks for translated code under the *first* store through a writable entry only, and then makes the entry fast,
unless the entry is executable too. So a frame that becomes writable loses all its code at once, and code that stores
into its own page keeps a slow entry that is both.
"""

from __future__ import annotations

from hypervisor.arch.flags import CR0_PG, RFLAGS_AC
from hypervisor.arch.vectors import PF
from hypervisor.engine import block as b_
from hypervisor.engine import layout as l_
from hypervisor.engine.jit import call2, call3, kernel, ld32, ld64, st32, st64
from hypervisor.engine.kernels.by_pointer import translate
from hypervisor.engine.kernels.memory.access import flush_tlb, linear_rip, written
from hypervisor.engine.kernels.memory.guest_tlb import keep_code, readable, way_of
from hypervisor.engine.kernels.memory.lookaside import forget
from hypervisor.engine.kernels.memory.page_walk import AC, FETCH, IMPLICIT, PEEK, READ, USER, WRITE
from hypervisor.engine.kernels.stopping.lost_flags import look
from hypervisor.engine.kernels.stopping.reporting import settle
from hypervisor.engine.kernels.tlb.implicit import is_implicit
from hypervisor.engine.kernels.tlb.tlb_entry import ANY_WAY, NO_WAY

_ENV, _HFLAGS, _EFLAGS, _CR0, _FILL_WAY = b_.ENV, l_.HFLAGS, l_.EFLAGS, l_.CR0, b_.FILL_WAY
_FAULT, _FAULT_ERROR, _FAULT_ADDRESS = b_.FAULT, b_.FAULT_ERROR, b_.FAULT_ADDRESS
_W_VECTOR, _W_ERROR, _W_PERM = b_.W_VECTOR, b_.W_ERROR, b_.W_PERM
_C_FILLS, _C_FLIPS, _MAP, _MAP_PAGES, _A20 = b_.C_FILLS, b_.C_FLIPS, b_.MAP, b_.MAP_PAGES, b_.A20
_RAM_BIT, _WRITE_BIT, _CODE_BIT = b_.MAP_RAM, b_.MAP_WRITE, b_.MAP_CODE
_TRAP_READ, _TRAP_WRITE, _TRAP_EXECUTE = b_.MAP_TRAP_READ, b_.MAP_TRAP_WRITE, b_.MAP_TRAP_EXECUTE
_MMIO_BASE, _ONES_PAGE, _VIRTUAL, _VIRTUAL_COUNT = b_.MMIO_BASE, b_.ONES_PAGE, b_.VIRTUAL, b_.VIRTUAL_COUNT
_SEEN, _SEATS, _SEAT = b_.SEEN, b_.SEATS, b_.SEAT
_EXEC_AT, _WRITE_AT, _EPOCH, _F_TLB_FLUSH_PAGE, _CPU = b_.EXEC_AT, b_.WRITE_AT, b_.EPOCH, b_.F_TLB_FLUSH_PAGE, b_.CPU
_CPL = l_.HF_CPL
_MANY = 1 << 60  # no linear page: it is not canonical
_BLOCK_END, _ANY_TRAP = b_.BLOCK_END, b_.MAP_TRAP_READ | b_.MAP_TRAP_WRITE | b_.MAP_TRAP_EXECUTE
_HF_GUEST, _CS64, _F_RESTORE, _MEM_IO_PC = l_.HF_GUEST, l_.HF_CS64, b_.F_RESTORE_STATE, l_.CPU_MEM_IO_PC


@kernel
def _watched(b, va, trap):  # type: ignore[no-untyped-def]
    """Whether the page at linear ``va`` is watched for this kind of access."""
    row = ld64(b + _VIRTUAL)
    for _ in range(ld64(b + _VIRTUAL_COUNT)):
        if va >= ld64(row) and va < ld64(row + 8) and ld64(row + 16) & trap:
            return 1
        row += 24
    return 0


@kernel
def _seat(b, va):  # type: ignore[no-untyped-def]
    """The place in the device window from which an access to the watched page at linear ``va`` can be told: a number
    above the guest-physical address, under which the page is noted. The page that had the number leaves the TLB.
    """
    number = (va >> 12) & (_SEATS - 1)
    at = ld64(b + _SEEN) + 8 * number
    before = ld64(at)
    if before != va:
        if before != -1:
            call2(ld64(b + _F_TLB_FLUSH_PAGE), ld64(b + _CPU), before)
        st64(at, va)
    return (number + 1) << _SEAT


@kernel
def _frame_page(b, va):  # type: ignore[no-untyped-def]
    """The guest-physical page that holds the code at linear ``va``, or -1."""
    user = USER if ld32(ld64(b + _ENV) + _HFLAGS) & _CPL == 3 else 0
    gpa = translate(b, va, FETCH, PEEK | user)
    if ld64(b + _W_VECTOR) >= 0:
        return -1
    return (gpa & ld64(b + _A20)) >> 12


@kernel
def _find_rip(b):  # type: ignore[no-untyped-def]
    """Find the RIP of the access that missed, from the place in the generated code (see `interpose`)."""
    cpu = ld64(b + _CPU)
    call3(ld64(b + _F_RESTORE), cpu, ld64(cpu + _MEM_IO_PC), 0)
    return 0


@kernel
def _runs_in(b, page):  # type: ignore[no-untyped-def]
    """Whether the block that runs has code in this guest-physical page."""
    rip = linear_rip(b)
    if _frame_page(b, rip) == page:
        return True
    last = ld64(b + _BLOCK_END) - 1
    return (last >> 12) != (rip >> 12) and _frame_page(b, last) == page


@kernel
def _note(b, table, page, va):  # type: ignore[no-untyped-def]
    """The TLB gets an entry for the frame ``page`` at linear ``va``."""
    at = ld64(b + table) + 8 * page
    word = ld64(at)
    epoch = ld64(b + _EPOCH)
    if word & 0xFFF != epoch:
        st64(at, va | epoch)
    elif word & ~0xFFF != va:
        st64(at, _MANY | epoch)
    return 0


@kernel
def _drop(b, table, page):  # type: ignore[no-untyped-def]
    """Take the frame's entries out of the TLB."""
    word = ld64(ld64(b + table) + 8 * page)
    if word & 0xFFF == ld64(b + _EPOCH):
        va = word & ~0xFFF
        if va == _MANY:
            flush_tlb(b)
        else:
            call2(ld64(b + _F_TLB_FLUSH_PAGE), ld64(b + _CPU), va)
            st64(ld64(b + table) + 8 * page, 0)
    return 0


@kernel
def _refused(b, va, linear, access, how):  # type: ignore[no-untyped-def]
    """The page tables refuse an access. The guest-physical address for one that the processor makes itself, which its
    privilege allows, or -1 with FAULT set.
    """
    vector, error = ld64(b + _W_VECTOR), ld64(b + _W_ERROR)
    if access != FETCH:
        _find_rip(b)
    if how & USER and access != FETCH and vector == PF and is_implicit(b, va):
        gpa = translate(b, va, access, how | IMPLICIT)
        vector, error = ld64(b + _W_VECTOR), ld64(b + _W_ERROR)
        if vector < 0:
            st64(b + _FILL_WAY, way_of(b, access, how | IMPLICIT))
            return gpa
    if access != FETCH:
        look(b)
        settle(b)
    st64(b + _FAULT, vector)
    st64(b + _FAULT_ERROR, error)
    st64(b + _FAULT_ADDRESS, linear)
    return -1


@kernel
def _trapped(b, va, gpa, access, trapped, watched, result):  # type: ignore[no-untyped-def]
    """An access to what is no memory, or is trapped: as `fill`."""
    if access == FETCH:
        if trapped:
            st64(b + _FAULT, -2)
            st64(b + _FAULT_ADDRESS, gpa & ~0xFFF)
            return 0
        st64(result, ld64(b + _ONES_PAGE))
        st32(result + 8, 4)
        return 1
    st64(result, _MMIO_BASE + (gpa & ~0xFFF) + (_seat(b, va) if watched else 0))
    st32(result + 8, 3 if access == WRITE else 1)
    return 1


@kernel
def _write_to_code(b, va, how, gpa, physical, word, perm):  # type: ignore[no-untyped-def]
    """A store into a frame in its code state. Whether it comes from code in that frame; otherwise the frame has no code
    afterwards.
    """
    page = physical >> 12
    _find_rip(b)
    if perm & 4 and (word & _ANY_TRAP) == 0 and ld64(b + _VIRTUAL_COUNT) == 0 and _runs_in(b, page):
        # Code that stores into its own page. An executable entry never leaves Unicorn's slow path, which
        # invalidates exactly what is overwritten, the block that runs included.
        keep_code(b, va, how, gpa)
        _note(b, _EXEC_AT, page, va)
        return 1
    # A store from elsewhere: drop all code of the frame, because only the first store would be looked at.
    written(b, physical & ~0xFFF, 4096)
    st64(ld64(b + _MAP) + 8 * page, word & ~_CODE_BIT)
    st64(b + _C_FLIPS, ld64(b + _C_FLIPS) + 1)
    _drop(b, _EXEC_AT, page)
    return 0


@kernel
def _watch(b, linear, perm):  # type: ignore[no-untyped-def]
    """Permissions less those for which the page at ``linear`` is watched."""
    if _watched(b, linear, _TRAP_WRITE):
        perm &= ~2
    if _watched(b, linear, _TRAP_READ):
        perm &= ~1
    return perm


@kernel
def fill(b, va, kind, result):  # type: ignore[no-untyped-def]
    """Serve a TLB miss for the page ``va``; 1 with (host-physical page, permissions) at ``result``, or 0 with FAULT
    set.

    ``kind`` is Unicorn's: 16 read, 17 write, 18 fetch.
    """
    env = ld64(b + _ENV)
    hflags = ld32(env + _HFLAGS)
    if hflags & _HF_GUEST == 0:
        st64(b + _FILL_WAY, ANY_WAY)
        st64(result, va)
        st32(result + 8, 7)
        return 1
    st64(b + _C_FILLS, ld64(b + _C_FILLS) + 1)
    access = kind - 16
    how = (USER if hflags & _CPL == 3 else 0) | (AC if ld64(env + _EFLAGS) & RFLAGS_AC else 0)
    linear = va
    if access == FETCH and hflags & _CS64 == 0:
        linear = va & 0xFFFFFFFF
    way = way_of(b, READ, how)
    st64(b + _FILL_WAY, way if linear == va else NO_WAY)
    gpa = translate(b, linear, access, how)
    if ld64(b + _W_VECTOR) >= 0:
        gpa = _refused(b, va, linear, access, how)
        if gpa == -1:
            return 0
    perm = ld64(b + _W_PERM)
    if access == FETCH and ld64(env + _CR0) & CR0_PG and not readable(b, linear, way, gpa):
        perm &= 4
    physical = gpa & ld64(b + _A20)
    page = physical >> 12
    word = 0
    if page < ld64(b + _MAP_PAGES):
        word = ld64(ld64(b + _MAP) + 8 * page)
    trap = _TRAP_EXECUTE if access == FETCH else (_TRAP_WRITE if access == WRITE else _TRAP_READ)
    watching = ld64(b + _VIRTUAL_COUNT)
    watched = _watched(b, linear, trap) if watching else 0
    if word & _RAM_BIT == 0 or word & trap or watched or (access == WRITE and word & _WRITE_BIT == 0):
        return _trapped(b, va, physical, access, word & trap or watched, watched, result)
    if access == FETCH:
        if word & _CODE_BIT == 0:
            st64(ld64(b + _MAP) + 8 * page, word | _CODE_BIT)
            st64(b + _C_FLIPS, ld64(b + _C_FLIPS) + 1)
            _drop(b, _WRITE_AT, page)
            forget(b)
        perm &= 5
        _note(b, _EXEC_AT, page, va)
    else:
        if access == WRITE and word & _CODE_BIT:
            if _write_to_code(b, va, how, gpa, physical, word, perm):
                st64(result, word & ~0xFFF)
                st32(result + 8, 7)
                return 1
            word &= ~_CODE_BIT
        perm &= 3
        if word & _CODE_BIT or word & _WRITE_BIT == 0 or word & _TRAP_WRITE:
            perm &= 1
    if watching:
        perm = _watch(b, va, perm)
    if word & _TRAP_READ:
        perm &= ~1
    if perm & 2:
        _note(b, _WRITE_AT, page, va)
    st64(result, word & ~0xFFF)
    st32(result + 8, perm)
    return 1
