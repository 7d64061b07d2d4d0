"""What the tests of memory share: counting every frame of a host, and sharing frames between two VMs by hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from hypervisor.memory import GuestMemory, HostMemory
from hypervisor.memory import map_words as w
from hypervisor.memory.frozen_map import zones_of
from hypervisor.memory.page_map import PageMap
from hypervisor.units import PAGE_SHIFT, PAGE_SIZE


def leaf_words(host: HostMemory, leaf: int) -> memoryview:
    """The words of a leaf, which is given by its address."""
    first = leaf - host.address >> 3
    return host.words[first : first + w.LEAF_PAGES]


def _leaves(pages: PageMap) -> Iterator[tuple[int, bool]]:
    """Each leaf that a VM's directories count as theirs, and whether it is one of the base map."""
    for zone, leaf in enumerate(pages.base):
        if leaf:
            yield leaf, True
        if zone < pages.shown_zones and pages.shown[zone] not in (leaf, pages.host.address + w.ZERO):
            yield pages.shown[zone], False


def census(host: HostMemory, maps: Iterable[PageMap], merged: Sequence[int] = ()) -> None:
    """Count the references to each frame from the maps of all VMs, from frozen ones and from the index of ``merged``
    frames, and compare with what the table says of it; see that what several have says so, and that each map is charged
    for the frames that it has for itself.
    """
    maps = list(maps)
    counted = Counter(merged)
    assert len(counted) == len(merged) and all(host.mark(frame) & w.MERGED for frame in merged)
    counted[_zero_leaf(host)] += 1  # the host's own
    leaves: set[int] = set()
    all_leaves = [found for pages in maps for found in _leaves(pages)]
    all_leaves += [(leaf, True) for frozen in host.frozen for leaf in frozen.leaves if leaf]
    for leaf, base in all_leaves:
        if leaf == host.address + _zero_leaf(host):
            continue
        counted[leaf - host.address] += 1
        if base and leaf not in leaves:
            leaves.add(leaf)
            frames = [word & w.FRAME for word in leaf_words(host, leaf) if word & w.MAP_RAM]
            counted.update(frame for frame in frames if frame >= w.FIRST)
    _check_marks(host, leaves, counted)
    slots = [frame for frame in counted if frame >= host.slots]
    for slot in range(host.slots, host.table_word(w.SLOTS_FRESH), PAGE_SIZE):
        assert host.references(slot) == counted[slot], f"slot {slot:#x}"
    every = range(host.slots, host.table_word(w.SLOTS_FRESH), PAGE_SIZE)
    gone = sum(host.is_lost(slot) and counted[slot] == 0 for slot in every) if host.lost else 0
    assert host.swapped == len(slots) + gone << PAGE_SHIFT
    for slot in slots:
        del counted[slot]
    end = w.FIRST + host.table_word(w.FRESH) - w.FIRST
    for frame in range(w.FIRST, end, PAGE_SIZE):
        assert host.references(frame) == counted[frame], f"frame {frame:#x}"
    free = host.table_word(w.CLEAN) + host.table_word(w.DIRTY)
    assert len(counted) + free == end - w.FIRST >> PAGE_SHIFT
    assert host.used == len(counted) << PAGE_SHIFT
    reserved = 0
    for pages in maps:
        alone = sum(word & (w.MAP_RAM | w.MAP_SHARED) == w.MAP_RAM for word in _words(pages)) << PAGE_SHIFT
        assert pages.alone == alone, f"{pages.alone >> PAGE_SHIFT} frames charged for {alone >> PAGE_SHIFT}"
        reserved += max(pages.kept - alone, 0)
    assert host.table_word(w.RESERVED) << PAGE_SHIFT == reserved
    for_maps = len({leaf for leaf, _ in all_leaves} | {host.address + _zero_leaf(host)}) << PAGE_SHIFT
    assert host.unreserved == host.limit - (host.used - for_maps) - reserved


def _words(pages: PageMap) -> Iterator[int]:
    """All words of a base map."""
    for leaf in pages.base:
        if leaf:
            yield from leaf_words(pages.host, leaf)


def _check_marks(host: HostMemory, leaves: set[int], counted: Counter[int]) -> None:
    for leaf in leaves:
        for word in leaf_words(host, leaf):
            frame = word & w.FRAME
            if word & w.MAP_RAM and (
                frame < w.FIRST or frame >= host.slots or counted[frame] > 1 or counted[leaf - host.address] > 1
            ):
                assert word & w.MAP_SHARED, f"a word of a leaf that {counted[leaf - host.address]} have is {word:#x}"


def _zero_leaf(host: HostMemory) -> int:
    return host.table_word(w.ZERO_LEAF) - host.address


def share(parent: GuestMemory, child: GuestMemory) -> None:
    """Let the child have the parent's RAM, leaf by leaf, as a fork has. Both are on no pCPU."""
    assert parent.ram_ranges == child.ram_ranges
    frozen = parent.freeze()
    for start, end in parent.ram_ranges:
        zone = start >> PAGE_SHIFT + w.LEAF_SHIFT
        frozen.give(child.pages, zone, zone, zones_of(end - start))
    frozen.close()
