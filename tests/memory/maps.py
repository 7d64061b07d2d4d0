"""What the tests of memory share: counting every frame of a host, and sharing frames between two VMs by hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from hypervisor.memory import GuestMemory, HostMemory
from hypervisor.memory import map_words as w
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


def census(host: HostMemory, maps: Iterable[PageMap]) -> None:
    """Count the references to each frame from the maps of all VMs, and compare with what the table says of it."""
    counted: Counter[int] = Counter()
    counted[_zero_leaf(host)] += 1  # the host's own
    leaves: set[int] = set()
    for pages in maps:
        for leaf, base in _leaves(pages):
            if leaf == host.address + _zero_leaf(host):
                continue
            counted[leaf - host.address] += 1
            if base and leaf not in leaves:
                leaves.add(leaf)
                frames = [word & w.FRAME for word in leaf_words(host, leaf) if word & w.MAP_RAM]
                counted.update(frame for frame in frames if frame >= w.FIRST)
    end = w.FIRST + host.table_word(w.FRESH) - w.FIRST
    for frame in range(w.FIRST, end, PAGE_SIZE):
        assert host.references(frame) == counted[frame], f"frame {frame:#x}"
    free = host.table_word(w.CLEAN) + host.table_word(w.DIRTY)
    assert len(counted) + free == end - w.FIRST >> PAGE_SHIFT
    assert host.used == len(counted) << PAGE_SHIFT


def _zero_leaf(host: HostMemory) -> int:
    return host.table_word(w.ZERO_LEAF) - host.address


def share(parent: GuestMemory, child: GuestMemory) -> None:
    """Let the child have the parent's RAM, leaf by leaf, as a fork would. Both are on no pCPU."""
    host = parent.pages.host
    assert parent.ram_ranges == child.ram_ranges
    for zone in range(parent.pages.shown_zones):
        leaf = parent.pages.base[zone]
        if not leaf:
            continue
        child.pages.release(zone << w.LEAF_SHIFT, 1)
        child.pages.base[zone] = leaf
        if leaf != host.table_word(w.ZERO_LEAF):
            host.counts[leaf - host.address >> PAGE_SHIFT] += 1
            words = leaf_words(host, leaf)
            for n, word in enumerate(words):
                words[n] = word | (w.MAP_SHARED if word & w.MAP_RAM else 0)
    parent.show()
    child.show()
