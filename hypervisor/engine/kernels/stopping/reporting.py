"""Exits are counted and charged, remembered, and reported to Python."""

from __future__ import annotations

from hypervisor.engine import block as b_
from hypervisor.engine import layout as l_
from hypervisor.engine.jit import call1, inlined, kernel, ld64, st64
from hypervisor.engine.kernels.memory.access import linear_rip

_ENV, _UC, _EIP, _F_EMU_STOP = b_.ENV, b_.UC, l_.EIP, b_.F_EMU_STOP
_X_KIND, _LISTEN, _COUNTS, _COSTS = b_.X_KIND, b_.LISTEN, b_.COUNTS, b_.COSTS
_NOW, _BLOCK_END, _BLOCK_LEFT, _NUMBER = b_.NOW, b_.BLOCK_END, b_.BLOCK_LEFT, b_.NUMBER
_RING, _RING_AT, _RING_MASK, _RING_SIZE = b_.RING, b_.RING_AT, b_.RING_ENTRIES - 1, 8 * b_.RING_WORDS


@kernel
def listens(b, kind):  # type: ignore[no-untyped-def]
    """Whether Python wants exits of this kind."""
    return (ld64(b + _LISTEN) >> kind) & 1


@inlined
def count(b, kind):  # type: ignore[no-untyped-def]
    """Count an exit, and let it take its time."""
    st64(b + _COUNTS + 8 * kind, ld64(b + _COUNTS + 8 * kind) + 1)
    st64(b + _NOW, ld64(b + _NOW) + ld64(b + _COSTS + 8 * kind))
    return 0


@kernel
def ring(b, kind, info, value):  # type: ignore[no-untyped-def]
    """Remember an exit among the last `RING_ENTRIES`: kind (| an access's size << 8 | vCPU << 16 | info << 24), RIP,
    time and value; ``info`` has 40 bits. Returns the entry's address.
    """
    at = ld64(b + _RING_AT)
    st64(b + _RING_AT, at + 1)
    slot = b + _RING + _RING_SIZE * (at & _RING_MASK)
    st64(slot, kind | ld64(b + _NUMBER) << 16 | info << 24)
    st64(slot + 8, ld64(ld64(b + _ENV) + _EIP))
    st64(slot + 16, ld64(b + _NOW))
    st64(slot + 24, value)
    return slot


@kernel
def settle(b):  # type: ignore[no-untyped-def]
    """A block was left at RIP: what it has not executed is taken off the clock again."""
    rip = linear_rip(b)
    left = ld64(b + _BLOCK_END) - rip
    st64(b + _BLOCK_LEFT, 0)
    if left > 0 and left < 65536:
        st64(b + _NOW, ld64(b + _NOW) - left)
        st64(b + _BLOCK_END, rip)
        st64(b + _BLOCK_LEFT, rip + left)
    return 0


@kernel
def stop(b, kind, inside):  # type: ignore[no-untyped-def]
    """Make the run loop return to Python with this exit."""
    st64(b + _X_KIND, kind)
    if inside:
        call1(ld64(b + _F_EMU_STOP), ld64(b + _UC))
    return 0


__all__ = ["count", "listens", "ring", "settle", "stop"]
