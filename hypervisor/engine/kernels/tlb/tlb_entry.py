"""Unicorn's TLB: how its entries are made, and how large it grows.

Unicorn marks each writable entry NOTDIRTY, so that the first store through it takes a slow path that looks for
translated code in the page and, if the entry is not executable, unmarks it. A fill of ours (`fill`) grants a
write only to a frame without code, or together with the right to execute: there is nothing to look for.

Each flush doubles the TLB while more than 70% of it is used, up to 4 million entries: 320 MiB for each of its three
indexes, for a guest whose tables map one frame often enough, and every later flush has to clear them. It stays at
`MOST_ENTRIES`.
"""

from __future__ import annotations

from hypervisor.engine import block as b_
from hypervisor.engine import layout as l_
from hypervisor.engine.jit import call2, call6, kernel, ld8, ld64, st64
from hypervisor.engine.kernels.stopping.in_place import block_of

_FAST, _DESCRIPTOR, _ENTRY_SHIFT = l_.CPU_TO_ENV + l_.TLB_FAST, l_.TLB_FAST_SIZE, l_.TLB_ENTRY_SHIFT
_WRITE, _CODE, _NOTDIRTY = l_.TLB_ADDR_WRITE, l_.TLB_ADDR_CODE, l_.TLB_NOTDIRTY
_SLOW, _SLOW_SIZE, _USED, _MOST, _INDEXES = (
    l_.CPU_TO_ENV + l_.TLB_SLOW, l_.TLB_SLOW_SIZE, l_.TLB_USED, l_.TLB_WINDOW_MOST, l_.TLB_INDEXES,
)  # fmt: skip
_CPU_UC, _OURS, _FILL_WAY, _TO_ENV = l_.CPU_UC, l_.UC_NO_EXIT_REQUEST, b_.FILL_WAY, l_.CPU_TO_ENV

MOST_ENTRIES = 1 << 14
"""Entries of the TLB for each MMU index: 1.25 MiB, for 64 MiB of guest memory."""

ANY_WAY, NO_WAY = -1, -2
"""For which MMU indexes a fill holds, beside one of them."""

_ONCE = 1  # the size of an entry that Unicorn asks for again at each access, as it is less than a page

_LARGEST = (MOST_ENTRIES - 1) << _ENTRY_SHIFT


@kernel
def set_page(cpu, va, pa, prot, mmu_index, size, original):  # type: ignore[no-untyped-def]
    """Unicorn's ``tlb_set_page``, which lies at ``original``; then the entry's first store is as fast as the next.

    A fill is not told for which index it is. LAR and its like read descriptors as the kernel at CPL 3: an entry for
    another index than the fill thought serves one access, as the guest's own TLB does not have it (`guest_tlb`).
    """
    if ld8(ld64(cpu + _CPU_UC) + _OURS):
        way = ld64(block_of(cpu + _TO_ENV) + _FILL_WAY)
        if way != mmu_index and way != ANY_WAY:
            call6(original, cpu, va, pa, prot, mmu_index, _ONCE)
            return 0
    call6(original, cpu, va, pa, prot, mmu_index, size)
    fast = cpu + _FAST + _DESCRIPTOR * mmu_index
    entry = ld64(fast + 8) + ((va >> (12 - _ENTRY_SHIFT)) & ld64(fast))
    if ld64(entry + _CODE) == -1 and ld64(entry + _WRITE) == va | _NOTDIRTY:
        st64(entry + _WRITE, va)
    return 0


@kernel
def flush(cpu, indexes, original):  # type: ignore[no-untyped-def]
    """Unicorn's ``tlb_flush_by_mmuidx``, which lies at ``original``, without growing beyond `MOST_ENTRIES`."""
    ours = ld8(ld64(cpu + _CPU_UC) + _OURS)
    for n in range(_INDEXES):
        if ours and ld64(cpu + _FAST + _DESCRIPTOR * n) >= _LARGEST:
            st64(cpu + _SLOW + _SLOW_SIZE * n + _USED, 0)
            st64(cpu + _SLOW + _SLOW_SIZE * n + _MOST, 0)
    return call2(original, cpu, indexes)


__all__ = ["ANY_WAY", "NO_WAY", "flush", "set_page"]
