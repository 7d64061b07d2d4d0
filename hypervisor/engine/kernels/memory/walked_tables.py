"""Where the guest's page tables lie that walks have used last, one for each level.

Each entry of a walk is found by the one before, so what it takes to find a table in this process is what a walk takes,
and tables near the root are the same ones in nearly all. What is remembered holds until the map changes or a page gets
another frame: as long as what the CPU's own accesses remember (`lookaside.forget`), or Unicorn's TLB (`flush_tlb`).
"""

from __future__ import annotations

from hypervisor.engine import block as b_
from hypervisor.engine.jit import inlined, kernel, ld64, st64

_TABLES, _LEVELS = b_.WALKED_TABLES, b_.WALKED_LEVELS
_PAGE, _NOWHERE = ~0xFFF, -1


@inlined
def find_entry(b, level, gpa):  # type: ignore[no-untyped-def]
    """The process address of the entry at guest-physical ``gpa`` of a table of this level, 0 if it is not known."""
    slot = b + _TABLES + 16 * level
    return ld64(slot + 8) + (gpa & 0xFFF) if ld64(slot) == gpa & _PAGE else 0


@kernel
def keep_table(b, level, gpa, where):  # type: ignore[no-untyped-def]
    """The table's page with ``gpa`` lies so that this is at ``where``."""
    slot = b + _TABLES + 16 * level
    st64(slot, gpa & _PAGE)
    st64(slot + 8, where & _PAGE)
    return 0


@kernel
def forget_tables(b):  # type: ignore[no-untyped-def]
    """Nothing is known any more."""
    for level in range(_LEVELS):
        st64(b + _TABLES + 16 * level, _NOWHERE)
    return 0


__all__ = ["find_entry", "forget_tables", "keep_table"]
