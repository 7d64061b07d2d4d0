"""Swapping: which pages of a zone have not been used for a while, and letting them show slots of the swap file.

Slots are frames that lie in a mapping of the file, so whoever reads a page need not know; all words that lead to one
say that others show it, so whoever stores copies first (`frame_table.own`), and then the slot is free. Pages are taken
by second chance: one that was used since it was met before is left, and its mark is taken off.

All of this is done for a VM that nobody runs at the moment. Between the two steps the frames are written to the file.
The pCPU that has the VM must forget all translations of addresses before the VM goes on.
"""

from __future__ import annotations

from hypervisor.engine.jit import add64, kernel, ld8, ld64, st8, st64
from hypervisor.engine.kernels.memory.frame_table import discharge, give, mark_of, put, references, take_slot
from hypervisor.engine.kernels.memory.merging import is_zero
from hypervisor.memory import map_words as m_

_MEMORY, _ZERO_LEAF, _BASE, _END = m_.MEMORY, m_.ZERO_LEAF, m_.BASE, m_.END
_RAM, _SHARED, _FRAME, _ZERO, _FIRST = m_.MAP_RAM, m_.MAP_SHARED, m_.FRAME, m_.ZERO, m_.FIRST
_REFERENCED, _MERGED, _LEAF_SHIFT, _IN_LEAF = m_.REFERENCED, m_.MERGED, m_.LEAF_SHIFT, m_.LEAF_PAGES - 1
_PICKED, _IN_USE, _EMPTY, _PICKS, _PICK = m_.PICKED, m_.IN_USE, m_.EMPTY, m_.PICKS, m_.PICK


@kernel
def _exchange(table, map_, leaf, page, frame):  # type: ignore[no-untyped-def]
    """Let a page show another frame, which others may show, too."""
    word = ld64(leaf + 8 * (page & _IN_LEAF))
    if word & _SHARED == 0:
        discharge(table, map_, 1)
    put(map_, leaf, page, frame | (word & ~_FRAME) | _SHARED)
    return give(table, word & _FRAME)


@kernel
def _count(picks, what):  # type: ignore[no-untyped-def]
    st64(picks + what, ld64(picks + what) + 1)
    return 0


@kernel
def _pick_page(table, map_, leaf, page, picks):  # type: ignore[no-untyped-def]
    """Look at one page; whether there is a slot for a further one."""
    word = ld64(leaf + 8 * (page & _IN_LEAF))
    frame = word & _FRAME
    if word & _RAM == 0 or frame < _FIRST or frame >= ld64(table + _END):
        return True
    if add64(references(table, frame), 0) != 1:
        return True
    mark = mark_of(table, frame)
    if ld8(mark) & _REFERENCED:
        st8(mark, ld8(mark) & ~_REFERENCED)
        _count(picks, _IN_USE)
        return True
    if ld8(mark) & _MERGED:
        return True
    if is_zero(ld64(table + _MEMORY) + frame):
        _exchange(table, map_, leaf, page, _ZERO)
        _count(picks, _EMPTY)
        return True
    slot = take_slot(table)
    if slot < 0:
        return False
    row = picks + _PICKS + _PICK * ld64(picks + _PICKED)
    st64(row, page)
    st64(row + 8, frame)
    st64(row + 16, slot)
    _count(picks, _PICKED)
    return True


@kernel
def pick(table, map_, zone, picks, most):  # type: ignore[no-untyped-def]
    """Pick at most so many pages of a zone whose leaf no other map has, each with a slot; those that are all zeros give
    their frames back at once. How many were picked.
    """
    st64(picks + _PICKED, 0)
    st64(picks + _IN_USE, 0)
    st64(picks + _EMPTY, 0)
    leaf = ld64(ld64(map_ + _BASE) + 8 * zone)
    if leaf == 0 or leaf == ld64(table + _ZERO_LEAF):
        return 0
    if add64(references(table, leaf - ld64(table + _MEMORY)), 0) != 1:
        return 0
    for page in range(zone << _LEAF_SHIFT, (zone + 1) << _LEAF_SHIFT):
        if ld64(picks + _PICKED) == most or not _pick_page(table, map_, leaf, page, picks):
            break
    return ld64(picks + _PICKED)


@kernel
def swap(table, map_, picks, written):  # type: ignore[no-untyped-def]
    """Let the pages that were picked show their slots, which hold the same now, and give their frames back; or, if they
    could not be written, give the slots back.
    """
    for n in range(ld64(picks + _PICKED)):
        row = picks + _PICKS + _PICK * n
        page, slot = ld64(row), ld64(row + 16)
        if written:
            _exchange(table, map_, ld64(ld64(map_ + _BASE) + 8 * (page >> _LEAF_SHIFT)), page, slot)
        else:
            give(table, slot)
    st64(picks + _PICKED, 0)
    return 0


__all__ = ["pick", "swap"]
