"""Guest memory for tests: as a loader must use it, and as a bus master sees it."""

from __future__ import annotations

import struct
from typing import Any


class FakeMemory:
    """``size`` bytes; a write beyond them is a loader's bug and fails the test."""

    def __init__(self, size: int = 16 << 20) -> None:
        self.size = size
        self.data = bytearray(size)
        self.written: list[tuple[int, int]] = []

    def read(self, gpa: int, size: int) -> bytes:
        assert 0 <= gpa and gpa + size <= self.size
        return bytes(self.data[gpa : gpa + size])

    def write(self, gpa: int, data: bytes) -> None:
        assert 0 <= gpa and gpa + len(data) <= self.size
        self.data[gpa : gpa + len(data)] = data
        self.written.append((gpa, len(data)))

    def unpack(self, layout: str, gpa: int) -> tuple[Any, ...]:
        return struct.unpack_from("<" + layout, self.data, gpa)

    def string(self, gpa: int) -> str:
        return bytes(self.data[gpa : self.data.index(0, gpa)]).decode()


class BusMemory(FakeMemory):
    """What `hypervisor.bus.Dma` promises: beyond the memory reads give ones and writes are dropped."""

    def read(self, gpa: int, size: int) -> bytes:
        return super().read(gpa, size) if gpa + size <= self.size else b"\xff" * size

    def write(self, gpa: int, data: bytes) -> None:
        if gpa + len(data) <= self.size:
            super().write(gpa, data)
