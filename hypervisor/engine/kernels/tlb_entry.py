"""Making TLB entries: Unicorn's way, less a detour that our frames do not need.

Unicorn marks each writable entry NOTDIRTY, so that the first store through it takes a slow path that looks for
translated code in the page and, if the entry is not executable, unmarks it. A fill of ours (`kernels.fill`) grants a
write only to a frame without code, or together with the right to execute: there is nothing to look for.
"""

from __future__ import annotations

from hypervisor.engine import layout as l_
from hypervisor.engine.jit import call6, kernel, ld64, st64

_FAST, _DESCRIPTOR, _ENTRY_SHIFT = l_.CPU_TO_ENV + l_.TLB_FAST, l_.TLB_FAST_SIZE, l_.TLB_ENTRY_SHIFT
_WRITE, _CODE, _NOTDIRTY = l_.TLB_ADDR_WRITE, l_.TLB_ADDR_CODE, l_.TLB_NOTDIRTY


@kernel
def set_page(cpu, va, pa, prot, mmu_index, size, original):  # type: ignore[no-untyped-def]
    """Unicorn's ``tlb_set_page``, which lies at ``original``; then the entry's first store is as fast as the next."""
    call6(original, cpu, va, pa, prot, mmu_index, size)
    fast = cpu + _FAST + _DESCRIPTOR * mmu_index
    entry = ld64(fast + 8) + ((va >> (12 - _ENTRY_SHIFT)) & ld64(fast))
    if ld64(entry + _CODE) == -1 and ld64(entry + _WRITE) == va | _NOTDIRTY:
        st64(entry + _WRITE, va)
    return 0
