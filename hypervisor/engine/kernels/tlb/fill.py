"""The TLB fill: both translation stages, and everything that is a fact about a frame.

Unicorn calls it at each TLB miss in place of its own, which would ask a hook, and look up what we know. First the
guest's own TLB or its page tables (`guest_tlb`), then the VM's guest-physical map. An entry grants what the guest's TLB
does, or less: whether tables are walked must not depend on what Unicorn has forgotten.

A data fill never grants execute and a fetch fill never grants write: stores to pages that are executable in the TLB
would each take a slow path. A frame is in its *code* or in its *writable* state; a fill may change the state, and each
change takes the frame's entries out of the TLB, because stale code could otherwise run through an alias.

Unicorn looks for translated code under the *first* store through a writable entry only, and then makes the entry fast,
unless the entry is executable too. So a frame that becomes writable loses all its code at once, and code that stores
into its own page keeps a slow entry that is both.
"""

from __future__ import annotations

from hypervisor.arch.flags import CR0_PG, RFLAGS_AC
from hypervisor.engine import block as b_
from hypervisor.engine import layout as l_
from hypervisor.engine.jit import call2, call3, call6, inlined, kernel, ld8, ld32, ld64, st8, st64
from hypervisor.engine.kernels.by_pointer import own, translate, walk_and_keep
from hypervisor.engine.kernels.by_pointer import rest_of_fill as far_rest_of_fill
from hypervisor.engine.kernels.memory.access import base_page, linear_rip, page_word
from hypervisor.engine.kernels.memory.guest_tlb import CHECKED, PROGRAM, keep_code, known, readable
from hypervisor.engine.kernels.memory.notes import (
    fetched,
    note,
    note_shared,
    noted,
    of_frame,
    overwrites_itself,
    writable,
)
from hypervisor.engine.kernels.memory.page_walk import AC, FETCH, IMPLICIT, PEEK, READ, USER, WRITE
from hypervisor.engine.kernels.stopping.lost_flags import look
from hypervisor.engine.kernels.stopping.reporting import settle
from hypervisor.engine.kernels.stopping.rest_of_block import interrupted
from hypervisor.engine.kernels.tlb.tlb_entry import enter
from hypervisor.memory import map_words as m_

_ENV, _HFLAGS, _EFLAGS, _CR0, _FILL_PLACE = b_.ENV, l_.HFLAGS, l_.EFLAGS, l_.CR0, b_.FILL_PLACE
_FAULT, _FAULT_ERROR, _FAULT_ADDRESS = b_.FAULT, b_.FAULT_ERROR, b_.FAULT_ADDRESS
_W_VECTOR, _W_ERROR, _W_PERM = b_.W_VECTOR, b_.W_ERROR, b_.W_PERM
_C_FILLS, _A20 = b_.C_FILLS, b_.A20
_SHOWN, _PAGES, _LEAF_SHIFT, _IN_LEAF = b_.MAP + m_.SHOWN, b_.MAP + m_.PAGES, m_.LEAF_SHIFT, m_.LEAF_PAGES - 1
_RAM_BIT, _WRITE_BIT, _SHARED, _FRAME = m_.MAP_RAM, m_.MAP_WRITE, m_.MAP_SHARED, m_.FRAME
_TRAP_READ, _TRAP_WRITE, _TRAP_EXECUTE = m_.MAP_TRAP_READ, m_.MAP_TRAP_WRITE, m_.MAP_TRAP_EXECUTE
_TRANSLATED, _SHARED_AT, _SHARED_ROW, _SHARED_MASK = b_.TRANSLATED, b_.SHARED_AT, b_.SHARED_ROW, b_.SHARED_ROWS - 1
_MMIO_BASE, _ONES_PAGE, _VIRTUAL, _VIRTUAL_COUNT = b_.MMIO_BASE, b_.ONES_PAGE, b_.VIRTUAL, b_.VIRTUAL_COUNT
_SEEN, _SEATS, _SEAT = b_.SEEN, b_.SEATS, b_.SEAT
_EXECUTABLE_AT, _WRITABLE_AT, _GENERATIONS = b_.EXECUTABLE_AT, b_.WRITABLE_AT, b_.GENERATIONS
_F_TLB_FLUSH_PAGE, _F_SET_PAGE, _CPU = b_.F_TLB_FLUSH_PAGE, b_.F_SET_PAGE, b_.CPU
_CPL = l_.HF_CPL
_BLOCK_END, _ANY_TRAP = b_.BLOCK_END, m_.MAP_TRAPS
REPEAT = -3
"""In FAULT: nothing is wrong, the instruction is executed again."""
_CS64, _F_RESTORE = l_.HF_CS64, b_.F_RESTORE_STATE
_MARKS, _REFERENCED = b_.MARKS, m_.REFERENCED
_WHOLE, _ONCE = 4096, 1  # sizes of entries: one of less than a page serves one access


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
def _code_frame(b, va):  # type: ignore[no-untyped-def]
    """The frame that holds the code at linear ``va``, or -1."""
    user = USER if ld32(ld64(b + _ENV) + _HFLAGS) & _CPL == 3 else 0
    gpa = translate(b, va, FETCH, PEEK | user)
    if ld64(b + _W_VECTOR) >= 0:
        return -1
    return page_word(b, gpa) & _FRAME


@kernel
def _find_rip(b):  # type: ignore[no-untyped-def]
    """Find the RIP of the access that missed, from the place in the generated code."""
    return call3(ld64(b + _F_RESTORE), ld64(b + _CPU), ld64(b + _FILL_PLACE), 0)


@kernel
def _runs_in(b, frame):  # type: ignore[no-untyped-def]
    """Whether the block that runs has code in this frame."""
    rip = linear_rip(b)
    if _code_frame(b, rip) == frame:
        return True
    last = ld64(b + _BLOCK_END) - 1
    return (last >> 12) != (rip >> 12) and _code_frame(b, last) == frame


@kernel
def _refused(b, address, access):  # type: ignore[no-untyped-def]
    """The page tables refuse an access to a linear address."""
    if access != FETCH:
        _find_rip(b)
        look(b)
        settle(b)
    st64(b + _FAULT, ld64(b + _W_VECTOR))
    st64(b + _FAULT_ERROR, ld64(b + _W_ERROR))
    st64(b + _FAULT_ADDRESS, address)
    return 0


@kernel
def _set(b, index, va, hpa, perm, size):  # type: ignore[no-untyped-def]
    """Have Unicorn make an entry, for what is no memory, or memory that lies beside its code."""
    call6(ld64(b + _F_SET_PAGE), ld64(b + _CPU), va, hpa, perm, index, size)
    return 1


@kernel
def _trapped(b, index, va, gpa, access, trapped, watched):  # type: ignore[no-untyped-def]
    """An access to what is no memory, or is trapped: as `fill`."""
    if access == FETCH:
        if trapped:
            st64(b + _FAULT, -2)
            st64(b + _FAULT_ADDRESS, gpa & ~0xFFF)
            return 0
        return _set(b, index, va, ld64(b + _ONES_PAGE), 4, _WHOLE)
    place = _MMIO_BASE + (gpa & ~0xFFF) + (_seat(b, va) if watched else 0)
    return _set(b, index, va, place, 3 if access == WRITE else 1, _WHOLE)


@kernel
def _write_to_code(b, va, how, gpa, word, perm):  # type: ignore[no-untyped-def]
    """A store into a frame in its code state. Whether it comes from code in that frame; otherwise the frame has no code
    afterwards.
    """
    frame = word & _FRAME
    _find_rip(b)
    if perm & 4 and (word & _ANY_TRAP) == 0 and ld64(b + _VIRTUAL_COUNT) == 0 and _runs_in(b, frame):
        # Code that stores into its own page. An executable entry never leaves Unicorn's slow path, which
        # invalidates exactly what is overwritten, the block that runs included.
        keep_code(b, va, how, gpa, perm)
        overwrites_itself(b, frame)
        note(b, of_frame(b, _EXECUTABLE_AT, frame), va)
        return 1
    writable(b, frame)
    return 0


@kernel
def _may_be_writable(b, va, how, access, gpa, word, perm):  # type: ignore[no-untyped-def]
    """What may be granted of a page that may be written, by the state of its frame."""
    frame = word & _FRAME
    if ld64(of_frame(b, _GENERATIONS, frame)) & 1:
        if access != WRITE:
            return perm & 1
        if _write_to_code(b, va, how, gpa, word, perm):
            return 7
    note(b, of_frame(b, _WRITABLE_AT, frame), va)
    return perm & 3


@kernel
def _shared(b, va, physical, word, access, perm):  # type: ignore[no-untyped-def]
    """An access to a page whose frame is shared: its word, or 0 with FAULT set where a store must be made again, by
    code of the new frame, or the host has none.
    """
    page = base_page(b, physical)
    if access != WRITE:
        note_shared(b, page, va)
        return word & ~_WRITE_BIT
    again = 0
    if perm & 4:
        _find_rip(b)
        again = _runs_in(b, word & _FRAME)
    word = own(b, page) | (word & _ANY_TRAP)
    if again or word & _RAM_BIT == 0:
        look(b)
        interrupted(b)
        st64(b + _FAULT, REPEAT)
        return 0
    return word


@inlined
def _is_noted(b, va, page, word, access):  # type: ignore[no-untyped-def]
    """Whether nothing is new: the TLB has had the page at ``va`` so since its frame was in its other state last."""
    here = noted(b, va)
    kind = word & (_RAM_BIT | _WRITE_BIT | _SHARED | _ANY_TRAP)
    if kind == _RAM_BIT | _WRITE_BIT:
        if access != FETCH:
            return ld64(of_frame(b, _WRITABLE_AT, word & _FRAME)) == here
        if ld64(of_frame(b, _EXECUTABLE_AT, word & _FRAME)) != here:
            return False
        return ld64(of_frame(b, _TRANSLATED, word & _FRAME)) == ld64(of_frame(b, _GENERATIONS, word & _FRAME))
    if access == READ and kind == _RAM_BIT | _WRITE_BIT | _SHARED:
        row = ld64(b + _SHARED_AT) + _SHARED_ROW * (page & _SHARED_MASK)
        return ld64(row) == page and ld64(row + 8) == here
    return False


@kernel
def _watch(b, linear, perm):  # type: ignore[no-untyped-def]
    """Permissions less those for which the page at ``linear`` is watched."""
    if _watched(b, linear, _TRAP_WRITE):
        perm &= ~2
    if _watched(b, linear, _TRAP_READ):
        perm &= ~1
    return perm


@kernel
def _how(b, index):  # type: ignore[no-untyped-def]
    """How an access is made for which Unicorn uses this MMU index. At CPL 3 the processor itself reads descriptors for
    LAR, LSL, VERR and VERW. (For other instructions they are read past the TLB, by kernels of ours.)
    """
    if index == PROGRAM:
        return USER
    env = ld64(b + _ENV)
    if ld32(env + _HFLAGS) & _CPL == 3:
        return IMPLICIT
    return AC if ld64(env + _EFLAGS) & RFLAGS_AC else 0


@kernel
def _way(index, access):  # type: ignore[no-untyped-def]
    """The guest's TLB knows a way of access by the same number, but SMAP is nothing to a fetch."""
    return CHECKED if access == FETCH and index != PROGRAM else index


@kernel
def _granted(b, linear, access, index, gpa):  # type: ignore[no-untyped-def]
    """What the guest's TLB grants. A fetch grants reading only where that needs no walk."""
    perm = ld64(b + _W_PERM)
    if access == FETCH and ld64(ld64(b + _ENV) + _CR0) & CR0_PG and not readable(b, linear, index, gpa):
        perm &= 4
    return perm


@inlined
def _refer(b, frame):  # type: ignore[no-untyped-def]
    """The frame is in use, as who looks for frames that are not may see."""
    at = ld64(b + _MARKS) + (frame >> 12)
    if ld8(at) == 0:
        st8(at, _REFERENCED)
    return 0


@kernel
def rest_of_fill(b, address, access, index, gpa):  # type: ignore[no-untyped-def]
    """A fill that is not as most are, when the guest's TLB and page tables have been asked: as `fill`."""
    linear = address
    if access == FETCH and ld32(ld64(b + _ENV) + _HFLAGS) & _CS64 == 0:
        linear = address & 0xFFFFFFFF
    if ld64(b + _W_VECTOR) >= 0:
        return _refused(b, linear, access)
    beyond = linear != address
    va, linear = address & ~0xFFF, linear & ~0xFFF
    perm = _granted(b, linear, access, index, gpa)
    physical = gpa & ld64(b + _A20)
    word = page_word(b, gpa)
    trap = _TRAP_EXECUTE if access == FETCH else (_TRAP_WRITE if access == WRITE else _TRAP_READ)
    watching = ld64(b + _VIRTUAL_COUNT)
    watched = _watched(b, linear, trap) if watching else 0
    if word & _RAM_BIT == 0 or word & trap or watched or (access == WRITE and word & _WRITE_BIT == 0):
        return _trapped(b, index, va, physical, access, word & trap or watched, watched)
    if word & _SHARED:
        word = _shared(b, va, gpa, word, access, perm)
        if word == 0:
            return 0
    frame = word & _FRAME
    _refer(b, frame)
    if access == FETCH:
        fetched(b, frame)
        perm &= 5
        note(b, of_frame(b, _EXECUTABLE_AT, frame), va)
    elif word & _WRITE_BIT == 0 or word & _TRAP_WRITE or perm & 2 == 0:
        perm &= 1
    else:
        perm = _may_be_writable(b, va, _how(b, index), access, gpa, word, perm)
    if watching:
        perm = _watch(b, va, perm)
    if word & _TRAP_READ:
        perm &= ~1
    if beyond:  # the guest's TLB has an entry for another page
        return _set(b, index, va, frame, perm, _ONCE)
    if perm & 6 == 6:
        return _set(b, index, va, frame, perm, _WHOLE)
    return enter(b, index, va, frame, perm)


@inlined
def fill(b, address, access, index, place):  # type: ignore[no-untyped-def]
    """Serve a TLB miss: put an entry for the page at ``address`` into the TLB of this MMU index; 0 with FAULT set if
    the access may not be made, which generated code does at ``place`` (0 where no generated code does it).
    """
    st64(b + _C_FILLS, ld64(b + _C_FILLS) + 1)
    st64(b + _FILL_PLACE, place)
    linear = address
    if access == FETCH and ld32(ld64(b + _ENV) + _HFLAGS) & _CS64 == 0:
        linear = address & 0xFFFFFFFF
    way = _way(index, access)
    gpa = known(b, linear, access, way)
    if gpa < 0:
        gpa = walk_and_keep(b, linear, access, _how(b, index), way)
    page = (gpa & ld64(b + _A20)) >> 12
    if ld64(b + _W_VECTOR) < 0 and page < ld64(b + _PAGES) and ld64(b + _VIRTUAL_COUNT) == 0 and linear == address:
        va = address & ~0xFFF
        word = ld64(ld64(ld64(b + _SHOWN) + 8 * (page >> _LEAF_SHIFT)) + 8 * (page & _IN_LEAF))
        if _is_noted(b, va, page, word, access):
            perm = _granted(b, va, access, index, gpa)
            _refer(b, word & _FRAME)
            if access == FETCH:
                perm &= 5
            else:
                perm &= 1 if word & _SHARED else 3
            return enter(b, index, va, word & _FRAME, perm)
    return far_rest_of_fill(b, address, access, index, gpa)


__all__ = ["REPEAT", "fill", "rest_of_fill"]
