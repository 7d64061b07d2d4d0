"""A vCPU's TLB (`guest_tlb`) as three words for each valid entry: its place, its first word, and the lower half of its
second. So it is small, and holds no age.
"""

from __future__ import annotations

from hypervisor.engine import block as b_
from hypervisor.engine.jit import kernel, ld64, st64

_PLACES, _MASK32 = b_.GUEST_TLB_DATA + b_.GUEST_TLB_CODE, 0xFFFFFFFF


@kernel
def pack(table, age, to):  # type: ignore[no-untyped-def]
    """Write the entries of this age to ``to``, unless that is 0; how many there are."""
    count = 0
    for place in range(_PLACES):
        second = ld64(table + 16 * place + 8)
        if second >> 32 == age:
            if to:
                st64(to + 24 * count, place)
                st64(to + 24 * count + 8, ld64(table + 16 * place))
                st64(to + 24 * count + 16, second & _MASK32)
            count += 1
    return count


@kernel
def unpack(table, age, packed, count):  # type: ignore[no-untyped-def]
    """Put entries back, with another age."""
    for at in range(packed, packed + 24 * count, 24):
        entry = table + 16 * ld64(at)
        st64(entry, ld64(at + 8))
        st64(entry + 8, age << 32 | ld64(at + 16) & _MASK32)
    return 0


__all__ = ["pack", "unpack"]
