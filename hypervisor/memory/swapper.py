"""Letting pages of a map show slots of the swap file instead of frames: picking, writing, exchanging."""

from __future__ import annotations

import ctypes
import threading

from hypervisor.memory import map_words as w
from hypervisor.memory.frames import HostMemory
from hypervisor.memory.page_map import PageMap
from hypervisor.memory.swap_file import SwapFile
from hypervisor.units import PAGE_SIZE


class Swapper:
    """Swaps pages of one host, for any thread that has a VM."""

    def __init__(self, host: HostMemory, file: SwapFile) -> None:
        self._host, self._file = host, file
        self._picking = threading.Lock()
        """Held while pages are picked and written."""
        self._picks = (ctypes.c_int64 * (w.PICKS_SIZE >> 3))()
        self.written = 0
        """Pages that have gone to the file so far."""

    def swap(self, pages: PageMap, zone: int, most: int) -> int:
        """Swap at most so many pages of a zone of a VM that nobody runs or changes meanwhile; how many show something
        else now, or have lost the mark that they were used: an engine that has the VM must forget its translations of
        addresses then. What cannot be written stays where it is, and `HostMemory.swap_problem` says why.
        """
        host, picks, at, written = self._host, self._picks, ctypes.addressof(self._picks), False
        with self._picking, pages.changing_frames():
            try:
                count = host.kernels.pick(host.table, pages.at, zone, at, most)
                if count:
                    self._write(count)
                    host.swap_problem = ""
                written = True
            except OSError as error:
                host.swap_problem = f"Pages cannot be written to the swap file: {error.strerror}."
            finally:
                host.kernels.swap(host.table, pages.at, at, written)
            self.written += count if written else 0
            return picks[w.IN_USE >> 3] + picks[w.EMPTY >> 3] + (count if written else 0)

    def _write(self, count: int) -> None:
        view, pieces = self._host.bytes, []
        for at in range(w.PICKS >> 3, w.PICKS + count * w.PICK >> 3, w.PICK >> 3):
            _, frame, slot = self._picks[at : at + 3]
            pieces.append((slot - self._host.slots, view[frame : frame + PAGE_SIZE]))
        self._file.write(pieces)

    def forked(self) -> None:
        """This is another process, which has none of the threads."""
        self._picking = threading.Lock()


__all__ = ["Swapper"]
