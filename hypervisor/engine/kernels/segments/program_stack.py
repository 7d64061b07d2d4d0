"""The stack as the program itself accesses it in a far transfer: what it pops, and what it pushes at its own privilege.

Where the frame lies in plain memory that nobody watches, it is read and written directly. Elsewhere the words go
through Unicorn's TLB like those of any other instruction, which leaves the guest for a fault, a device or a handler; so
that happens in the compiled step between generated code and the kernel (`fetch`, `store`), which a longjmp may cross.
The kernel is called again then, with the words in the block.
"""

from __future__ import annotations

from hypervisor.arch.flags import RFLAGS_AC
from hypervisor.arch.vectors import SS as SS_FAULT
from hypervisor.engine import block as b_
from hypervisor.engine import layout as l_
from hypervisor.engine.jit import call4, call5, kernel, ld16, ld32, ld64, st16, st32, st64
from hypervisor.engine.kernels.by_pointer import own, translate
from hypervisor.engine.kernels.memory.access import base_page, generation_at, page_word
from hypervisor.engine.kernels.memory.lookaside import find, keep
from hypervisor.engine.kernels.memory.page_walk import AC, USER
from hypervisor.engine.kernels.segments.descriptors import canonical
from hypervisor.engine.kernels.stopping.in_place import refuse
from hypervisor.memory import map_words as m_

_ENV, _HFLAGS, _EFLAGS, _CR0, _RSP = b_.ENV, l_.HFLAGS, l_.EFLAGS, l_.CR0, l_.RSP
_SS = l_.SEGS + l_.SEG_SIZE * l_.SS
_BASE, _LIMIT, _FLAGS = l_.SEG_BASE, l_.SEG_LIMIT, l_.SEG_FLAGS
_RAM, _VIRTUAL_COUNT, _W_VECTOR, _PLACE = b_.RAM, b_.VIRTUAL_COUNT, b_.W_VECTOR, b_.PLACE
_SIZE, _ITEMS, _WANTED, _FRAME = b_.FRAME_SIZE, b_.FRAME_ITEMS, b_.FRAME_WANTED, b_.FRAME
_MAP_RAM, _MAP_WRITE, _MAP_SHARED, _MAP_FRAME = m_.MAP_RAM, m_.MAP_WRITE, m_.MAP_SHARED, m_.FRAME
_TRAP_READ, _TRAP_WRITE = m_.MAP_TRAP_READ, m_.MAP_TRAP_WRITE
_CS64, _SMAP = l_.HF_CS64, l_.HF_SMAP
_CPL, _CODE, _EXPAND_DOWN, _BIG = l_.HF_CPL, l_.SEG_CODE, l_.SEG_EXPAND_DOWN, l_.SEG_BIG
_EXPLICIT = 0x40  # in the lookaside: what is watched is not there

READY, FETCH, STORE, REFUSED = 0, 1, 2, 3
"""What a kernel has come to: it is done; words must be read, or written, through the TLB; the instruction faults."""


@kernel
def stack_mask(b):  # type: ignore[no-untyped-def]
    """Which bits of RSP the running code pushes with."""
    env = ld64(b + _ENV)
    if ld32(env + _HFLAGS) & _CS64:
        return -1
    return 0xFFFFFFFF if ld32(env + _SS + _FLAGS) & _BIG else 0xFFFF


@kernel
def _linear(b, offset, mask):  # type: ignore[no-untyped-def]
    if mask == -1:
        return offset
    return (ld64(ld64(b + _ENV) + _SS + _BASE) + (offset & mask)) & 0xFFFFFFFF


@kernel
def _outside(b, offset, size, mask):  # type: ignore[no-untyped-def]
    """Whether an item lies outside the stack segment."""
    if mask == -1:
        return not (canonical(offset) and canonical(offset + size - 1))
    env = ld64(b + _ENV)
    offset &= mask
    limit = ld32(env + _SS + _LIMIT)
    if ld32(env + _SS + _FLAGS) & (_CODE | _EXPAND_DOWN) == _EXPAND_DOWN:
        return offset <= limit or offset + size - 1 > mask
    return offset + size - 1 > limit


@kernel
def _plain(b, va, access):  # type: ignore[no-untyped-def]
    """What to add to ``va`` to reach its page in this process, where nothing but memory is; else 0."""
    env = ld64(b + _ENV)
    how = USER if ld32(env + _HFLAGS) & _CPL == 3 else (AC if ld64(env + _EFLAGS) & RFLAGS_AC else 0)
    delta = find(b, va, access, how | _EXPLICIT)
    if delta:
        return delta
    gpa = translate(b, va, access, how)
    if ld64(b + _W_VECTOR) >= 0:
        return 0
    word = page_word(b, gpa)
    if access:
        if word & (_MAP_WRITE | _TRAP_WRITE) != _MAP_WRITE:
            return 0
        if word & _MAP_SHARED:
            word = own(b, base_page(b, gpa))
        if word == 0 or ld64(generation_at(b, word & _MAP_FRAME)) & 1:
            return 0
    elif word & (_MAP_RAM | _TRAP_READ) != _MAP_RAM:
        return 0
    return keep(b, va, access, how | _EXPLICIT, ld64(b + _RAM) + (word & _MAP_FRAME) - (va & ~0xFFF))


@kernel
def _in_one_piece(b, low, bytes_, access):  # type: ignore[no-untyped-def]
    if (low & 0xFFF) + bytes_ > 4096 or ld64(b + _VIRTUAL_COUNT):
        return 0
    env = ld64(b + _ENV)
    if ld64(env + _EFLAGS) & ld64(env + _CR0) & RFLAGS_AC:  # alignment may be checked
        return 0
    return _plain(b, low, access)


@kernel
def item(b, n):  # type: ignore[no-untyped-def]
    """The nth word of the frame."""
    return ld64(b + _FRAME + 16 * n + 8)


@kernel
def frame(b, size, count, released):  # type: ignore[no-untyped-def]
    """Have the ``count`` items on top of the stack, with ``released`` bytes between the second and the third."""
    have = ld64(b + _ITEMS)
    if have >= count:
        return READY
    mask = stack_mask(b)
    sp = ld64(ld64(b + _ENV) + _RSP)
    for n in range(have, count):
        offset = sp + n * size + (released if n > 1 else 0)
        if _outside(b, offset, size, mask):
            refuse(b, SS_FAULT, 0)
            return REFUSED
        st64(b + _FRAME + 16 * n, _linear(b, offset, mask))
    low = ld64(b + _FRAME + 16 * have)
    bytes_ = ld64(b + _FRAME + 16 * (count - 1)) + size - low
    delta = _in_one_piece(b, low, bytes_, 0) if bytes_ > 0 else 0
    if delta == 0:
        st64(b + _SIZE, size)
        st64(b + _WANTED, count)
        return FETCH
    for n in range(have, count):
        where = ld64(b + _FRAME + 16 * n) + delta
        if size == 8:
            st64(b + _FRAME + 16 * n + 8, ld64(where))
        elif size == 4:
            st64(b + _FRAME + 16 * n + 8, ld32(where))
        else:
            st64(b + _FRAME + 16 * n + 8, ld16(where))
    st64(b + _ITEMS, count)
    return READY


@kernel
def no_room(b, mask, size):  # type: ignore[no-untyped-def]
    """Whether two pushes would leave the stack segment: then the instruction has been refused."""
    sp = ld64(ld64(b + _ENV) + _RSP)
    if _outside(b, sp - size, size, mask) or _outside(b, sp - 2 * size, size, mask):
        refuse(b, SS_FAULT, 0)
        return True
    return False


@kernel
def pushed(b, mask, size, first, second):  # type: ignore[no-untyped-def]
    """Push two words at the program's own privilege, where there is room, and move RSP when both are there."""
    env = ld64(b + _ENV)
    sp = ld64(env + _RSP)
    top = (sp - 2 * size) & mask
    if ld64(b + _ITEMS) == 0:
        for n in range(2):
            st64(b + _FRAME + 16 * n, _linear(b, sp - (n + 1) * size, mask))
            st64(b + _FRAME + 16 * n + 8, second if n else first)
        low = ld64(b + _FRAME + 16)
        delta = _in_one_piece(b, low, 2 * size, 1) if ld64(b + _FRAME) - low == size else 0
        if delta == 0:
            st64(b + _SIZE, size)
            st64(b + _WANTED, 2)
            return STORE
        if size == 8:
            st64(low + delta, second)
            st64(low + delta + 8, first)
        elif size == 4:
            st32(low + delta, second)
            st32(low + delta + 4, first)
        else:
            st16(low + delta, second)
            st16(low + delta + 2, first)
    st64(env + _RSP, (sp & ~mask) | top)
    return READY


@kernel
def _index(env):  # type: ignore[no-untyped-def]
    """Which of Unicorn's TLBs the program's own accesses use."""
    if ld32(env + _HFLAGS) & _CPL == 3:
        return 1
    return 0 if ld32(env + _HFLAGS) & _SMAP and ld64(env + _EFLAGS) & RFLAGS_AC == 0 else 2


@kernel
def fetch(b, env):  # type: ignore[no-untyped-def]
    """Read what `frame` wants through the TLB."""
    size, index, place = ld64(b + _SIZE), _index(env), ld64(b + _PLACE)
    load = b + (b_.F_LOAD64 if size == 8 else (b_.F_LOAD32 if size == 4 else b_.F_LOAD16))
    for n in range(ld64(b + _ITEMS), ld64(b + _WANTED)):
        value = call4(ld64(load), env, ld64(b + _FRAME + 16 * n), index, place)
        if size == 4:
            value &= 0xFFFFFFFF
        elif size == 2:
            value &= 0xFFFF
        st64(b + _FRAME + 16 * n + 8, value)
    st64(b + _ITEMS, ld64(b + _WANTED))
    return 0


@kernel
def store(b, env):  # type: ignore[no-untyped-def]
    """Write what `pushed` wants through the TLB."""
    size, index, place = ld64(b + _SIZE), _index(env), ld64(b + _PLACE)
    to = b + (b_.F_STORE64 if size == 8 else (b_.F_STORE32 if size == 4 else b_.F_STORE16))
    for n in range(ld64(b + _WANTED)):
        call5(ld64(to), env, ld64(b + _FRAME + 16 * n), ld64(b + _FRAME + 16 * n + 8), index, place)
    st64(b + _ITEMS, ld64(b + _WANTED))
    return 0
