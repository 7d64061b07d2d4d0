"""A VM's memory at one moment, as a value: a directory of leaves by reference, which takes no copy of any page.

Whoever writes later, the VM or another that has gone on from here, copies first (`PageMap.own`).
"""

from __future__ import annotations

import ctypes
import threading
import weakref
from collections.abc import Iterator

from hypervisor.errors import ConfigError, HostFull, PageLost
from hypervisor.memory import map_words as w
from hypervisor.memory.frames import HostMemory, Promise
from hypervisor.memory.page_map import PageMap, leaves_of
from hypervisor.units import PAGE_SHIFT, PAGE_SIZE

_ZEROS = bytes(PAGE_SIZE)


def zones_of(size: int) -> int:
    """How many zones bytes take that begin with one."""
    return leaves_of(size) >> PAGE_SHIFT


class FrozenMap:
    """What a base map led to. Its frames stay until it is closed, or forgotten."""

    def __init__(self, pages: PageMap, size: int) -> None:
        """Of a VM that is on no pCPU; ``size`` bytes of frames and leaves are the most that it has. Raises
        `ConfigError` when the host has not as much left for what the VM may come to store in place of all this.
        """
        host = pages.host
        self._host = host
        self._lock = threading.Lock()
        """Held while somebody reads the directory, and where it is closed."""
        self._leaves = (ctypes.c_int64 * pages.zones)()
        self._at = ctypes.addressof(self._leaves)
        promise = Promise(object(), 0, size)
        self._close = weakref.finalize(self, _give_back, host, self._leaves, promise)
        self._close.atexit = False
        if pages.kept:
            host.make_room(pages.alone >> PAGE_SHIFT)
        if pages.kept and pages.alone > host.unreserved:
            raise HostFull(f"There is no memory for what the VM may come to store beside a snapshot. {pages.shortage}")
        host.frozen.add(self)
        host.promise(promise)
        host.kernels.freeze(host.table, pages.at, self._at)

    @property
    def closed(self) -> bool:
        """Whether its frames have been given back."""
        return not self._close.alive

    @property
    def leaves(self) -> list[int]:
        """The addresses of its leaves, zone by zone, 0 where there is no memory."""
        return list(self._leaves)

    def leaf_at(self, zone: int) -> int:
        """Where in this process the address of a zone's leaf is, until this is closed."""
        return self._at + 8 * zone

    def close(self) -> None:
        """Give its frames back. Closing twice is harmless."""
        with self._lock:
            self._close()

    def give(self, pages: PageMap, zone: int, source: int, count: int) -> None:
        """Let a VM that is on no pCPU have ``count`` zones from ``zone`` on, as they are here from ``source`` on.
        Raises `ConfigError` once this is closed.
        """
        with self._lock:
            self._check_open()
            self._host.kernels.adopt(self._host.table, pages.at, zone, self._at + 8 * source, count)

    def put_back(self, pages: PageMap, zone: int, source: int, count: int) -> int:
        """The same for a VM whose pages are mostly these, by what differs; how many pages did."""
        with self._lock:
            self._check_open()
            return self._host.kernels.put_back(self._host.table, pages.at, zone, self._at + 8 * source, count)

    def stored_pages(self, zone: int, pages: int) -> Iterator[tuple[int, memoryview]]:
        """Of so many pages from a zone on those that are not all zeros, in order: number and bytes, which are good
        until this is closed. Raises `PageLost`.
        """
        host, first = self._host, zone << w.LEAF_SHIFT
        for at in range(zone, zone + (pages + w.LEAF_PAGES - 1 >> w.LEAF_SHIFT)):
            self._check_open()
            leaf = self._leaves[at]
            if leaf in (0, host.table_word(w.ZERO_LEAF)):
                continue
            start = leaf - host.address >> 3
            for number, word in enumerate(host.words[start : start + w.LEAF_PAGES].tolist(), at << w.LEAF_SHIFT):
                frame = word & w.FRAME
                if frame < w.FIRST or number >= first + pages:
                    continue
                stored = host.bytes[frame : frame + PAGE_SIZE] != _ZEROS
                if host.lost and host.is_lost(frame):
                    raise PageLost(f"The page at {number << PAGE_SHIFT:#x} cannot be read from the host's swap file.")
                if stored:
                    yield number, host.bytes[frame : frame + PAGE_SIZE].toreadonly()

    def _check_open(self) -> None:
        if self.closed:
            raise ConfigError("This snapshot is closed, and its memory has been given back.")


def _give_back(host: HostMemory, leaves: ctypes.Array[ctypes.c_int64], promise: Promise) -> None:
    host.kernels.drop(host.table, ctypes.addressof(leaves), len(leaves))
    host.forgotten.append(promise)


__all__ = ["FrozenMap", "zones_of"]
