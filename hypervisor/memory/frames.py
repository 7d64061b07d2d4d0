"""The host's physical memory: one anonymous mapping, handed out in extents of whole frames.

Frames cost host memory only once they are touched, and are given back to the operating system when a VM returns them.
"""

from __future__ import annotations

import mmap
import sys
import threading
from typing import NamedTuple

from hypervisor.errors import ConfigError, InternalError
from hypervisor.units import MIB, PAGE_SIZE, Hpa, page_up

# Private: of a shared mapping, MADV_DONTNEED would leave the contents for the next VM to read.
PRIVATE: dict[str, int] = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}


class Extent(NamedTuple):
    """A run of host-physical memory, in bytes, page-aligned."""

    hpa: Hpa
    size: int


DEVICE_MEMORY = 512 * MIB
"""Host memory for what is neither RAM nor counted as such: frame buffers and ROMs of all VMs."""


class HostMemory:
    """All frames of a host. Behind them lie one that the host keeps, full of FFh bytes, and those for devices.

    VMs are created and closed in any thread.
    """

    def __init__(self, size: int) -> None:
        self.size = page_up(size)
        try:
            self.map = mmap.mmap(-1, self.size + PAGE_SIZE + DEVICE_MEMORY, **PRIVATE)
        except (OSError, OverflowError, ValueError) as error:
            raise ConfigError(f"{size // MIB} MiB of host memory cannot be had ({error}). Ask for less.") from error
        self.ones_page = self.size
        self.map[self.ones_page : self.ones_page + PAGE_SIZE] = b"\xff" * PAGE_SIZE
        self._lock = threading.Lock()
        self._used: list[tuple[Extent, object]] = []

    @property
    def free(self) -> int:
        """Bytes of RAM not handed out."""
        return self.size - sum(extent.size for extent, _ in self._used if extent.hpa < self.size)

    def allocate(self, size: int, owner: object = None) -> Extent:
        """A contiguous, zeroed extent. Raises `ConfigError` when there is none so long."""
        extent = self._take(size, owner, 0, self.size)
        if extent is None:
            raise ConfigError(
                f"The host has no {size // MIB} MiB of memory left for another VM ({self.free // MIB} MiB of "
                f"{self.size // MIB} MiB are free). Close a VM, or create the host with more memory."
            )
        return extent

    def allocate_for_device(self, size: int, owner: object = None) -> Extent:
        """A contiguous, zeroed extent that does not count as RAM. Raises `ConfigError` when there is none so long."""
        first = self.ones_page + PAGE_SIZE
        extent = self._take(size, owner, first, first + DEVICE_MEMORY)
        if extent is None:
            raise ConfigError(
                f"The host has no {size // MIB} MiB left of its {DEVICE_MEMORY // MIB} MiB for frame buffers and ROMs. "
                "Close a VM, or use another host."
            )
        return extent

    def release(self, extent: Extent) -> None:
        """Take an extent back; its contents are gone, and read as zero when it is handed out again."""
        with self._lock:
            if all(used != extent for used, _ in self._used):
                raise InternalError(f"Extent {extent} was released twice. Please report this.")
            self.zero(extent)
            self._used = [one for one in self._used if one[0] != extent]

    def release_all(self, owner: object) -> None:
        """Take back whatever is left of ``owner``: also what it was given while an interrupt came."""
        with self._lock:
            for extent, theirs in self._used:
                if theirs is owner:
                    self.zero(extent)
            self._used = [one for one in self._used if one[1] is not owner]

    def _take(self, size: int, owner: object, start: int, end: int) -> Extent | None:
        """The first gap between ``start`` and ``end`` that is long enough."""
        size, at = page_up(size), start
        with self._lock:
            for used in sorted(extent for extent, _ in self._used if start <= extent.hpa < end):
                if used.hpa - at >= size:
                    break
                at = used.hpa + used.size
            if end - at < size:
                return None
            extent = Extent(Hpa(at), size)
            self._used.append((extent, owner))  # one step: an interrupt finds it done, with its owner, or not begun
            return extent

    def zero(self, extent: Extent) -> None:
        """Clear frames, which then take no memory any more."""
        if PRIVATE and sys.platform == "linux":
            self.map.madvise(mmap.MADV_DONTNEED, extent.hpa, extent.size)
        else:
            self.map[extent.hpa : extent.hpa + extent.size] = bytes(extent.size)

    def close(self) -> None:
        """Give everything back."""
        self.map.close()
