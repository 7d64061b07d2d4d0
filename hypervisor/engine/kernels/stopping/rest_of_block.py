"""The rest of a block that has been left in its middle, though the guest gave no reason for it.

A handler listens to an instruction that would be served inside its block, an execute hook stands there, an instruction
is stepped. What follows would be a block of its own, with a look at the deadline before it: a timer's interrupt would
come some instructions earlier than it does when nobody looks on. So the place and the end of the block are kept
(`REST_AT`, `REST_END`), and the run loop lets the rest be executed as what it is: without that look, and up to the same
end. The translator makes blocks for that, which Unicorn keeps apart by a number of instructions that none has.

What is kept holds while the guest stands there. It is forgotten when an event is delivered, or when RIP is another, and
when the same instruction has been left `TRIES` times: time may pass with each.
"""

from __future__ import annotations

from hypervisor.engine import block as b_
from hypervisor.engine import layout as l_
from hypervisor.engine.jit import kernel, ld64, st32, st64
from hypervisor.engine.kernels.memory.access import linear_rip
from hypervisor.engine.kernels.stopping.reporting import settle

_AT, _END, _RESTING, _BLOCK_END, _BLOCK_LEFT = b_.REST_AT, b_.REST_END, b_.RESTING, b_.BLOCK_END, b_.BLOCK_LEFT
_CPU, _NOW, _DEADLINE, _RESTED, _TRIED = b_.CPU, b_.NOW, b_.DEADLINE, b_.RESTED, b_.REST_TRIED
_CFLAGS = l_.CPU_CFLAGS_NEXT_TB
TRIES = 16
_MARK = 0x4000  # in CF_COUNT, with the bytes that are left: blocks for one end are not those for another


@kernel
def forget_rest(b):  # type: ignore[no-untyped-def]
    """The next instruction begins a block."""
    st64(b + _END, 0)
    st64(b + _BLOCK_LEFT, 0)
    return 0


@kernel
def keep_rest(b):  # type: ignore[no-untyped-def]
    """The guest is being left at RIP, where `settle` was called, and may go on there as if it had not been."""
    rip, end = linear_rip(b), ld64(b + _BLOCK_LEFT)
    st64(b + _TRIED, ld64(b + _TRIED) + 1 if ld64(b + _RESTED) and ld64(b + _AT) == rip else 0)
    st64(b + _AT, rip)
    st64(b + _END, end if ld64(b + _BLOCK_END) == rip and end > rip and ld64(b + _TRIED) < TRIES else 0)
    return 0


@kernel
def interrupted(b):  # type: ignore[no-untyped-def]
    """`settle`, and `keep_rest`."""
    settle(b)
    return keep_rest(b)


@kernel
def looked_at(b, address, size):  # type: ignore[no-untyped-def]
    """The block of ``size`` bytes at linear ``address`` would begin, and is executed in parts."""
    st64(b + _AT, address)
    st64(b + _END, address + size)
    return 0


@kernel
def passed(b, address, size):  # type: ignore[no-untyped-def]
    """The instruction at linear ``address`` is executed by itself; whether its block was begun before."""
    st64(b + _BLOCK_LEFT, 0)
    begun = ld64(b + _END) != 0 and ld64(b + _AT) == address
    if begun and address + size < ld64(b + _END):
        st64(b + _AT, address + size)
    else:
        st64(b + _END, 0)
    return 1 if begun else 0


@kernel
def in_block(b):  # type: ignore[no-untyped-def]
    """Whether the guest stands in the middle of a block that it was made to leave."""
    if ld64(b + _END) == 0:
        return 0
    left = ld64(b + _END) - ld64(b + _AT)
    if ld64(b + _AT) == linear_rip(b) and left > 0 and left < _MARK:
        return 1
    return forget_rest(b)


@kernel
def begin_rest(b):  # type: ignore[no-untyped-def]
    """The next start runs the rest."""
    st64(b + _RESTING, 1)
    st64(b + _DEADLINE, 0)
    st32(ld64(b + _CPU) + _CFLAGS, _MARK | (ld64(b + _END) - ld64(b + _AT)))
    return 0


@kernel
def rest_begins(b, address, size):  # type: ignore[no-untyped-def]
    """The block hook's part for the rest: count it, whatever the time is."""
    st64(b + _RESTING, 0)
    forget_rest(b)
    st64(b + _RESTED, 1)
    st64(b + _NOW, ld64(b + _NOW) + size)
    st64(b + _BLOCK_END, address + size)
    st64(b + _DEADLINE, 0)  # the next block is another
    return 0


__all__ = ["begin_rest", "forget_rest", "in_block", "interrupted", "keep_rest", "looked_at", "passed", "rest_begins"]
