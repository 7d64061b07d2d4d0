"""Translated code: noticing in time that its room ends, giving it back, and dropping what gets an execute trap.

Unicorn empties its buffer when a block does not fit any more, and forgets that the block should have been a single
instruction (``cflags_next_tb``): code that overwrites itself would be counted anew, a step would run a whole block. So
`full` notices a little earlier, the guest is left at the start of the next block, as for a kick, and the run loop
empties the buffer between two starts. The TLB stays as it is, so the guest cannot tell.
"""

from __future__ import annotations

from hypervisor.engine import block as b_
from hypervisor.engine import layout as l_
from hypervisor.engine.jit import call1, call3, kernel, ld16, ld32, ld64, st64

_CPU, _UC, _DEADLINE, _CODE_FULL, _REPEATED = b_.CPU, b_.UC, b_.DEADLINE, b_.CODE_FULL, b_.REPEATED
_F_TB_FLUSH, _F_MADVISE = b_.F_TB_FLUSH, b_.F_MADVISE
_F_EACH_BLOCK, _F_DROP_BLOCK, _F_DROP_TRAPPED = b_.F_EACH_BLOCK, b_.F_DROP_BLOCK, b_.F_DROP_TRAPPED
_PC, _SIZE, _CFLAGS, _GONE, _TRAPS, _TRAP_COUNT = (
    l_.TB_PC,
    l_.TB_SIZE,
    l_.TB_CFLAGS,
    l_.TB_GONE,
    b_.NEW_TRAPS,
    b_.NEW_TRAP_COUNT,
)
_T_BLOCKS, _T_SIZE = b_.GUARD_BLOCKS, b_.GUARD_SIZE
_TCG, _NEXT, _BUFFER, _BUFFER_SIZE = l_.UC_TCG_CONTEXT, l_.TCG_CODE_NEXT, l_.TCG_BUFFER, l_.TCG_BUFFER_SIZE
_LIMIT, _LAST, _CODE_ROOM = l_.TCG_CODE_LIMIT, l_.TCG_LAST, b_.CODE_ROOM
_FORGOTTEN, _DONTNEED = b_.FORGOTTEN, 4
_HUGE = 2 << 20  # the buffer has pages of this size: the first one is kept, as the next guest needs it


@kernel
def _note(table, cpu, word):  # type: ignore[no-untyped-def]
    """Set a word of the pCPU that has this CPU, and have its next block start looked at."""
    at = table + _T_BLOCKS
    for _ in range(_T_SIZE):
        b = ld64(at)
        if b and ld64(b + _CPU) == cpu:
            st64(b + word, 1)
            st64(b + _DEADLINE, 0)
            return 0
        at += 8
    return 0


@kernel
def full(table, cpu):  # type: ignore[no-untyped-def]
    """A block is being translated near the end of the buffer."""
    return _note(table, cpu, _CODE_FULL)


@kernel
def repeats(table, cpu):  # type: ignore[no-untyped-def]
    """A block has stored into itself: Unicorn executes that instruction again, as a block of its own."""
    return _note(table, cpu, _REPEATED)


@kernel
def forget_code(b):  # type: ignore[no-untyped-def]
    """Forget all translated code, between two starts; the memory that it lay in goes back to the host. There is so
    much room from now on as was meant last.
    """
    st64(b + _CODE_FULL, 0)
    tcg = ld64(ld64(b + _UC) + _TCG)
    buffer = ld64(tcg + _BUFFER)
    st64(b + _FORGOTTEN, ld64(b + _FORGOTTEN) + ld64(tcg + _NEXT) - buffer)
    call1(ld64(b + _F_TB_FLUSH), ld64(b + _CPU))
    st64(tcg + _LIMIT, buffer + ld64(b + _CODE_ROOM) - _LAST)
    start = (ld64(tcg + _NEXT) + _HUGE - 1) & ~(_HUGE - 1)
    end = buffer + ld64(tcg + _BUFFER_SIZE)
    if start < end:
        call3(ld64(b + _F_MADVISE), start, end - start, _DONTNEED)
    return 0


@kernel
def drop_trapped(b, block):  # type: ignore[no-untyped-def]
    """Forget a block with one of the instructions that get a trap; 0, to go on with the next."""
    if ld32(block + _CFLAGS) & _GONE:
        return 0
    at, pc, size = ld64(b + _TRAPS), ld64(block + _PC), ld16(block + _SIZE)
    for _ in range(ld64(b + _TRAP_COUNT)):
        inside = ld64(at) - pc
        if inside >= 0 and inside < size:
            call3(ld64(b + _F_DROP_BLOCK), ld64(ld64(b + _UC) + _TCG), block, -1)
            return 0
        at += 8
    return 0


@kernel
def retranslate(b, addresses, count):  # type: ignore[no-untyped-def]
    """Have ``count`` instructions translated anew, whose linear addresses are at ``addresses``."""
    st64(b + _TRAPS, addresses)
    st64(b + _TRAP_COUNT, count)
    call3(ld64(b + _F_EACH_BLOCK), ld64(ld64(b + _UC) + _TCG), ld64(b + _F_DROP_TRAPPED), b)
    return 0


__all__ = ["drop_trapped", "forget_code", "full", "repeats", "retranslate"]
