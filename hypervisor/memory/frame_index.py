"""Which frames stand for all that hold the same, and which contents were seen: what merging looks pages up in.

The index has a reference to each frame in it, so nobody ever stores to one; it lets go of those that nobody else shows.
"""

from __future__ import annotations

import ctypes
from typing import NamedTuple

from hypervisor.memory import map_words as w
from hypervisor.memory.frames import HostMemory, address_of, mapping
from hypervisor.memory.page_map import PageMap
from hypervisor.units import PAGE_SHIFT

_COUNTS = (w.LOOKED_AT, w.HOT, w.ZEROED, w.SHARED_NOW, w.REPLACED)
_ALL = 1 << 62


class MergeCounts(NamedTuple):
    """What merging has done, in pages."""

    looked_at: int = 0
    """Whose contents were looked at."""
    in_use: int = 0
    """That were left alone because they had been used since they were met before."""
    zeroed: int = 0
    """That were all zeros, and show the frame of zeros now."""
    shared: int = 0
    """Whose frames stand for all that hold the same."""
    replaced: int = 0
    """That show such a frame instead of their own."""


class FrameIndex:
    """The index of one host, for one thread at a time."""

    def __init__(self, host: HostMemory) -> None:
        self._host = host
        buckets = 1 << max(host.size >> PAGE_SHIFT, w.BUCKET).bit_length() - w.BUCKET.bit_length() + 1
        self._rows = mapping(buckets * w.BUCKET * w.ROW)
        self._words = (ctypes.c_int64 * (w.INDEX_SIZE >> 3))()
        self._words[w.ROWS >> 3], self._words[w.BUCKETS >> 3] = address_of(self._rows), buckets - 1
        self._at = ctypes.addressof(self._words)

    @property
    def counts(self) -> MergeCounts:
        """Since it is there."""
        return MergeCounts(*(self._words[word >> 3] for word in _COUNTS))

    @property
    def frames(self) -> list[int]:
        """The frames that it has."""
        rows = memoryview(self._rows).cast("q")[1::2]
        return [row & w.FRAME for row in rows if row & 1]

    def begin_round(self) -> None:
        """Every page is looked at once until this is called again."""
        self._words[w.ROUND >> 3] += 1

    def merge(self, pages: PageMap, zone: int) -> int:
        """Merge pages of a zone of a VM that nobody runs or changes meanwhile; how many are others now, or were in use:
        an engine that has the VM must forget its translations of addresses then.
        """
        with pages.changing_frames():
            return self._host.kernels.merge_zone(self._host.table, pages.at, zone, self._at)

    def prune(self) -> int:
        """Let go of frames that nobody shows any more; how many there were."""
        return self._host.kernels.prune(self._host.table, self._at, 1)

    def clear(self) -> None:
        """Let go of all frames: who shows one alone has it for itself again."""
        self._host.kernels.prune(self._host.table, self._at, _ALL)


__all__ = ["FrameIndex", "MergeCounts"]
