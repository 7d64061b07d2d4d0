"""What a loader is given and what it returns: plain values, so that a loader can be tested without a CPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from hypervisor.arch.segments import Segment, Table

MemoryRange = tuple[int, int, int]
"""One entry of the memory map: base and size in bytes, and the E820 type (ACPI 6.5, "Address Range Types")."""


class GuestMemory(Protocol):
    """Guest-physical memory, as far as a loader needs it."""

    @property
    def size(self) -> int:
        """Bytes of memory that the guest has."""
        ...

    def read(self, gpa: int, size: int) -> bytes:
        """``size`` bytes at guest-physical ``gpa``."""
        ...

    def write(self, gpa: int, data: bytes | memoryview) -> None:
        """Store ``data`` at guest-physical ``gpa``."""
        ...


@dataclass(frozen=True, kw_only=True)
class BootSpec:
    """How to boot an image.

    ``name`` is the image's name as the user gave it (it begins a multiboot command line and every error).
    ``memory_size`` is in bytes and 0 means the size of the memory object. ``memory_map`` is what the board tells its
    guests; empty means `hypervisor.loaders.memory_map.default_memory_map`. ``modules`` are (name, arguments, contents).
    ``format`` overrides the detection (one of `hypervisor.loaders.FORMATS`); ``at`` and ``entry`` are guest-physical
    addresses, for flat binaries only; ``mode`` is 16, 32 or 64: the mode of a flat binary, or the width of
    a Linux kernel's entry to take. ``acpi_rsdp`` is the address of the ACPI tables' root, 0 where there is none.
    """

    name: str = "image"
    memory_size: int = 0
    memory_map: Sequence[MemoryRange] = ()
    append: str = ""
    initrd: bytes | None = None
    modules: Sequence[tuple[str, str, bytes]] = ()
    format: str | None = None
    at: int | None = None
    entry: int | None = None
    mode: int | None = None
    acpi_rsdp: int = 0


@dataclass(frozen=True, kw_only=True)
class Entry:
    """The state of the first vCPU at the image's first instruction.

    ``mode`` is the width of that code in bits (16, 32 or 64). ``regs`` has rax to r15, rip, rsp (among them) and
    rflags; ``segments`` has cs, ds, es, ss, fs, gs, tr and ldtr. ``kind`` names the protocol that was used: linux16,
    linux32, linux64, multiboot1, multiboot2, pvh, elf32, elf64, bootsector or flat. ``symbols`` are
    virtual addresses by name, read from the image when first looked at. ``notes`` are sentences about what the image
    wants and does not get.
    """

    mode: int
    kind: str
    regs: Mapping[str, int]
    segments: Mapping[str, Segment]
    gdtr: Table
    idtr: Table
    cr0: int
    cr3: int = 0
    cr4: int = 0
    efer: int = 0
    symbols: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
