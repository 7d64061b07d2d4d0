"""One instruction of the guest as a line of a disassembly. What makes them is `hypervisor.debug.disasm`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Line:
    """One instruction: its address (linear when read from a vCPU), its bytes, and its text in Intel's syntax."""

    address: int
    data: bytes
    text: str

    def __str__(self) -> str:
        return f"{self.address:#x}: {self.data.hex(' '):<24} {self.text}"


__all__ = ["Line"]
