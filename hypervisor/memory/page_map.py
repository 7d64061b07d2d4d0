"""A VM's page map: which frame each page has.

The *base map* is the truth. RAM is in it where a guest without anything over it would see it; frame buffers and ROMs
are behind the last address that a guest can have. The *shown map* is what a guest sees: the base map, with layers over
it (`hypervisor.memory.layers`). Both are directories of leaves, each with the words of 512 pages (a zone). Where
nothing lies over a zone, the shown map leads to the base map's leaf. Leaves are frames: zones that nobody has stored to
have one leaf for all VMs, and two VMs can have one in common, which is copied before one of them changes a word.
"""

from __future__ import annotations

import ctypes
import time
from array import array
from collections.abc import Iterator
from contextlib import contextmanager

from hypervisor.errors import ConfigError, HostFull, InternalError, PageLost
from hypervisor.memory import map_words as w
from hypervisor.memory.frames import HostMemory, address_of, frame_of, mapping
from hypervisor.units import GIB, MIB, PAGE_MASK, PAGE_SHIFT, PAGE_SIZE, Hpa, by_pages

BLOCK_ZONES = 4 * GIB >> PAGE_SHIFT + w.LEAF_SHIFT
"""Zones behind the last address of a guest."""
_IN_LEAF = w.LEAF_PAGES - 1


def leaves_of(size: int) -> int:
    """Bytes of the leaves for ``size`` bytes that begin with a zone."""
    return -(-size >> (PAGE_SHIFT + w.LEAF_SHIFT)) << PAGE_SHIFT


class PageMap:
    """The two directories of one VM, and the bytes of what the base map leads to, by its own addresses."""

    def __init__(self, host: HostMemory, pages: int) -> None:
        """``pages`` is how many pages a guest can see."""
        self.host = host
        self.pages = pages
        self.shown_zones = -(-pages >> w.LEAF_SHIFT)
        self.zones = self.shown_zones + BLOCK_ZONES
        self._directories = mapping(8 * (2 * self.shown_zones + self.zones))
        words, end = memoryview(self._directories).cast("q"), self.shown_zones + self.zones
        self.shown, self.base, self.elsewhere = words[: self.shown_zones], words[self.shown_zones : end], words[end:]
        """The directories, as `map_words` says."""
        self._nothing = host.address + w.ZERO
        self.shown[:] = memoryview(array("q", [self._nothing]) * self.shown_zones)
        self.shown_at = address_of(self._directories)
        self._charge = (ctypes.c_int64 * 2)()
        directories = (self.shown_at, self.shown_at + 8 * self.shown_zones, self.shown_at + 8 * end)
        where = (*directories, pages, self.zones, ctypes.addressof(self._charge))
        self._where = (ctypes.c_int64 * (w.MAP_SIZE >> 3))(*where)
        self.at = ctypes.addressof(self._where)
        """Where the words are that say where the directories are."""
        self._swaps = host.end > host.slots
        self._changes = 0
        """Odd while frames are exchanged for others that hold the same."""

    @property
    def where(self) -> list[int]:
        """Those words."""
        return list(self._where)

    # --- what there is ------------------------------------------------------------------------------------------------

    @property
    def alone(self) -> int:
        """Bytes of frames that no other VM and no snapshot shows."""
        return self._charge[0] << PAGE_SHIFT

    @property
    def kept(self) -> int:
        """Bytes of frames that it has for sure, however many others ask for some."""
        return self._charge[1] << PAGE_SHIFT

    @property
    def shortage(self) -> str:
        """A sentence that says what there was no frame left for."""
        host = self.host
        return (
            f"The host's memory is used up ({host.used / MIB:.1f} of {host.size / MIB:.1f} MiB): this VM has "
            f"{self.alone / MIB:.1f} MiB that it shares with nobody, and {self.kept / MIB:.1f} MiB were promised for "
            f"sure.{host.swap_text} Close a VM or a snapshot, or give the host more memory."
        )

    def lost_pages(self) -> list[int]:
        """Pages that cannot be read from the swap file, in order."""
        found: list[int] = []
        if self.host.lost:
            for zone, leaf in enumerate(self.base):
                if leaf not in (0, self.host.zero_leaf):
                    first = zone << w.LEAF_SHIFT
                    words = enumerate(self.words(first, w.LEAF_PAGES), first)
                    found += [page for page, word in words if self.host.is_lost(word & w.FRAME)]
        return found

    @property
    def loss(self) -> str:
        """A sentence about the pages that cannot be read, if there are any."""
        pages = self.lost_pages()
        if not pages:
            return ""
        many = "A page" if len(pages) == 1 else f"{len(pages)} pages"
        return (
            f"{many} of this VM cannot be read from the host's swap file (the first at {pages[0] << PAGE_SHIFT:#x}): "
            "its disk has failed. What was there is lost; go on from a saved machine, and give the host another "
            "swap_folder=."
        )

    def failure(self) -> HostFull | PageLost:
        """Why there is no frame to store to."""
        loss = self.loss
        return PageLost(loss) if loss else HostFull(self.shortage)

    def keep(self, size: int) -> bool:
        """Keep so many bytes of frames for this map. Whether there are as many."""
        return bool(self.host.kernels.keep_for(self.host.table, self.at, size >> PAGE_SHIFT))

    def lay(self, first: int, count: int) -> None:
        """Let pages of the base map be memory that reads as zeros. Their zones are empty."""
        if not self.host.kernels.lay(self.host.table, self.at, first, count):
            raise HostFull(self.shortage)

    def lay_in_one_piece(self, count: int) -> memoryview:
        """The same for the first pages, of a host that nobody else uses, with frames of their own that lie one behind
        the other; their bytes. A guest sees them at once.
        """
        self.lay(0, count)
        frames = [self.own(page) for page in range(count)]
        if frames != list(range(frames[0], frames[0] + count * PAGE_SIZE, PAGE_SIZE)):
            raise InternalError("Frames that lie one behind the other were asked for of a host that has been used.")
        self.show_all(0, self.shown_zones)
        return self.host.bytes[frames[0] : frames[0] + count * PAGE_SIZE]

    def lay_behind(self, count: int) -> int:
        """The same for ``count`` pages behind the last address of a guest; where. Raises `ConfigError`."""
        wanted = -(-count >> w.LEAF_SHIFT)
        run = 0
        for zone in range(self.shown_zones, self.zones):
            run = 0 if self.base[zone] else run + 1
            if run == wanted:
                first = zone + 1 - wanted << w.LEAF_SHIFT
                self.lay(first, count)
                return first
        raise ConfigError(
            f"A VM can have {BLOCK_ZONES >> 9} GiB of memory beside its RAM; there is no room left for "
            f"{count << PAGE_SHIFT >> 20} MiB."
        )

    def release(self, first: int = 0, count: int | None = None) -> None:
        """Give frames back: those of pages whose zones have no others, by default all."""
        if count is None:
            self.keep(0)
        end = self.zones if count is None else first + count + _IN_LEAF >> w.LEAF_SHIFT
        self.host.kernels.release(self.host.table, self.at, first >> w.LEAF_SHIFT, end)

    def clear(self, first: int, count: int) -> None:
        """Let pages read as zeros again. What engines still have of their frames in their TLBs must go."""
        if not self.host.kernels.clear(self.host.table, self.at, first, count):
            raise HostFull(self.shortage)

    def word(self, page: int) -> int:
        """The word of a page of the base map, 0 where there is nothing."""
        leaf = self.base[page >> w.LEAF_SHIFT]
        return self.host.words[(leaf - self.host.address >> 3) + (page & _IN_LEAF)] if leaf else 0

    def own(self, page: int) -> Hpa:
        """Make the frame of a page the VM's own, and say where it is: the only way to a frame that may be written,
        while no engine has the VM (`hypervisor.engine.kernels.memory.gate` when one has).
        """
        word = self.host.kernels.own(self.host.table, self.at, page)
        if not word:
            raise self.failure()
        return frame_of(word)

    def own_several(self, first: int, count: int) -> list[Hpa]:
        """The same of ``count`` pages from ``first`` on, with their frames in order."""
        if not self.host.kernels.own_several(self.host.table, self.at, first, count):
            raise self.failure()
        found: list[Hpa] = []
        while count:
            here = min(count, w.LEAF_PAGES - (first & _IN_LEAF))  # of one zone
            found += [frame_of(word) for word in self.words(first, here)]
            first, count = first + here, count - here
        return found

    def resident_bytes(self, first: int, count: int) -> int:
        """Bytes of frames that pages have, other than the one of zeros."""
        frames = [frame_of(self.word(page)) for page in range(first, first + count)]
        return sum(w.FIRST <= frame < self.host.slots for frame in frames) << PAGE_SHIFT

    def counts(self, first: int, count: int) -> tuple[int, int, int, int]:
        """How many pages have frames that nobody else shows, frames that others show, too, the frame of zeros, and
        slots of the swap file.
        """
        shared = zero = swapped = 0
        for zone in range(first >> w.LEAF_SHIFT, first + count + _IN_LEAF >> w.LEAF_SHIFT):
            begin = max(first, zone << w.LEAF_SHIFT)
            pages = min(first + count, zone + 1 << w.LEAF_SHIFT) - begin
            leaf = self.base[zone]
            if leaf == self.host.zero_leaf:
                zero += pages
                continue
            frames = [frame_of(word) for word in self.words(begin, pages) if word & w.MAP_SHARED]
            zeros = frames.count(Hpa(w.ZERO))
            zero += zeros
            slots = sum(frame >= self.host.slots for frame in frames)
            swapped += slots
            if self._has_several(leaf - self.host.address):
                shared += pages - zeros - slots
            elif len(frames) > zeros + slots:
                shared += sum(map(self._has_several, frames))
        return count - shared - zero - swapped, shared, zero, swapped

    def _has_several(self, frame: int) -> bool:
        """Whether there are several references to a frame; of anything else, which may be read while maps change,
        there are none."""
        return w.FIRST <= frame < self.host.slots and self.host.references(frame) > 1

    # --- bytes --------------------------------------------------------------------------------------------------------

    @contextmanager
    def changing_frames(self) -> Iterator[None]:
        """Pages get other frames that hold the same in the block, while other threads read. One block at a time."""
        before = self._changes
        try:
            self._changes = before + 1
            yield
        finally:
            self._changes = before + 2

    def forked(self) -> None:
        """This is another process, in which nobody exchanges frames."""
        self._changes += self._changes & 1

    def read(self, address: int, size: int) -> bytes:
        """Bytes of the base map, which are memory. Raises `PageLost`."""
        while True:
            before = self._changes
            found = self._read(address, size)
            if before == self._changes and not before & 1:
                if self._swaps and self.host.lost:
                    self._check_found(address, size)
                return found
            time.sleep(0)  # a frame may have been another's when it was read

    def _check_found(self, address: int, size: int) -> None:
        for at, _ in by_pages(address, size):
            if self.host.is_lost(self.word(at >> PAGE_SHIFT) & w.FRAME):
                raise PageLost(self.loss)

    def _read(self, address: int, size: int) -> bytes:
        view, start = self.host.bytes, address & PAGE_MASK
        if start + size <= PAGE_SIZE:
            at = (self.word(address >> PAGE_SHIFT) & w.FRAME) + start
            return bytes(view[at : at + size])
        pieces = []
        for piece, length in by_pages(address, size):
            at = (self.word(piece >> PAGE_SHIFT) & w.FRAME) + (piece & PAGE_MASK)
            pieces.append(view[at : at + length])
        return b"".join(pieces)

    # --- the shown map ------------------------------------------------------------------------------------------------

    def words(self, first: int, count: int) -> memoryview:
        """The words of pages of one zone of the base map."""
        leaf = self.base[first >> w.LEAF_SHIFT]
        at = (leaf - self.host.address >> 3) + (first & _IN_LEAF)
        return self.host.words[at : at + count]

    def show_all(self, first: int, end: int) -> None:
        """Let zones that have shown nothing show the base map's."""
        self.shown[first:end] = self.base[first:end]

    def show_base(self, zone: int) -> None:
        """Let a zone show the base map's."""
        self._take_off(zone)
        self.shown[zone] = self.base[zone] or self._nothing

    def show_zone(self, zone: int, other: int) -> None:
        """Let a zone show another one of the base map."""
        self._take_off(zone)
        self.elsewhere[zone] = other

    def show_words(self, zone: int, words: memoryview) -> None:
        """Let a zone show pages by these words: the base map's own, words with `map_words.MAP_ALIAS`, or nothing where
        they are 0.
        """
        self.elsewhere[zone] = 0
        if not self._has_layer(zone):
            self._take_off(zone)
            if not self.host.kernels.add_leaf(self.host.table, self.shown_at + 8 * zone):
                raise HostFull(self.shortage)
        leaf = self.shown[zone] - self.host.address >> 3
        self.host.words[leaf : leaf + w.LEAF_PAGES] = words

    def change_word(self, page: int, clear: int, set_: int) -> None:
        """Change bits of a word that `show_words` has put there."""
        at = (self.shown[page >> w.LEAF_SHIFT] - self.host.address >> 3) + (page & _IN_LEAF)
        self.host.words[at] = self.host.words[at] & ~clear | set_

    def shown_word(self, page: int) -> int:
        """The word of a page as a guest sees it, 0 where there is no memory."""
        if page >= self.pages:
            return 0
        zone, offset = page >> w.LEAF_SHIFT, page & _IN_LEAF
        word = self.host.words[(self.shown[zone] - self.host.address >> 3) + offset]
        if word & w.MAP_ALIAS:
            return self.word(word >> PAGE_SHIFT) & (word | ~w.MAP_WRITE) | word & w.MAP_TRAPS
        if word == 0 and self.elsewhere[zone]:
            return self.word(self.elsewhere[zone] << w.LEAF_SHIFT | offset)
        return word

    def _has_layer(self, zone: int) -> bool:
        """Whether a zone of the shown map has a leaf for itself."""
        return self.shown[zone] not in (self._nothing, self.base[zone])

    def _take_off(self, zone: int) -> None:
        self.elsewhere[zone] = 0
        if self._has_layer(zone):
            self.host.kernels.remove_leaf(self.host.table, self.shown_at + 8 * zone)
        self.shown[zone] = self._nothing
