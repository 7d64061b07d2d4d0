"""Copy on write: what a guest writes stays in memory, and the image below is as it was."""

from __future__ import annotations

import errno
from itertools import pairwise

from hypervisor.backends.image_source import Source
from hypervisor.backends.shared_source import SharedSource
from hypervisor.errors import ConfigError
from hypervisor.state import blob, number, numbers, record
from hypervisor.units import MIB

BLOCK = 4096
"""Bytes that are copied together."""
LIMIT = 256 * MIB
"""Bytes that a guest can change of one image; a guest that writes more gets a write error."""


@record
class OverlayState:
    """The blocks that were written, by their numbers, in that order; ``size`` is that of the image."""

    size: int = number(0, 1 << 62)
    blocks: list[int] = numbers(1 << 24, 0, 1 << 50)
    content: bytes = blob(1 << 40)


class Overlay:
    """A source above another one, which it never writes."""

    writable = True

    def __init__(self, below: Source, limit: int = LIMIT) -> None:
        self.name = below.name
        self.size = below.size
        self.below = below if isinstance(below, SharedSource) else SharedSource(below)
        self._limit = limit // BLOCK
        self._blocks: dict[int, bytes] = {}
        """What was written. A block is replaced, not changed: others may have it, too."""

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
        for at in range(offset // BLOCK, -(-(offset + size) // BLOCK)):
            block = self._blocks.get(at)
            if block is not None:
                changed = bytearray(data) if changed is None else changed
                start, end = max(offset, at * BLOCK), min(offset + size, (at + 1) * BLOCK)
                changed[start - offset : end - offset] = block[start - at * BLOCK : end - at * BLOCK]
        return data if changed is None else bytes(changed)

    def write(self, offset: int, data: bytes) -> None:
        """See `Source.write`. A block that is what the image has is not kept any longer. Raises `OSError` (no space)
        when the overlay is full; then nothing is changed.
        """
        touched = range(offset // BLOCK, -(-(offset + len(data)) // BLOCK))
        changed, same = {}, []
        for at in touched:
            start, end = max(offset, at * BLOCK), min(offset + len(data), (at + 1) * BLOCK)
            below = self._below(at)
            block = bytearray(self._blocks.get(at) or below)
            block[start - at * BLOCK : end - at * BLOCK] = data[start - offset : end - offset]
            if block == below:
                same.append(at)
            else:
                changed[at] = bytes(block)
        new = sum(at not in self._blocks for at in changed) - sum(at in self._blocks for at in same)
        if len(self._blocks) + max(new, 0) > self._limit:
            raise OSError(errno.ENOSPC, f"{self.name}: the guest has written {self.written // MIB} MiB, the limit")
        self._blocks.update(changed)
        for at in same:
            self._blocks.pop(at, None)

    def discard(self, offset: int, size: int) -> None:
        """Forget what was written to the blocks that lie there as a whole: the image shows again."""
        first, end = -(-offset // BLOCK), (offset + size) // BLOCK
        if end - first < len(self._blocks):
            for at in range(first, end):
                self._blocks.pop(at, None)
        else:
            self._blocks = {at: block for at, block in self._blocks.items() if not first <= at < end}

    def _below(self, at: int) -> bytes:
        """A block of the image; nothing where the host cannot read it and it has been written."""
        try:
            return self.below.read(at * BLOCK, BLOCK)
        except OSError:
            if at not in self._blocks:
                raise
            return b""

    def twin(self) -> Overlay:
        """Another one above the same image, with what has been written to this one by now."""
        twin = Overlay(self.below.again())
        twin.follow(self)
        return twin

    def follow(self, other: Overlay) -> None:
        """Have what has been written to ``other`` by now, and nothing else."""
        self._limit, self._blocks = other._limit, other._blocks.copy()

    def state(self) -> OverlayState:
        """What was written. The image below is where the machine was made from."""
        blocks = sorted(self._blocks)
        return OverlayState(self.size, blocks, b"".join([self._blocks[at] for at in blocks]))

    def restore(self, state: OverlayState) -> None:
        """Have this been written, and nothing else. Raises `ConfigError` if it does not fit to the image."""
        ordered = all(one < other for one, other in pairwise(state.blocks))
        fits = len(state.content) == BLOCK * len(state.blocks) <= BLOCK * self._limit
        if state.size != self.size or not ordered or not fits:
            raise ConfigError(f"{self.name}: this state is that of another image, or does not fit together.")
        parts = [state.content[at : at + BLOCK] for at in range(0, len(state.content), BLOCK)]
        self._blocks = dict(zip(state.blocks, parts, strict=True))

    def flush(self) -> None:
        """Nothing reaches the host."""

    def close(self) -> None:
        """Close the image below."""
        self.below.close()
