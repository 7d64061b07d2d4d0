"""Base maps as they were at one moment: taking one, letting a map go on from it, and putting a map back to it.

A frozen map is a directory of leaves, as a base map is, which nobody changes: it has one reference to each leaf, so
whoever has the leaf, too, copies it before changing a word. All its words say that others show their frames.
"""

from __future__ import annotations

from hypervisor.engine.jit import add64, kernel, ld64, st64
from hypervisor.engine.kernels.memory.frame_table import discharge, give, put, references, release_leaf
from hypervisor.memory import map_words as m_

_MEMORY, _ZERO_LEAF = m_.MEMORY, m_.ZERO_LEAF
_SHOWN, _BASE, _PAGES, _ZONES = m_.SHOWN, m_.BASE, m_.PAGES, m_.ZONES
_RAM, _SHARED, _FRAME, _ZERO, _FIRST = m_.MAP_RAM, m_.MAP_SHARED, m_.FRAME, m_.ZERO, m_.FIRST
_LEAF_SHIFT, _SIZE = m_.LEAF_SHIFT, 4096


@kernel
def _mark(leaf):  # type: ignore[no-untyped-def]
    """Let all words of a leaf say that others show their frames; how many did not."""
    count = 0
    for at in range(leaf, leaf + _SIZE, 8):
        word = ld64(at)
        if word & (_RAM | _SHARED) == _RAM:
            st64(at, word | _SHARED)
            count += 1
    return count


@kernel
def _is_counted(table, leaf):  # type: ignore[no-untyped-def]
    return leaf != 0 and leaf != ld64(table + _ZERO_LEAF)


@kernel
def _add_reference(table, leaf):  # type: ignore[no-untyped-def]
    if _is_counted(table, leaf):
        add64(references(table, leaf - ld64(table + _MEMORY)), 1)
    return leaf


@kernel
def _layer_over(table, map_, zone):  # type: ignore[no-untyped-def]
    """The leaf of a zone of the shown map that is none of the base map's, or 0."""
    if zone >= ld64(map_ + _PAGES) >> _LEAF_SHIFT:
        return 0
    layer = ld64(ld64(map_ + _SHOWN) + 8 * zone)
    if layer == ld64(ld64(map_ + _BASE) + 8 * zone) or layer == ld64(table + _MEMORY) + _ZERO:
        return 0
    return layer


@kernel
def freeze(table, map_, to):  # type: ignore[no-untyped-def]
    """Fill the directory at ``to`` with the leaves of a map, which is on no pCPU. Only leaves that nobody else has are
    looked into: the words of the others say already that they are shared.
    """
    for zone in range(ld64(map_ + _ZONES)):
        leaf = ld64(ld64(map_ + _BASE) + 8 * zone)
        if _is_counted(table, leaf):
            if add64(references(table, leaf - ld64(table + _MEMORY)), 0) == 1:
                discharge(table, map_, _mark(leaf))
            layer = _layer_over(table, map_, zone)
            if layer:
                _mark(layer)  # which repeats words of the base map's
        st64(to + 8 * zone, _add_reference(table, leaf))
    return 0


@kernel
def _exchange_leaf(table, map_, zone, leaf):  # type: ignore[no-untyped-def]
    """Let a zone of a map have this leaf."""
    at = ld64(map_ + _BASE) + 8 * zone
    old, layer = ld64(at), _layer_over(table, map_, zone)
    st64(at, _add_reference(table, leaf))
    if layer:
        for n in range(0, _SIZE, 8):
            if ld64(layer + n) & _RAM:
                st64(layer + n, ld64(leaf + n))
    elif zone < ld64(map_ + _PAGES) >> _LEAF_SHIFT:
        shown = ld64(map_ + _SHOWN) + 8 * zone
        if ld64(shown) == old:
            st64(shown, leaf)
    return discharge(table, map_, release_leaf(table, old))


@kernel
def _put_back_words(table, map_, zone, leaf):  # type: ignore[no-untyped-def]
    """Let the leaf of a zone, which no other map has, have the words of another one; how many were others."""
    old, changed = ld64(ld64(map_ + _BASE) + 8 * zone), 0
    for n in range(_SIZE >> 3):
        word, before = ld64(leaf + 8 * n), ld64(old + 8 * n)
        if word != before:
            if word & _FRAME >= _FIRST:
                add64(references(table, word & _FRAME), 1)
            put(map_, old, zone << _LEAF_SHIFT | n, word)
            if before & (_RAM | _SHARED) == _RAM:
                discharge(table, map_, 1)
            if before & _RAM:
                give(table, before & _FRAME)
            changed += 1
    return changed


@kernel
def _differing(one, other):  # type: ignore[no-untyped-def]
    """How many words of two leaves differ."""
    changed = 0
    for n in range(0, _SIZE, 8):
        if ld64(one + n) != ld64(other + n):
            changed += 1
    return changed


@kernel
def adopt(table, map_, zone, frozen, count):  # type: ignore[no-untyped-def]
    """Let ``count`` zones of a map, which is on no pCPU, have the leaves of the directory at ``frozen``, in which there
    is memory where the map has some.
    """
    for n in range(count):
        leaf = ld64(frozen + 8 * n)
        if leaf != ld64(ld64(map_ + _BASE) + 8 * (zone + n)):
            _exchange_leaf(table, map_, zone + n, leaf)
    return 0


@kernel
def put_back(table, map_, zone, frozen, count):  # type: ignore[no-untyped-def]
    """As `adopt`, by what differs: a leaf of the map's own is kept, with other words. Says how many pages differed."""
    changed = 0
    for n in range(count):
        leaf, old = ld64(frozen + 8 * n), ld64(ld64(map_ + _BASE) + 8 * (zone + n))
        if leaf == old:
            continue
        if _is_counted(table, old) and add64(references(table, old - ld64(table + _MEMORY)), 0) == 1:
            changed += _put_back_words(table, map_, zone + n, leaf)
        else:
            changed += _differing(leaf, old)
            _exchange_leaf(table, map_, zone + n, leaf)
    return changed


@kernel
def drop(table, frozen, count):  # type: ignore[no-untyped-def]
    """Nobody needs the leaves of a directory any more, which is empty afterwards."""
    for at in range(frozen, frozen + 8 * count, 8):
        leaf = ld64(at)
        st64(at, 0)
        release_leaf(table, leaf)
    return 0


__all__ = ["adopt", "drop", "freeze", "put_back"]
