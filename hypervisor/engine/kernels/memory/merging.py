"""Merging frames that hold the same: pages of one zone at a time, against an index of what was seen.

A page whose frame is not in use reads from the frame of zeros if it is all zeros, or else from the frame in the index
that holds the same. There is one as soon as a second page with the same hash is met in one round. It is immutable: the
index has a reference to it, so that whoever stores copies, and nobody takes it over. What is compared is compared byte
by byte; the hash only says where to look.

All of this is done for a VM that nobody runs at the moment, and one thread at a time uses the index. The pCPU that has
the VM must forget all translations of addresses before the VM goes on, where a frame became another, or is shared now.
"""

from __future__ import annotations

from hypervisor.engine.jit import add64, kernel, ld8, ld64, s64, st8, st64
from hypervisor.engine.kernels.memory.frame_table import discharge, give, has_room, mark_of, put, references
from hypervisor.memory import map_words as m_

_MEMORY, _ZERO_LEAF, _BASE, _END = m_.MEMORY, m_.ZERO_LEAF, m_.BASE, m_.END
_RAM, _SHARED, _FRAME, _ZERO, _FIRST = m_.MAP_RAM, m_.MAP_SHARED, m_.FRAME, m_.ZERO, m_.FIRST
_REFERENCED, _MERGED, _LEAF_SHIFT = m_.REFERENCED, m_.MERGED, m_.LEAF_SHIFT
_ROWS, _BUCKETS, _ROUND, _BUCKET, _ROW = m_.ROWS, m_.BUCKETS, m_.ROUND, m_.BUCKET, m_.ROW
_LOOKED_AT, _HOT, _ZEROED, _SHARED_NOW, _REPLACED = m_.LOOKED_AT, m_.HOT, m_.ZEROED, m_.SHARED_NOW, m_.REPLACED
_SIZE, _IN_LEAF = 4096, m_.LEAF_PAGES - 1
_ODD, _LOW = 0x1E3779B97F4A7C15, 0xFFFFFFFF


@kernel
def _count(index, what):  # type: ignore[no-untyped-def]
    st64(index + what, ld64(index + what) + 1)
    return 1


@kernel
def is_zero(at):  # type: ignore[no-untyped-def]
    """Whether a page at a process address is all zeros."""
    for word in range(at, at + _SIZE, 8):
        if ld64(word):
            return False
    return True


@kernel
def _are_equal(one, other):  # type: ignore[no-untyped-def]
    for n in range(0, _SIZE, 8):
        if ld64(one + n) != ld64(other + n):
            return False
    return True


@kernel
def _mixed(value, word):  # type: ignore[no-untyped-def]
    value = s64((value ^ word) * _ODD)
    return value ^ value >> 32 & _LOW


@kernel
def hashed(at):  # type: ignore[no-untyped-def]
    """A hash of a frame's bytes, in four lanes that the processor computes side by side."""
    one, two, three, four = 1, 2, 3, 4
    for word in range(at, at + _SIZE, 32):
        one = _mixed(one, ld64(word))
        two = _mixed(two, ld64(word + 8))
        three = _mixed(three, ld64(word + 16))
        four = _mixed(four, ld64(word + 24))
    return _mixed(_mixed(one, two), _mixed(three, four))


# --- the index --------------------------------------------------------------------------------------------------------


@kernel
def _bucket(index, hash_):  # type: ignore[no-untyped-def]
    return ld64(index + _ROWS) + _BUCKET * _ROW * (hash_ & ld64(index + _BUCKETS))


@kernel
def _merged_like(index, hash_, memory, at):  # type: ignore[no-untyped-def]
    """The frame of the index that holds what the one at a process address does, -1 if there is none."""
    row = _bucket(index, hash_)
    for _ in range(_BUCKET):
        if ld64(row) == hash_ and ld64(row + 8) & 1 and _are_equal(memory + (ld64(row + 8) & _FRAME), at):
            return ld64(row + 8) & _FRAME
        row += _ROW
    return -1


@kernel
def _row_for(index, hash_):  # type: ignore[no-untyped-def]
    """Where a hash was seen in this round, or else a row that nothing of it is in; 0 if there is none."""
    row, free, now = _bucket(index, hash_), 0, ld64(index + _ROUND) << 1
    for _ in range(_BUCKET):
        if ld64(row + 8) == now:
            if ld64(row) == hash_:
                return row
        elif ld64(row + 8) & 1 == 0:
            free = row
        row += _ROW
    return free


# --- pages ------------------------------------------------------------------------------------------------------------


@kernel
def _share(table, map_, leaf, page, index, hash_):  # type: ignore[no-untyped-def]
    """A page's frame holds what no frame of the index does: note its hash, or put it into the index if another one with
    that hash was met in this round.
    """
    word, row = ld64(leaf + 8 * (page & _IN_LEAF)), _row_for(index, hash_)
    frame = word & _FRAME
    if row == 0:
        return 0
    if ld64(row) != hash_ or ld64(row + 8) != ld64(index + _ROUND) << 1:
        st64(row, hash_)
        st64(row + 8, ld64(index + _ROUND) << 1)
        return 0
    if word & _SHARED == 0:
        if not has_room(table):  # for a store would take another frame
            return 0
        discharge(table, map_, 1)
        put(map_, leaf, page, word | _SHARED)
    add64(references(table, frame), 1)
    st64(row + 8, frame | 1)
    st8(mark_of(table, frame), _MERGED)
    return _count(index, _SHARED_NOW)


@kernel
def _replace(table, map_, leaf, page, frame, index, what):  # type: ignore[no-untyped-def]
    """Let a page have another frame, which holds the same."""
    word = ld64(leaf + 8 * (page & _IN_LEAF))
    if frame >= _FIRST:
        add64(references(table, frame), 1)
    if word & _SHARED == 0:
        discharge(table, map_, 1)
    put(map_, leaf, page, frame | (word & ~_FRAME) | _SHARED)
    give(table, word & _FRAME)
    return _count(index, what)


@kernel
def _merge_page(table, map_, leaf, page, index):  # type: ignore[no-untyped-def]
    """One page; whether anything of it is another now."""
    word = ld64(leaf + 8 * (page & _IN_LEAF))
    frame = word & _FRAME
    if word & _RAM == 0 or frame < _FIRST or frame >= ld64(table + _END):
        return 0
    mark = mark_of(table, frame)
    if ld8(mark) & _REFERENCED:
        st8(mark, ld8(mark) & ~_REFERENCED)
        return _count(index, _HOT)
    if ld8(mark) & _MERGED:
        return 0
    _count(index, _LOOKED_AT)
    memory = ld64(table + _MEMORY)
    at = memory + frame
    if is_zero(at):
        return _replace(table, map_, leaf, page, _ZERO, index, _ZEROED)
    hash_ = hashed(at)
    like = _merged_like(index, hash_, memory, at)
    if like < 0:
        return _share(table, map_, leaf, page, index, hash_)
    if like == frame:  # an engine has overwritten the mark
        st8(mark, _MERGED)
        return 0
    return _replace(table, map_, leaf, page, like, index, _REPLACED)


@kernel
def merge_zone(table, map_, zone, index):  # type: ignore[no-untyped-def]
    """Merge what can be of the pages of a zone whose leaf no other map has; how many are others now, or were in use."""
    leaf, changed = ld64(ld64(map_ + _BASE) + 8 * zone), 0
    if leaf == 0 or leaf == ld64(table + _ZERO_LEAF):
        return 0
    if add64(references(table, leaf - ld64(table + _MEMORY)), 0) != 1:
        return 0
    for page in range(zone << _LEAF_SHIFT, (zone + 1) << _LEAF_SHIFT):
        changed += _merge_page(table, map_, leaf, page, index)
    return changed


@kernel
def prune(table, index, most):  # type: ignore[no-untyped-def]
    """Take frames with at most so many references, the index's own among them, out of the index; how many there were.
    With one reference nobody shows the frame any more.
    """
    row, count = ld64(index + _ROWS), 0
    for _ in range(_BUCKET * (ld64(index + _BUCKETS) + 1)):
        value = ld64(row + 8)
        if value & 1 and add64(references(table, value & _FRAME), 0) <= most:
            st64(row + 8, 0)
            st8(mark_of(table, value & _FRAME), 0)
            give(table, value & _FRAME)
            count += 1
        row += _ROW
    return count


__all__ = ["hashed", "is_zero", "merge_zone", "prune"]
