"""Translations that the CPU's own accesses used last: to descriptors, the TSS and event stacks, and to an opcode.

What an event delivery touches lies in the same few pages each time. Like those of a real TLB, translations here hold
until the guest flushes: Unicorn counts the flushes of its TLB, and an entry is valid as long as that count, and our own
(`forget`), have not moved.
"""

from __future__ import annotations

from hypervisor.engine import block as b_
from hypervisor.engine import layout as l_
from hypervisor.engine.jit import kernel, ld64, st64
from hypervisor.engine.kernels.memory.walked_tables import forget_tables

_ENV, _ENTRIES, _AGE = b_.ENV, b_.LOOKASIDE, b_.LOOKASIDE_AGE
_MASK = b_.LOOKASIDE_ENTRIES - 1
_FULL, _PART, _ELIDED = l_.TLB_FULL_FLUSHES, l_.TLB_PART_FLUSHES, l_.TLB_ELIDED_FLUSHES
_PAGE, _VALID = ~0xFFF, 0x800


@kernel
def _age(b):  # type: ignore[no-untyped-def]
    env = ld64(b + _ENV)
    return ld64(env + _FULL) + ld64(env + _PART) + ld64(env + _ELIDED) + ld64(b + _AGE)


@kernel
def _slot(b, va, key):  # type: ignore[no-untyped-def]
    return b + _ENTRIES + 24 * (((va >> 12) ^ key) & _MASK)


@kernel
def find(b, va, access, how):  # type: ignore[no-untyped-def]
    """What to add to linear addresses in the page of ``va`` to reach them in this process; 0 if it is not known."""
    key = access << 4 | how
    slot = _slot(b, va, key)
    if ld64(slot) == (va & _PAGE | key | _VALID) and ld64(slot + 8) == _age(b):
        return ld64(slot + 16)
    return 0


@kernel
def keep(b, va, access, how, delta):  # type: ignore[no-untyped-def]
    """Remember what `find` shall answer."""
    key = access << 4 | how
    slot = _slot(b, va, key)
    st64(slot, va & _PAGE | key | _VALID)
    st64(slot + 8, _age(b))
    st64(slot + 16, delta)
    return delta


@kernel
def forget(b):  # type: ignore[no-untyped-def]
    """Nothing is known any more: a page or a frame's state changed without a flush of the whole TLB."""
    st64(b + _AGE, ld64(b + _AGE) + 1)
    return forget_tables(b)
