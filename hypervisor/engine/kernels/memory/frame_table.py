"""The frames of a host: who has how many references to each, the pool of free ones, and making one a VM's own.

These kernels take the frame table (`hypervisor.memory.map_words`) and a VM's map, not a pCPU's block: Python calls
them, too, and several threads may at the same time. Frames and leaves of one map are changed by one thread at a time,
the one that has the VM; what VMs share is changed by atomic operations. A frame that is shared is copied first, then
released; whoever finds that the only reference is its own has seen everything that others did before they let go.

A host may have fewer frames than its VMs were promised. What each has been promised for sure is kept for it until it
has as many frames for itself alone; whatever else pages get comes out of the rest. Page maps are not counted.
"""

from __future__ import annotations

from hypervisor.engine.jit import add64, call1, call3, kernel, ld8, ld64, st8, st64, swap64
from hypervisor.memory import map_words as m_

_MEMORY, _POOL, _LOCK, _FRESH, _END = m_.MEMORY, m_.POOL, m_.LOCK, m_.FRESH, m_.END
_CLEAN, _DIRTY, _ZERO_LEAF, _YIELD, _ADVISE = m_.CLEAN, m_.DIRTY, m_.ZERO_LEAF, m_.YIELD, m_.ADVISE
_SHOWN, _BASE, _PAGES, _ZONES = m_.SHOWN, m_.BASE, m_.PAGES, m_.ZONES
_REFERENCES, _GENERATIONS, _TO_WORD = m_.REFERENCES, m_.GENERATIONS, m_.TO_WORD
_RAM, _WRITE, _SHARED, _FRAME = m_.MAP_RAM, m_.MAP_WRITE, m_.MAP_SHARED, m_.FRAME
_ZERO, _FIRST, _LEAF_SHIFT, _LEAF_PAGES = m_.ZERO, m_.FIRST, m_.LEAF_SHIFT, m_.LEAF_PAGES
_LEFT, _RESERVED, _MARKS, _CHARGE, _REFERENCED = m_.LEFT, m_.RESERVED, m_.MARKS, m_.CHARGE, m_.REFERENCED
_LOW, _SLOTS_END, _SLOTS_FRESH, _SLOTS_FREE = m_.LOW, m_.SLOTS_END, m_.SLOTS_FRESH, m_.SLOTS_FREE
_LOST, _LOST_AT = m_.LOST, m_.LOST_AT
_SIZE, _DONTNEED = 4096, 4
_IN_LEAF = _LEAF_PAGES - 1
_ANYBODY, _KEPT, _MAPS = 0, 1, 2
"""Whom a frame is for: who has had what is kept for him, who has not, page maps."""


# --- the pool -------------------------------------------------------------------------------------------------------


@kernel
def _lock(table):  # type: ignore[no-untyped-def]
    while swap64(table + _LOCK, 1):
        call1(ld64(table + _YIELD), 0)
    return 0


@kernel
def _unlock(table):  # type: ignore[no-untyped-def]
    return swap64(table + _LOCK, 0)


@kernel
def references(table, frame):  # type: ignore[no-untyped-def]
    """Where the references of a frame are counted."""
    return ld64(table + _REFERENCES) + (frame >> _TO_WORD)


@kernel
def _last_dirty(table):  # type: ignore[no-untyped-def]
    """The place in the pool of the frame that came last to those that are not zero."""
    return ld64(table + _POOL) + 8 * ((ld64(table + _END) >> 12) - ld64(table + _DIRTY))


@kernel
def mark_of(table, frame):  # type: ignore[no-untyped-def]
    """Where the marks of a frame are."""
    return ld64(table + _MARKS) + (frame >> 12)


@kernel
def _take(table, what_for):  # type: ignore[no-untyped-def]
    """A free frame, zeroed, with one reference; -1 if there is none. What was translated in it is out of date."""
    _lock(table)
    frame, dirty, clean = -1, ld64(table + _DIRTY), ld64(table + _CLEAN)
    left = ld64(table + _LEFT)
    if what_for != _MAPS and (left <= 0 or (what_for == _ANYBODY and left <= ld64(table + _RESERVED))):
        dirty = 0
    elif dirty:
        frame = ld64(_last_dirty(table))
        st64(table + _DIRTY, dirty - 1)
    elif clean:
        frame = ld64(ld64(table + _POOL) + 8 * (clean - 1))
        st64(table + _CLEAN, clean - 1)
    elif ld64(table + _FRESH) < ld64(table + _END):
        frame = ld64(table + _FRESH)
        st64(table + _FRESH, frame + _SIZE)
    if frame >= 0 and what_for != _MAPS:
        st64(table + _LEFT, left - 1)
    _unlock(table)
    if frame < 0:
        return -1
    if dirty:
        at = ld64(table + _MEMORY) + frame
        for n in range(0, _SIZE, 8):
            st64(at + n, 0)
    at = ld64(table + _GENERATIONS) + (frame >> _TO_WORD)
    st64(at, ld64(at) + (ld64(at) & 1))
    st64(references(table, frame), 1)
    st8(mark_of(table, frame), _REFERENCED)
    return frame


@kernel
def take(table):  # type: ignore[no-untyped-def]
    """A free frame for a page map, zeroed, with one reference; -1 if there is none."""
    return _take(table, _MAPS)


@kernel
def has_room(table):  # type: ignore[no-untyped-def]
    """Whether there are free frames that are kept for nobody."""
    return ld64(table + _LEFT) > ld64(table + _RESERVED)


@kernel
def is_low(table):  # type: ignore[no-untyped-def]
    """Whether so few of these are left that room is to be made."""
    return ld64(table + _LEFT) - ld64(table + _RESERVED) < ld64(table + _LOW)


@kernel
def take_slot(table):  # type: ignore[no-untyped-def]
    """A free slot of the swap file, with one reference; -1 if there is none. What was translated in it is out of
    date.
    """
    _lock(table)
    slot, free, fresh = -1, ld64(table + _SLOTS_FREE), ld64(table + _SLOTS_FRESH)
    if free:
        slot = ld64(ld64(table + _POOL) + 8 * ((ld64(table + _END) >> 12) + free - 1))
        st64(table + _SLOTS_FREE, free - 1)
    elif fresh < ld64(table + _SLOTS_END):
        slot = fresh
        st64(table + _SLOTS_FRESH, fresh + _SIZE)
    _unlock(table)
    if slot < 0:
        return -1
    at = ld64(table + _GENERATIONS) + (slot >> _TO_WORD)
    st64(at, ld64(at) + (ld64(at) & 1))
    st64(references(table, slot), 1)
    st8(mark_of(table, slot), 0)
    return slot


@kernel
def is_lost(table, slot):  # type: ignore[no-untyped-def]
    """Whether a slot could not be read when somebody did, who found zeros instead."""
    return ld64(table + _LOST) and ld8(ld64(table + _LOST_AT) + ((slot - ld64(table + _END)) >> 12))


@kernel
def _charge(table, map_):  # type: ignore[no-untyped-def]
    """A map has a frame more for itself alone."""
    at = ld64(map_ + _CHARGE)
    count = ld64(at)
    st64(at, count + 1)
    if count < ld64(at + 8):
        add64(table + _RESERVED, -1)
    return 0


@kernel
def discharge(table, map_, count):  # type: ignore[no-untyped-def]
    """A map has so many frames less for itself alone: they are about to be given back, or others show them, too."""
    at = ld64(map_ + _CHARGE)
    left = ld64(at) - count
    st64(at, left)
    kept = min(ld64(at + 8) - left, count)
    if kept > 0:
        add64(table + _RESERVED, kept)
    return 0


@kernel
def keep_for(table, map_, count):  # type: ignore[no-untyped-def]
    """A map has been promised ``count`` frames for sure. Whether there are as many."""
    at = ld64(map_ + _CHARGE)
    taken, before = ld64(at), ld64(at + 8)
    more = max(count - taken, 0) - max(before - taken, 0)
    st64(at + 8, count)
    return add64(table + _RESERVED, more) + more <= ld64(table + _LEFT)


@kernel
def _take_for(table, map_):  # type: ignore[no-untyped-def]
    """A free frame for a page of a map, as `take`."""
    at = ld64(map_ + _CHARGE)
    frame = _take(table, _KEPT if ld64(at) < ld64(at + 8) else _ANYBODY)
    if frame >= 0:
        _charge(table, map_)
    return frame


@kernel
def _put_back(table, frame, count):  # type: ignore[no-untyped-def]
    """A frame is free, and with it so many more may be taken for pages; or a slot is."""
    _lock(table)
    end = ld64(table + _END)
    if frame >= end:
        if is_lost(table, frame):
            return _unlock(table)
        free = ld64(table + _SLOTS_FREE)
        st64(ld64(table + _POOL) + 8 * ((end >> 12) + free), frame)
        st64(table + _SLOTS_FREE, free + 1)
        return _unlock(table)
    st64(table + _DIRTY, ld64(table + _DIRTY) + 1)
    st64(table + _LEFT, ld64(table + _LEFT) + count)
    st64(_last_dirty(table), frame)
    _unlock(table)
    return 0


@kernel
def give(table, frame):  # type: ignore[no-untyped-def]
    """One reference less to the frame of a page; without any it is free."""
    if frame >= _FIRST and add64(references(table, frame), -1) == 1:
        _put_back(table, frame, 1)
    return 0


@kernel
def _clean(table, start, end):  # type: ignore[no-untyped-def]
    """Give the host's memory of free frames back to its system, where they are zero from then on."""
    if start == end:
        return 0
    call3(ld64(table + _ADVISE), ld64(table + _MEMORY) + start, end - start, _DONTNEED)
    _lock(table)
    clean, pool = ld64(table + _CLEAN), ld64(table + _POOL)
    for frame in range(end - _SIZE, start - _SIZE, -_SIZE):  # the lowest is taken first
        st64(pool + 8 * clean, frame)
        clean += 1
    st64(table + _CLEAN, clean)
    _unlock(table)
    return 0


@kernel
def trim(table):  # type: ignore[no-untyped-def]
    """Give the memory of all free frames back to the host's system."""
    if ld64(table + _ADVISE) == 0:
        return 0
    start = end = 0
    while True:
        _lock(table)
        dirty = ld64(table + _DIRTY)
        frame = -1
        if dirty:
            frame = ld64(_last_dirty(table))
            st64(table + _DIRTY, dirty - 1)
        _unlock(table)
        if frame < 0:
            return _clean(table, start, end)
        if frame == end:
            end += _SIZE
        elif frame + _SIZE == start:
            start = frame
        else:
            _clean(table, start, end)
            start, end = frame, frame + _SIZE


# --- a map ------------------------------------------------------------------------------------------------------------


@kernel
def release_leaf(table, leaf):  # type: ignore[no-untyped-def]
    """One reference to a leaf less; without any, what its words lead to has one less, too. How many of that nobody else
    shows.
    """
    frame, own = leaf - ld64(table + _MEMORY), 0
    if leaf == 0 or leaf == ld64(table + _ZERO_LEAF) or add64(references(table, frame), -1) != 1:
        return 0
    for at in range(leaf, leaf + _SIZE, 8):
        word = ld64(at)
        if word & _RAM:
            own += word & _SHARED == 0
            give(table, word & _FRAME)
    _put_back(table, frame, 0)
    return own


@kernel
def _own_leaf(table, map_, zone):  # type: ignore[no-untyped-def]
    """The leaf of a zone of the base map, which no other map has; 0 if there is no frame for a copy."""
    at = ld64(map_ + _BASE) + 8 * zone
    leaf, memory, zeros = ld64(at), ld64(table + _MEMORY), ld64(table + _ZERO_LEAF)
    if leaf != zeros and add64(references(table, leaf - memory), 0) == 1:
        return leaf
    frame = take(table)
    if frame < 0:
        return 0
    new = memory + frame
    for n in range(0, _SIZE, 8):
        word = ld64(leaf + n)
        st64(new + n, word)
        if word & _FRAME >= _FIRST:
            add64(references(table, word & _FRAME), 1)
    st64(at, new)
    shown = ld64(map_ + _SHOWN) + 8 * zone
    if zone < ld64(map_ + _PAGES) >> _LEAF_SHIFT and ld64(shown) == leaf:
        st64(shown, new)
    release_leaf(table, leaf)
    return new


@kernel
def put(map_, leaf, page, word):  # type: ignore[no-untyped-def]
    """Put a word into a leaf of the base map, and where the shown map repeats it."""
    st64(leaf + 8 * (page & _IN_LEAF), word)
    if page < ld64(map_ + _PAGES):
        shown = ld64(ld64(map_ + _SHOWN) + 8 * (page >> _LEAF_SHIFT)) + 8 * (page & _IN_LEAF)
        if ld64(shown) & _RAM:
            st64(shown, word)
    return word


@kernel
def own(table, map_, page):  # type: ignore[no-untyped-def]
    """Make the frame of a page of the base map the map's own, so that it may be written; its word, 0 if the host has no
    frame left, or what the page holds cannot be read from the swap file. Whoever shows the page elsewhere takes that
    back when the word has become another one.
    """
    at = ld64(ld64(map_ + _BASE) + 8 * (page >> _LEAF_SHIFT)) + 8 * (page & _IN_LEAF)
    word = ld64(at)
    if word & _SHARED == 0:
        return word
    leaf = _own_leaf(table, map_, page >> _LEAF_SHIFT)
    if leaf == 0:
        return 0
    old = word & _FRAME
    slots = ld64(table + _END)
    if old >= _FIRST and old < slots and add64(references(table, old), 0) == 1:  # everybody else has let go
        _charge(table, map_)
        return put(map_, leaf, page, word & ~_SHARED)
    new = _take_for(table, map_)
    if new < 0:
        return 0
    if old != _ZERO:
        memory = ld64(table + _MEMORY)
        for n in range(0, _SIZE, 8):
            st64(memory + new + n, ld64(memory + old + n))
        if old >= slots and is_lost(table, old):
            discharge(table, map_, 1)
            give(table, new)
            return 0
    word = put(map_, leaf, page, new | (word & ~_FRAME & ~_SHARED))
    give(table, old)
    return word


@kernel
def own_several(table, map_, first, count):  # type: ignore[no-untyped-def]
    """The same of ``count`` pages from ``first`` on; 0 if the host has no frame left."""
    for page in range(first, first + count):
        if own(table, map_, page) == 0:
            return 0
    return 1


@kernel
def lay(table, map_, first, count):  # type: ignore[no-untyped-def]
    """Let ``count`` pages of the base map from ``first`` on, whose zones are empty, be memory that reads as zeros; 0 if
    the host has no frame left for it.
    """
    zeros, page, end = ld64(table + _ZERO_LEAF), first, first + count
    while page < end:
        zone = page >> _LEAF_SHIFT
        at, following = ld64(map_ + _BASE) + 8 * zone, (zone + 1) << _LEAF_SHIFT
        if page == zone << _LEAF_SHIFT and end >= following:
            st64(at, zeros)
        else:
            frame = take(table)
            if frame < 0:
                return 0
            leaf = ld64(table + _MEMORY) + frame
            for n in range(page & _IN_LEAF, min(end, following) - (zone << _LEAF_SHIFT)):
                st64(leaf + 8 * n, _ZERO | _RAM | _WRITE | _SHARED)
            st64(at, leaf)
        page = following
    return 1


@kernel
def clear(table, map_, first, count):  # type: ignore[no-untyped-def]
    """Let pages of the base map read as zeros again; their frames are given back. 0 if the host has no frame left."""
    for page in range(first, first + count):
        zone = page >> _LEAF_SHIFT
        leaf = ld64(ld64(map_ + _BASE) + 8 * zone)
        word = ld64(leaf + 8 * (page & _IN_LEAF))
        if word & _FRAME == _ZERO:
            continue
        leaf = _own_leaf(table, map_, zone)
        if leaf == 0:
            return 0
        put(map_, leaf, page, _ZERO | (word & ~_FRAME) | _SHARED)
        if word & _SHARED == 0:
            discharge(table, map_, 1)
        give(table, word & _FRAME)
    return 1


@kernel
def add_leaf(table, entry):  # type: ignore[no-untyped-def]
    """Put a leaf without memory into a directory; its address, 0 if the host has no frame left."""
    frame = take(table)
    if frame < 0:
        return 0
    st64(entry, ld64(table + _MEMORY) + frame)
    return ld64(entry)


@kernel
def remove_leaf(table, entry):  # type: ignore[no-untyped-def]
    """Take a leaf that `add_leaf` made out of a directory. Its words are no references."""
    memory = ld64(table + _MEMORY)
    leaf = ld64(entry)
    st64(entry, memory + _ZERO)
    st64(references(table, leaf - memory), 0)
    return _put_back(table, leaf - memory, 0)


@kernel
def release(table, map_, first, end):  # type: ignore[no-untyped-def]
    """Take zones out of a map, with all that they show and all that is shown there."""
    base, shown, nothing = ld64(map_ + _BASE), ld64(map_ + _SHOWN), ld64(table + _MEMORY) + _ZERO
    shown_end = ld64(map_ + _PAGES) >> _LEAF_SHIFT
    for zone in range(first, end):
        leaf = ld64(base + 8 * zone)
        if zone < shown_end:
            layer = ld64(shown + 8 * zone)
            if layer == leaf:
                st64(shown + 8 * zone, nothing)
            elif layer != nothing:
                remove_leaf(table, shown + 8 * zone)
        if leaf:
            st64(base + 8 * zone, 0)
            discharge(table, map_, release_leaf(table, leaf))
    return 0


__all__ = [
    "add_leaf", "clear", "discharge", "give", "has_room", "is_lost", "is_low", "keep_for", "lay", "mark_of", "own",
    "own_several", "put", "references", "release", "release_leaf", "remove_leaf", "take", "take_slot", "trim",
]  # fmt: skip
