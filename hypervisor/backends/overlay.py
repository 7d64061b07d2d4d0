"""Copy on write: what a guest writes stays in memory, and the image below is as it was."""

from __future__ import annotations

import errno

from hypervisor.backends.image_source import Source
from hypervisor.units import MIB

BLOCK = 4096
"""Bytes that are copied together."""
LIMIT = 256 * MIB
"""Bytes that a guest can change of one image; a guest that writes more gets a write error."""


class Overlay:
    """A source above another one, which it never writes."""

    writable = True

    def __init__(self, below: Source, limit: int = LIMIT) -> None:
        self.name = below.name
        self.size = below.size
        self.below = below
        self._limit = limit // BLOCK
        self._blocks: dict[int, bytearray] = {}

    @property
    def written(self) -> int:
        """Bytes of memory that hold what was written."""
        return len(self._blocks) * BLOCK

    def read(self, offset: int, size: int) -> bytes:
        """See `Source.read`."""
        data = self.below.read(offset, size)
        if not self._blocks:
            return data
        changed: bytearray | None = None
        for number in range(offset // BLOCK, -(-(offset + size) // BLOCK)):
            block = self._blocks.get(number)
            if block is not None:
                changed = bytearray(data) if changed is None else changed
                start, end = max(offset, number * BLOCK), min(offset + size, (number + 1) * BLOCK)
                changed[start - offset : end - offset] = block[start - number * BLOCK : end - number * BLOCK]
        return data if changed is None else bytes(changed)

    def write(self, offset: int, data: bytes) -> None:
        """See `Source.write`. Raises `OSError` (no space) when the overlay is full; then nothing is changed."""
        numbers = range(offset // BLOCK, -(-(offset + len(data)) // BLOCK))
        new = [number for number in numbers if number not in self._blocks]
        if len(self._blocks) + len(new) > self._limit:
            raise OSError(errno.ENOSPC, f"{self.name}: the guest has written {self.written // MIB} MiB, the limit")
        for number in new:
            self._blocks[number] = bytearray(self.below.read(number * BLOCK, BLOCK))
        for number in numbers:
            start, end = max(offset, number * BLOCK), min(offset + len(data), (number + 1) * BLOCK)
            self._blocks[number][start - number * BLOCK : end - number * BLOCK] = data[start - offset : end - offset]

    def flush(self) -> None:
        """Nothing reaches the host."""

    def close(self) -> None:
        """Close the image below."""
        self.below.close()
