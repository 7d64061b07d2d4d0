"""A VM's ring of last events while the VM is on no pCPU: 32 KiB for each that has run, a quarter when it is packed."""

from __future__ import annotations

import zlib
from typing import NamedTuple

_QUICKLY = 1
"""How hard it is tried: 0.2 ms, and 0.1 to have it back."""


class _Kept(NamedTuple):
    """Changes as a whole, as other threads may look at it."""

    content: bytes
    packed: bool


class KeptEvents:
    """What `report.Report.keep_events` took out of a pCPU."""

    def __init__(self) -> None:
        self._kept = _Kept(bytes(8), False)

    @property
    def ring(self) -> bytes:
        """All of it."""
        content, packed = self._kept
        return zlib.decompress(content) if packed else content

    @ring.setter
    def ring(self, ring: bytes) -> None:
        self._kept = _Kept(ring, False)

    def pack(self) -> None:
        """Nobody needs it soon."""
        content, packed = self._kept
        if not packed:
            self._kept = _Kept(zlib.compress(content, _QUICKLY), True)


__all__ = ["KeptEvents"]
