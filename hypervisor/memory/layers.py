"""What lies over a VM's base map: windows of devices, shadow RAM, holes, and traps on pages.

A layer changes nothing beneath it, so taking it off shows again what is there by then. Where several lie over one
another, what they are decides which one shows (`rank`), and never which came first: that is history, and in no state.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from hypervisor.memory import map_words as w
from hypervisor.memory.page_map import PageMap
from hypervisor.units import PAGE_SHIFT

_ZONE_SHIFT = PAGE_SHIFT + w.LEAF_SHIFT
_ZONE = 1 << _ZONE_SHIFT


class Region(NamedTuple):
    """Guest-physical ``[gpa, gpa + size)`` shows the base map from ``base`` on."""

    gpa: int
    size: int
    base: int
    writable: bool = True


class Hole(NamedTuple):
    """Guest-physical ``[gpa, gpa + size)`` is no memory, whatever lies beneath."""

    gpa: int
    size: int


def rank(layer: Region | Hole) -> tuple[int, ...]:
    """What lies higher has more: RAM where it is anyhow, but read-only; holes; blocks. Of two blocks the one that was
    made later is over the other (it lies further behind in the base map), of two views of it the one without stores.
    """
    if isinstance(layer, Hole):
        return 1, layer.gpa, layer.size
    return 0 if layer.base == layer.gpa else 2, layer.base, not layer.writable, layer.gpa, layer.size


def layered(ram: Iterable[Region], layers: Iterable[Region | Hole]) -> list[Region]:
    """What shows of ``ram`` under ``layers``, of which each lies over those before it; in order of address."""
    shown = list(ram)
    for layer in layers:
        start, end = layer.gpa, layer.gpa + layer.size
        left = []
        for region in shown:
            if region.gpa >= end or region.gpa + region.size <= start:
                left.append(region)
                continue
            left += _cut(region, region.gpa, start)
            left += _cut(region, end, region.gpa + region.size)
        shown = [*left, layer] if isinstance(layer, Region) else left
    return sorted(shown)


def _cut(region: Region, start: int, end: int) -> list[Region]:
    """The part of a region between two addresses, if there is one."""
    start, end = max(start, region.gpa), min(end, region.gpa + region.size)
    return [Region(start, end - start, region.base + start - region.gpa, region.writable)] if start < end else []


class Layers:
    """The layers of one VM, and the shown map that comes of them."""

    def __init__(self, pages: PageMap, ram: Sequence[Region]) -> None:
        self._pages = pages
        self.ram = tuple(ram)
        self._layers: list[Region | Hole] = []
        self._traps: dict[int, int] = {}
        self._waiting: set[int] | None = None
        """Zones that are shown behind a block of `changing`."""
        self._shown: tuple[tuple[Region, ...], list[int]] | None = None
        """What shows, in order of address, and where each begins; None while nobody has asked since a layer came or
        went in a block of `changing`.
        """
        for region in ram:
            pages.show_all(region.gpa >> _ZONE_SHIFT, region.gpa + region.size + _ZONE - 1 >> _ZONE_SHIFT)

    @property
    def regions(self) -> tuple[Region, ...]:
        """What shows, in order of address."""
        return (self._shown or self._look())[0]

    def _look(self) -> tuple[tuple[Region, ...], list[int]]:
        regions = tuple(layered(self.ram, self._layers))
        self._shown = regions, [region.gpa for region in regions]
        return self._shown

    def cover(self, layer: Region | Hole) -> None:
        """Put memory, or none, over what lies there, as `rank` says."""
        insort(self._layers, layer, key=rank)
        self._show(layer.gpa, layer.gpa + layer.size)

    def uncover(self, layer: Region | Hole) -> None:
        """Take a layer off again: what lies beneath shows."""
        self._layers.remove(layer)
        self._show(layer.gpa, layer.gpa + layer.size)

    @property
    def own(self) -> tuple[list[Region | Hole], dict[int, int]]:
        """What lies over the RAM, and what is trapped: for `follow`."""
        return self._layers, self._traps

    def follow(self, own: tuple[list[Region | Hole], dict[int, int]]) -> None:
        """Have what another VM of the same RAM has, which becomes this one's. It has nothing yet."""
        self._layers, self._traps = own
        with self.changing():
            for layer in self._layers:
                self._show(layer.gpa, layer.gpa + layer.size)
            for page in self._traps:
                self._show(page << PAGE_SHIFT, page + 1 << PAGE_SHIFT)

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Many layers come and go in the block, in which no guest runs: it sees them behind it."""
        if self._waiting is not None:
            yield
            return
        waiting = self._waiting = set()
        try:
            yield
        finally:
            self._waiting = None
            if self._shown is None:
                self._look()
            for zone in waiting:
                self._show_zone(zone)

    def trap(self, pages: Mapping[int, int]) -> None:
        """Trap accesses to these guest-physical pages, by the bits of `map_words.MAP_TRAPS`, and to no others."""
        changed = {page for page, _ in self._traps.items() ^ pages.items()}
        self._traps = dict(pages)
        for zone in {page >> w.LEAF_SHIFT for page in changed}:
            self._show_zone(zone)

    @contextmanager
    def fetching(self, pages: Iterable[int]) -> Iterator[None]:
        """Let instructions be fetched from these guest-physical pages during the block."""
        trapped = [page for page in pages if self._traps.get(page, 0) & w.MAP_TRAP_EXECUTE]
        for page in trapped:
            self._pages.change_word(page, w.MAP_TRAP_EXECUTE, 0)
        try:
            yield
        finally:
            for page in trapped:
                if self._traps.get(page, 0) & w.MAP_TRAP_EXECUTE:  # it may not be trapped any more
                    self._pages.change_word(page, 0, w.MAP_TRAP_EXECUTE)

    def traps(self, page: int) -> int:
        """What is trapped of a page."""
        return self._traps.get(page, 0)

    def within(self, gpa: int, size: int) -> list[Region]:
        """The memory that shows in a range, cut to it."""
        return [piece for piece in self.pieces(gpa, size) if isinstance(piece, Region)]

    def pieces(self, gpa: int, size: int) -> list[Region | Hole]:
        """A range as what shows there, in order."""
        pieces: list[Region | Hole] = []
        end = gpa + size
        regions, starts = self._shown or self._look()
        first = max(bisect_right(starts, gpa) - 1, 0)
        for region in regions[first : bisect_left(starts, end)]:
            for piece in _cut(region, gpa, end):
                if piece.gpa > gpa:
                    pieces.append(Hole(gpa, piece.gpa - gpa))
                pieces.append(piece)
                gpa = piece.gpa + piece.size
        if gpa < end:
            pieces.append(Hole(gpa, end - gpa))
        return pieces

    def at(self, gpa: int) -> Region | None:
        """The region that shows at an address."""
        regions, starts = self._shown or self._look()
        index = bisect_right(starts, gpa) - 1
        if index >= 0 and gpa < regions[index].gpa + regions[index].size:
            return regions[index]
        return None

    # --- the shown map ------------------------------------------------------------------------------------------------

    def show(self) -> None:
        """Bring all of the shown map up to date."""
        self._show(0, self._pages.shown_zones << _ZONE_SHIFT)

    def _show(self, start: int, end: int) -> None:
        zones = self._zones(start, end)
        if self._waiting is not None:
            self._shown = None
            self._waiting.update(zones)
            return
        self._look()
        for zone in zones:
            self._show_zone(zone)

    def _zones(self, start: int, end: int) -> list[int]:
        """The zones of a range that show anything, or have."""
        base, elsewhere = self._pages.base, self._pages.elsewhere
        zones = range(start >> _ZONE_SHIFT, min(end + _ZONE - 1 >> _ZONE_SHIFT, self._pages.shown_zones))
        if len(zones) < w.LEAF_PAGES:
            return list(zones)
        return [zone for zone in zones if base[zone] or elsewhere[zone]]

    def _show_zone(self, zone: int) -> None:
        """Bring a zone of the shown map up to date."""
        start = zone << _ZONE_SHIFT
        first, last = zone << w.LEAF_SHIFT, zone + 1 << w.LEAF_SHIFT
        traps = [(page, bits) for page, bits in self._traps.items() if first <= page < last and bits]
        over = self.at(start)
        if over is not None and over.gpa + over.size >= start + _ZONE and over.writable and not traps:
            base = over.base + start - over.gpa
            if base != start and not base & _ZONE - 1:  # a block that fills it, as a frame buffer does
                self._pages.show_zone(zone, base >> _ZONE_SHIFT)
                return
        pieces = self.within(start, _ZONE)
        if not traps and pieces == [piece for region in self.ram for piece in _cut(region, start, start + _ZONE)]:
            self._pages.show_base(zone)
            return
        words = memoryview(array("q", bytes(8 * w.LEAF_PAGES)))
        for piece in pieces:
            page, count = piece.gpa - start >> PAGE_SHIFT, piece.size >> PAGE_SHIFT
            if piece.base == piece.gpa and piece.writable and not traps:
                words[page : page + count] = self._pages.words(piece.gpa >> PAGE_SHIFT, count)
            else:
                word = piece.base | w.MAP_ALIAS | (w.MAP_WRITE if piece.writable else 0)
                words[page : page + count] = array("q", range(word, word + piece.size, 1 << PAGE_SHIFT))
        for page, bits in traps:
            words[page - first] |= bits
        self._pages.show_words(zone, words)
