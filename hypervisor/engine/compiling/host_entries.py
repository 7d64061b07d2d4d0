"""The entry points of what any thread does without a pCPU: to frames, maps and TLBs at rest, and while it waits."""

from __future__ import annotations

from hypervisor.engine.jit import COMPILED
from hypervisor.engine.kernels import polling
from hypervisor.engine.kernels.memory import frame_table, freezing, merging, packed_tlb, swapping

_take, _trim, _own, _own_several = frame_table.take, frame_table.trim, frame_table.own, frame_table.own_several
_lay, _clear = frame_table.lay, frame_table.clear
_add_leaf, _remove_leaf, _release = frame_table.add_leaf, frame_table.remove_leaf, frame_table.release
_freeze, _adopt, _put_back, _drop = freezing.freeze, freezing.adopt, freezing.put_back, freezing.drop
_keep_for = frame_table.keep_for
_merge_zone, _prune = merging.merge_zone, merging.prune
_pick, _swap, _drop_slots = swapping.pick, swapping.swap, swapping.drop_slots
_pack, _unpack = packed_tlb.pack, packed_tlb.unpack
_poll = polling.poll

if not COMPILED:
    raise NotImplementedError("the uncompiled kernels are called as they are by hypervisor.engine.compiling.plain")


def take_frame(table):  # type: ignore[no-untyped-def]
    """`frame_table.take`."""
    return _take(table)


def trim_frames(table):  # type: ignore[no-untyped-def]
    """`frame_table.trim`."""
    return _trim(table)


def own_frame(table, map_, page):  # type: ignore[no-untyped-def]
    """`frame_table.own`."""
    return _own(table, map_, page)


def own_frames(table, map_, first, count):  # type: ignore[no-untyped-def]
    """`frame_table.own_several`."""
    return _own_several(table, map_, first, count)


def lay_pages(table, map_, first, count):  # type: ignore[no-untyped-def]
    """`frame_table.lay`."""
    return _lay(table, map_, first, count)


def clear_pages(table, map_, first, count):  # type: ignore[no-untyped-def]
    """`frame_table.clear`."""
    return _clear(table, map_, first, count)


def add_leaf(table, entry):  # type: ignore[no-untyped-def]
    """`frame_table.add_leaf`."""
    return _add_leaf(table, entry)


def remove_leaf(table, entry):  # type: ignore[no-untyped-def]
    """`frame_table.remove_leaf`."""
    return _remove_leaf(table, entry)


def release_zones(table, map_, first, end):  # type: ignore[no-untyped-def]
    """`frame_table.release`."""
    return _release(table, map_, first, end)


def freeze_map(table, map_, to):  # type: ignore[no-untyped-def]
    """`freezing.freeze`."""
    return _freeze(table, map_, to)


def adopt_zones(table, map_, zone, frozen, count):  # type: ignore[no-untyped-def]
    """`freezing.adopt`."""
    return _adopt(table, map_, zone, frozen, count)


def put_back_zones(table, map_, zone, frozen, count):  # type: ignore[no-untyped-def]
    """`freezing.put_back`."""
    return _put_back(table, map_, zone, frozen, count)


def drop_leaves(table, frozen, count):  # type: ignore[no-untyped-def]
    """`freezing.drop`."""
    return _drop(table, frozen, count)


def keep_frames(table, map_, count):  # type: ignore[no-untyped-def]
    """`frame_table.keep_for`."""
    return _keep_for(table, map_, count)


def merge_zone(table, map_, zone, index):  # type: ignore[no-untyped-def]
    """`merging.merge_zone`."""
    return _merge_zone(table, map_, zone, index)


def prune_merged(table, index, most):  # type: ignore[no-untyped-def]
    """`merging.prune`."""
    return _prune(table, index, most)


def pick_pages(table, map_, zone, picks, most):  # type: ignore[no-untyped-def]
    """`swapping.pick`."""
    return _pick(table, map_, zone, picks, most)


def swap_pages(table, map_, picks):  # type: ignore[no-untyped-def]
    """`swapping.swap`."""
    return _swap(table, map_, picks)


def drop_slots(table, picks):  # type: ignore[no-untyped-def]
    """`swapping.drop_slots`."""
    return _drop_slots(table, picks)


def pack_tlb(table, age, to):  # type: ignore[no-untyped-def]
    """`packed_tlb.pack`."""
    return _pack(table, age, to)


def unpack_tlb(table, age, packed, count):  # type: ignore[no-untyped-def]
    """`packed_tlb.unpack`."""
    return _unpack(table, age, packed, count)


def poll(word, comers):  # type: ignore[no-untyped-def]
    """`polling.poll`."""
    return _poll(word, comers)


ENTRIES = (
    (take_frame, "l(l)"), (trim_frames, "l(l)"), (own_frame, "l(lll)"), (own_frames, "l(llll)"),
    (lay_pages, "l(llll)"), (clear_pages, "l(llll)"), (add_leaf, "l(ll)"), (remove_leaf, "l(ll)"),
    (release_zones, "l(llll)"), (freeze_map, "l(lll)"), (adopt_zones, "l(lllll)"), (put_back_zones, "l(lllll)"),
    (drop_leaves, "l(lll)"), (keep_frames, "l(lll)"), (merge_zone, "l(llll)"), (prune_merged, "l(lll)"),
    (pick_pages, "l(lllll)"), (swap_pages, "l(lll)"), (drop_slots, "l(ll)"),
    (pack_tlb, "l(lll)"), (unpack_tlb, "l(llll)"), (poll, "l(ll)"),
)  # fmt: skip
"""Functions and their C types, as in `hooks`."""
