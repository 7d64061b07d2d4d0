"""Swapping: which pages of a zone have not been used for a while, and letting them show slots of the swap file.

Slots are frames that lie in a mapping of the file, so whoever reads a page need not know; all words that lead to one
say that others show it, so whoever stores copies first (`frame_table.own`), and then the slot is free. Pages are taken
by second chance: one that was used since it was met before is left, and its mark is taken off.

Both steps are done while nobody runs the VM; the pCPU that has it must forget all translations of addresses before the
VM goes on. Between the two the frames are written to the file, and whoever wants the VM may have it: only a page whose
frame holds the same as its slot then, byte by byte, shows the slot.
"""

from __future__ import annotations

from hypervisor.engine.jit import add64, kernel, ld8, ld64, st8, st64
from hypervisor.engine.kernels.memory.frame_table import discharge, give, is_lost, mark_of, put, references, take_slot
from hypervisor.engine.kernels.memory.merging import is_zero
from hypervisor.memory import map_words as m_

_MEMORY, _ZERO_LEAF, _BASE, _END = m_.MEMORY, m_.ZERO_LEAF, m_.BASE, m_.END
_RAM, _SHARED, _FRAME, _ZERO, _FIRST = m_.MAP_RAM, m_.MAP_SHARED, m_.FRAME, m_.ZERO, m_.FIRST
_REFERENCED, _MERGED, _LEAF_SHIFT, _IN_LEAF = m_.REFERENCED, m_.MERGED, m_.LEAF_SHIFT, m_.LEAF_PAGES - 1
_PICKED, _IN_USE, _EMPTY, _SPARE, _PICKS, _PICK = m_.PICKED, m_.IN_USE, m_.EMPTY, m_.SPARE, m_.PICKS, m_.PICK
_CHARGE, _SIZE = m_.CHARGE, 4096


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
def _own_leaf_of(table, map_, zone):  # type: ignore[no-untyped-def]
    """The leaf of a zone, if no other map has it, else 0."""
    leaf = ld64(ld64(map_ + _BASE) + 8 * zone)
    if leaf == 0 or leaf == ld64(table + _ZERO_LEAF):
        return 0
    return leaf if add64(references(table, leaf - ld64(table + _MEMORY)), 0) == 1 else 0


@kernel
def _is_alone(table, frame):  # type: ignore[no-untyped-def]
    """Whether a page's frame is one that it alone shows."""
    if frame < _FIRST or frame >= ld64(table + _END) or ld8(mark_of(table, frame)) & _MERGED:
        return False
    return add64(references(table, frame), 0) == 1


@kernel
def _is_same(one, other):  # type: ignore[no-untyped-def]
    for n in range(0, _SIZE, 8):
        if ld64(one + n) != ld64(other + n):
            return False
    return True


@kernel
def _spend(picks, word):  # type: ignore[no-untyped-def]
    """A page gives up its frame; one that says that others show it, too, is not charged for."""
    if word & _SHARED == 0:
        st64(picks + _SPARE, ld64(picks + _SPARE) - 1)
    return 0


@kernel
def _pick_page(table, map_, leaf, page, picks):  # type: ignore[no-untyped-def]
    """Look at one page; whether there is a slot for a further one."""
    word = ld64(leaf + 8 * (page & _IN_LEAF))
    frame = word & _FRAME
    if word & _RAM == 0 or not _is_alone(table, frame):
        return True
    mark = mark_of(table, frame)
    if ld8(mark) & _REFERENCED:
        st8(mark, ld8(mark) & ~_REFERENCED)
        _count(picks, _IN_USE)
        return True
    if word & _SHARED == 0 and ld64(picks + _SPARE) <= 0:
        return True
    if is_zero(ld64(table + _MEMORY) + frame):
        _exchange(table, map_, leaf, page, _ZERO)
        _count(picks, _EMPTY)
        _spend(picks, word)
        return True
    slot = take_slot(table)
    if slot < 0:
        return False
    row = picks + _PICKS + _PICK * ld64(picks + _PICKED)
    st64(row, page)
    st64(row + 8, frame)
    st64(row + 16, slot)
    _count(picks, _PICKED)
    _spend(picks, word)
    return True


@kernel
def pick(table, map_, zone, picks, most):  # type: ignore[no-untyped-def]
    """Pick at most so many pages of a zone whose leaf no other map has, each with a slot; those that are all zeros give
    their frames back at once. How many were picked.
    """
    st64(picks + _PICKED, 0)
    st64(picks + _IN_USE, 0)
    st64(picks + _EMPTY, 0)
    charge = ld64(map_ + _CHARGE)
    st64(picks + _SPARE, ld64(charge) - ld64(charge + 8))
    leaf = _own_leaf_of(table, map_, zone)
    if leaf == 0:
        return 0
    for page in range(zone << _LEAF_SHIFT, (zone + 1) << _LEAF_SHIFT):
        if ld64(picks + _PICKED) == most or not _pick_page(table, map_, leaf, page, picks):
            break
    return ld64(picks + _PICKED)


@kernel
def _may_show(table, leaf, page, frame, slot):  # type: ignore[no-untyped-def]
    """Whether a page still has this frame, for itself, and has not been used since, and the slot holds the same."""
    if leaf == 0 or not _is_alone(table, frame) or ld8(mark_of(table, frame)) & _REFERENCED:
        return False
    word, memory = ld64(leaf + 8 * (page & _IN_LEAF)), ld64(table + _MEMORY)
    if word & _RAM == 0 or word & _FRAME != frame or not _is_same(memory + frame, memory + slot):
        return False
    return not is_lost(table, slot)


@kernel
def swap(table, map_, picks):  # type: ignore[no-untyped-def]
    """Let the pages that were picked show their slots, and give their frames back; those that have changed since keep
    them, and give their slots back. How many show slots.
    """
    count = 0
    for n in range(ld64(picks + _PICKED)):
        row = picks + _PICKS + _PICK * n
        page, frame, slot = ld64(row), ld64(row + 8), ld64(row + 16)
        leaf = _own_leaf_of(table, map_, page >> _LEAF_SHIFT)
        if _may_show(table, leaf, page, frame, slot):
            _exchange(table, map_, leaf, page, slot)
            count += 1
        else:
            give(table, slot)
    st64(picks + _PICKED, 0)
    return count


@kernel
def drop_slots(table, picks):  # type: ignore[no-untyped-def]
    """The pages that were picked stay where they are: give their slots back."""
    for n in range(ld64(picks + _PICKED)):
        give(table, ld64(picks + _PICKS + _PICK * n + 16))
    st64(picks + _PICKED, 0)
    return 0


__all__ = ["drop_slots", "pick", "swap"]
