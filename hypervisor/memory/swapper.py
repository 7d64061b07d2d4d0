"""Letting pages of a map show slots of the swap file instead of frames: picking, writing, exchanging."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator

from hypervisor.memory import map_words as w
from hypervisor.memory.frames import HostMemory
from hypervisor.memory.page_map import PageMap
from hypervisor.memory.swap_file import SwapFile
from hypervisor.units import PAGE_SIZE


class Picks:
    """Pages of one map that are to be swapped, each with its frame and its slot."""

    def __init__(self) -> None:
        self.words = (ctypes.c_int64 * (w.PICKS_SIZE >> 3))()
        self.at = ctypes.addressof(self.words)

    @property
    def count(self) -> int:
        """How many there are."""
        return self.words[w.PICKED >> 3]

    @property
    def changed(self) -> int:
        """How many others show zeros now, or have lost the mark that they were used."""
        return self.words[w.IN_USE >> 3] + self.words[w.EMPTY >> 3]

    def __iter__(self) -> Iterator[list[int]]:
        """Frame and slot of each."""
        for at in range(w.PICKS >> 3, w.PICKS + self.count * w.PICK >> 3, w.PICK >> 3):
            yield self.words[at + 1 : at + 3]


class Swapper:
    """Swaps pages of one host, for any thread that has a VM."""

    def __init__(self, host: HostMemory, file: SwapFile) -> None:
        self._host, self._file = host, file
        self._changing = threading.Lock()
        """Held while slots are taken and come to be shown; never where somebody waits for the disk, or for a VM."""
        self._under_way: set[Picks] = set()
        self.written = 0
        """Pages that show slots, or have, since the host is there."""

    def pick(self, pages: PageMap, zone: int, most: int) -> Picks:
        """Pick at most so many pages of a zone of a VM that nobody runs or changes meanwhile. If any are
        `Picks.changed`, an engine that has the VM must forget its translations of addresses.
        """
        picks, host = Picks(), self._host
        with self._changing, pages.changing_frames():
            host.kernels.pick(host.table, pages.at, zone, picks.at, most)
            self._under_way.add(picks)
        return picks

    def write(self, picks: Picks) -> bool:
        """Write what was picked to the file, whoever has the VM meanwhile; whether that was done. If not,
        `HostMemory.swap_problem` says why.
        """
        host = self._host
        pages = [(slot - host.slots, host.bytes[frame : frame + PAGE_SIZE]) for frame, slot in picks]
        try:
            self._file.write(pages)
        except OSError as error:
            host.swap_problem = f"Pages cannot be written to the swap file: {error.strerror}."
            return False
        host.swap_problem = ""
        return True

    def show(self, pages: PageMap, picks: Picks) -> int:
        """Let pages that were written show their slots, unless they have been used since; how many do. As for `pick`,
        an engine that has the VM must forget its translations then.
        """
        host = self._host
        with self._changing, pages.changing_frames():
            count = host.kernels.swap(host.table, pages.at, picks.at)
            self._under_way.discard(picks)
            self.written += count
        return count

    def drop(self, picks: Picks) -> None:
        """What was picked stays where it is. For those that have been shown there is nothing to do."""
        with self._changing:
            self._drop(picks)

    def _drop(self, picks: Picks) -> None:
        self._host.kernels.drop_slots(self._host.table, picks.at)
        self._under_way.discard(picks)

    def swap(self, pages: PageMap, zone: int, most: int) -> int:
        """All of it for a VM that nobody runs or changes meanwhile; how many pages show something else now, or have
        lost their marks.
        """
        picks = self.pick(pages, zone, most)
        try:
            shown = self.show(pages, picks) if picks.count and self.write(picks) else 0
        finally:
            self.drop(picks)
        return picks.changed + shown

    # --- a process that forks -----------------------------------------------------------------------------------------

    def stand_still(self) -> None:
        """This thread is about to fork the process: no slot gets other contents until `go_on`."""
        self._changing.acquire()
        self._file.forks()

    def go_on(self) -> None:
        """It has, and this is the parent: wait until the child has copied the slots, or has ended."""
        self._file.has_forked()
        self._changing.release()

    def forked(self) -> None:
        """This is the child, which has none of the threads: what they were about to swap stays where it is, and what
        lies in slots is the process's own.
        """
        self._changing = threading.Lock()
        host = self._host
        size = host.table_word(w.SLOTS_FRESH) - host.slots
        lost = self._file.copy(host.address + host.slots, size) if size else ()
        host.lose(host.slots + offset for offset in lost)
        for picks in list(self._under_way):
            self._drop(picks)


__all__ = ["Picks", "Swapper"]
