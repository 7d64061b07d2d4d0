"""A vCPU and a VM as this room sees them: registers by name, memory by address."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hypervisor.errors import GuestFault
from hypervisor.units import PAGE_SIZE


@dataclass
class FakeSegment:
    selector: int = 0
    base: int = 0
    limit: int = 0xFFFF
    attributes: int = 0x93


@dataclass
class FakeTable:
    base: int = 0
    limit: int = 0xFFFF


def code(bits: int, base: int = 0) -> FakeSegment:
    return FakeSegment(8, base, 0xFFFFFFFF, {16: 0x9B, 32: 0xC9B, 64: 0xA9B}[bits])


@dataclass
class FakeVcpu:
    """Pages that were not written do not exist."""

    bits: int = 64
    rip: int = 0x1000
    rsp: int = 0x2000
    cr0: int = 0x8001_0011
    efer: int = 0x500
    rflags: int = 0x246
    cpl: int = 0
    code_base: int = 0
    pages: dict[int, bytearray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.cs = code(self.bits, self.code_base)
        for name in ("ss", "ds", "es", "fs", "gs", "tr", "ldtr"):
            setattr(self, name, FakeSegment(0x10, 0, 0xFFFFFFFF, 0xC93))
        self.gdtr, self.idtr = FakeTable(0x5000, 0x37), FakeTable()
        self.cr2, self.cr3, self.cr4, self.dr6, self.dr7 = 0xB8, 0x9000, 0x20, 0xFFFF0FF0, 0x400

    def get(self, name: str) -> int:
        return {"rsp": self.rsp, "rip": self.rip}.get(name, sum(name.encode()))

    def read(self, gva: Any, size: int) -> bytes:
        out = b""
        while len(out) < size:
            page, offset = divmod(gva + len(out), PAGE_SIZE)
            if page not in self.pages:
                raise GuestFault(f"guest-virtual address {gva + len(out):#x} is not mapped")
            out += self.pages[page][offset : offset + size - len(out)]
        return out

    def write(self, gva: int, data: bytes) -> None:
        for index, byte in enumerate(data):
            page, offset = divmod(gva + index, PAGE_SIZE)
            self.pages.setdefault(page, bytearray(PAGE_SIZE))[offset] = byte

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)
