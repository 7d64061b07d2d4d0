"""ELF files as loaders need them: headers, segments with physical addresses, notes, in both classes.

Source: System V ABI, chapters 4 and 5 (object files, program loading),
https://refspecs.linuxfoundation.org/elf/gabi4+/.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from hypervisor.loaders.boot_image import Image
from hypervisor.loaders.entry import GuestMemory
from hypervisor.loaders.memory_map import Placement

MAGIC = b"\x7fELF"
EM_386, EM_X86_64 = 3, 62
ET_EXEC, ET_DYN = 2, 3
PT_LOAD, PT_NOTE = 1, 4
MACHINES = {
    2: "SPARC",
    8: "MIPS",
    20: "PowerPC",
    21: "PowerPC64",
    22: "S/390",
    40: "ARM",
    183: "AArch64",
    243: "RISC-V",
}
ZERO_CHUNK = 1 << 20
MOST_SEGMENTS = 1024
"""Program headers; a kernel has a dozen. They are compared with one another, and with the memory that is taken."""
MOST_NOTES = 4096
"""Notes of all segments together, which may lie one upon the other."""
LONGEST_NOTE = 64
"""Bytes of a note's name and of its description that are looked at."""


class Segment(NamedTuple):
    """A program header."""

    type: int
    flags: int
    offset: int
    vaddr: int
    paddr: int
    file_size: int
    memory_size: int
    align: int


@dataclass(frozen=True)
class ElfFile:
    """A checked ELF header with its program headers."""

    image: Image
    bits: int
    entry: int
    segments: list[Segment]

    @cached_property
    def loadable(self) -> list[Segment]:
        """The segments that occupy memory."""
        return [s for s in self.segments if s.type == PT_LOAD and s.memory_size]

    def only_notes(self, segment: Segment) -> bool:
        """Whether a segment holds nothing but notes, which tools read from the file."""
        end = segment.offset + segment.memory_size
        notes = (s for s in self.segments if s.type == PT_NOTE)
        return any(n.offset <= segment.offset and end <= n.offset + n.file_size for n in notes)

    def physical_entry(self) -> int:
        """The entry point as a physical address: a kernel linked high has a virtual one in its header."""
        start = self._translate()
        if start is None:
            raise self.image.error(
                f"entry point {self.entry:#x} is in no segment of the file; check the linker script's ENTRY."
            )
        if start >= 1 << 32:
            raise self.image.error(f"the entry point's physical address {start:#x} is beyond 4 GiB; link it lower.")
        return start

    def _translate(self) -> int | None:
        for segment in self.loadable:
            if segment.vaddr <= self.entry < segment.vaddr + segment.memory_size:
                return self.entry - segment.vaddr + segment.paddr
        for segment in self.loadable:
            if segment.paddr <= self.entry < segment.paddr + segment.memory_size:
                return self.entry
        return None

    def notes(self) -> Iterator[tuple[bytes, int, bytes]]:
        """(name, type, description) of each note, the texts cut to `LONGEST_NOTE` bytes.

        Raises `ImageError` for a note that leaves the file and for more than `MOST_NOTES`.
        """
        count = 0
        for segment in self.segments:
            if segment.type != PT_NOTE:
                continue
            at, end = segment.offset, segment.offset + segment.file_size
            while at + 12 <= end:
                count += 1
                if count > MOST_NOTES:
                    raise self.image.error(f"it has more than {MOST_NOTES} notes; the file is damaged.")
                name_size, size, kind = self.image.unpack("<III", at, "an ELF note")
                name = bytes(self.image.view(at + 12, name_size, "an ELF note's name")[:LONGEST_NOTE]).rstrip(b"\0")
                at += 12 + (name_size + 3 & ~3)
                yield name, kind, bytes(self.image.view(at, size, "an ELF note's description")[:LONGEST_NOTE])
                at += size + 3 & ~3


def is_elf(image: Image) -> bool:
    """Whether the file begins with the ELF magic."""
    return image.data[:4] == MAGIC


def parse(image: Image) -> ElfFile:
    """Read and check the headers; raises `ImageError` for what is not a loadable x86 executable."""
    if not is_elf(image):
        raise image.error("this is not an ELF file: it does not begin with 7f 45 4c 46.")
    elf_class, encoding = image.unpack("<BB", 4, "the ELF identification")
    if elf_class not in (1, 2) or encoding != 1:
        raise image.error(f"ELF class {elf_class}, data encoding {encoding}: 32- or 64-bit little-endian is needed.")
    bits = 32 * elf_class
    layout = "<HHIIIIIHHHHHH" if bits == 32 else "<HHIQQQIHHHHHH"
    fields = image.unpack(layout, 16, "the ELF header")
    kind, machine, _, entry, ph_offset, _, _, _, ph_size, ph_count, *_ = fields
    if machine != {32: EM_386, 64: EM_X86_64}[bits]:
        known = MACHINES.get(machine, f"machine {machine}")
        if machine in (EM_386, EM_X86_64):
            known = "the other x86 machine type for its class (x32)"
        raise image.error(f"this {bits}-bit ELF file is for {known}; build it for x86 (i386 or x86-64).")
    if kind not in (ET_EXEC, ET_DYN):
        raise image.error(f"this ELF file has type {kind}, not executable; link it first.")
    expected = {32: 32, 64: 56}[bits]
    if ph_count and ph_size != expected:
        raise image.error(f"program headers have {ph_size} bytes each, but {expected} are needed; the file is damaged.")
    if ph_count > MOST_SEGMENTS:
        raise image.error(f"it has {ph_count} program headers; at most {MOST_SEGMENTS} are loaded. Link it anew.")
    segments = [
        _program_header(image, bits, ph_offset + index * ph_size, f"program header {index}")
        for index in range(ph_count)
    ]
    elf = ElfFile(image, bits, entry, segments)
    if not elf.loadable:
        raise image.error("this ELF file has no segment to load; link it as an executable.")
    return elf


def place(elf: ElfFile, memory: GuestMemory, placement: Placement) -> None:
    """Put every loadable segment at its physical address, its rest (bss) zeroed.

    All of them are checked before the first is written. Notes outside memory are left out, and said so: linkers that
    add a build id to a higher-half kernel put it at its virtual address, as no linker script speaks of it.
    """
    image = elf.image
    for segment in elf.segments:
        if segment.type == PT_LOAD and segment.file_size > segment.memory_size:
            raise image.error(
                f"the segment at {segment.paddr:#x} has {segment.file_size} bytes in the file for "
                f"{segment.memory_size} in memory; relink it."
            )
    placed = []
    for segment in elf.loadable:
        what = f"the segment at {segment.paddr:#x}"
        if elf.only_notes(segment) and not placement.is_memory(segment.paddr, segment.memory_size):
            placement.notes.append(f"{image.name}: {what} lies outside memory; it holds notes alone, and is left out.")
            continue
        placed.append(segment)
        image.view(segment.offset, segment.file_size, what)
        placement.claim(segment.paddr, segment.memory_size, what)
    for segment in placed:
        memory.write(segment.paddr, image.view(segment.offset, segment.file_size, "a segment"))
        zero(memory, segment.paddr + segment.file_size, segment.memory_size - segment.file_size)


def zero(memory: GuestMemory, start: int, size: int) -> None:
    """Zero ``size`` bytes from ``start``, a MiB at a time: a large bss must not cost the host as much again."""
    while size > 0:
        step = min(size, ZERO_CHUNK)
        memory.write(start, bytes(step))
        start, size = start + step, size - step


def _program_header(image: Image, bits: int, at: int, what: str) -> Segment:
    if bits == 64:
        return Segment(*image.unpack("<IIQQQQQQ", at, what))
    kind, offset, vaddr, paddr, file_size, memory_size, flags, align = image.unpack("<8I", at, what)
    return Segment(kind, flags, offset, vaddr, paddr, file_size, memory_size, align)
