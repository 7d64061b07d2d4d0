"""A device's view of guest memory."""

from __future__ import annotations

from typing import Protocol


class Dma(Protocol):
    """Guest-physical memory as a bus master sees it: plain bytes, no page tables."""

    def read(self, gpa: int, size: int) -> bytes:
        """``size`` bytes at guest-physical ``gpa``. Bytes that are not memory read as 0xff."""
        ...

    def write(self, gpa: int, data: bytes) -> None:
        """Store ``data`` at guest-physical ``gpa``. Bytes that are not writable memory are dropped."""
        ...
