"""Multiboot 2 kernels: ELF32, ELF64 (entered in 32-bit mode) or any file with an address tag.

Source: Multiboot2 Specification 2.0, https://www.gnu.org/software/grub/manual/multiboot2/multiboot.html.

Entry (section 3.3, i386): EAX = 36D76289h, EBX = information block; otherwise as multiboot 1. The information block
(section 3.6) is in the loader's area below 640 KiB.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from hypervisor.loaders.boot_image import Image
from hypervisor.loaders.cpu_state import protected_mode, stack_top
from hypervisor.loaders.elf_kernel import elf_file
from hypervisor.loaders.elf_kernel.loaded_symbols import ElfSymbols
from hypervisor.loaders.entry import BootSpec, Entry, GuestMemory, MemoryRange
from hypervisor.loaders.memory_map import Placement, lower_kib, memory_map_of, upper_kib
from hypervisor.loaders.multiboot.headers import (
    LOADER_NAME,
    AddressFields,
    Module,
    kernel_line,
    place_by_address,
    place_modules,
)

HEADER_MAGIC = 0xE85250D6
ENTRY_MAGIC = 0x36D76289
SEARCH = 32768
"""The header lies within this many bytes from the start of the file, 8-byte aligned (section 3.1)."""

ARCHITECTURE_I386 = 0
OPTIONAL = 1 << 0

# Header tags (section 3.1.3 onwards). Console flags (4), framebuffer (5), module alignment (6), EFI boot services (7),
# EFI entries (8, 9) and relocation (10) are understood and need nothing: we have EGA text, align modules, are no EFI
# and load where the file says.
TAG_END, TAG_REQUEST, TAG_ADDRESS, TAG_ENTRY = 0, 1, 2, 3
KNOWN_TAGS = range(11)

RSDP_V1_SIZE, RSDP_SIZE = 20, 36

KNOWN_REQUESTS = range(1, 22)
"""Information tags that exist.

One that this machine has nothing for (APM, SMBIOS, EFI, ...) is left out, as GRUB does.
"""


class Tag(NamedTuple):
    """A header tag: type, flags, and the file range of its contents after the 8-byte head."""

    type: int
    flags: int
    offset: int
    size: int


class Header(NamedTuple):
    """A multiboot 2 header: where it is, and its length in bytes."""

    offset: int
    length: int


def find_header(image: Image) -> Header | None:
    """The first i386 header with the right checksum, or None."""
    window = image.data[:SEARCH]
    for offset in range(0, len(window) - 15, 8):
        magic, architecture, length, checksum = struct.unpack_from("<IIII", window, offset)
        if magic == HEADER_MAGIC and (magic + architecture + length + checksum) & 0xFFFFFFFF == 0:
            return Header(offset, length) if architecture == ARCHITECTURE_I386 else None
    return None


def is_multiboot2(image: Image) -> bool:
    """Whether there is a header, and either an address tag or an ELF file to load."""
    header = find_header(image)
    if header is None:
        return False
    return elf_file.is_elf(image) or any(tag.type == TAG_ADDRESS for tag in _tags(image, header))


def load(image: Image, spec: BootSpec, memory: GuestMemory) -> Entry:
    """Place kernel, modules and information block; raises `ImageError` for a bad image or one that does not fit."""
    header = find_header(image)
    if header is None:
        raise image.error(
            f"there is no multiboot 2 header for i386 (magic 0xe85250d6, 8-byte aligned, right checksum) "
            f"in the first {SEARCH} bytes; check the header's checksum and the linker script."
        )
    addresses, start = _read_tags(image, header)
    ranges = memory_map_of(spec, memory)
    placement = Placement(image.name, ranges)
    symbols: ElfSymbols | None = None
    if addresses is not None:
        place_by_address(image, addresses, header.offset, memory, placement)
        if start is None:
            raise image.error("its multiboot 2 header has an address tag but no entry address tag (type 3); add one.")
    elif elf_file.is_elf(image):
        elf = elf_file.parse(image)
        elf_file.place(elf, memory, placement)
        symbols = ElfSymbols(image)
        start = elf.physical_entry() if start is None else start
    else:
        raise image.error("its multiboot 2 header has no address tag (type 2) and the file is not ELF; add one.")
    modules = place_modules(spec, memory, placement)
    info = _info_block(kernel_line(image, spec), modules, ranges, _root(spec, memory))
    info_at = placement.loader_area(len(info), "the multiboot 2 information")
    memory.write(info_at, info)
    regs = {"rax": ENTRY_MAGIC, "rbx": info_at, "rsp": stack_top(placement)}
    return protected_mode("multiboot2", start, regs, memory, placement, symbols=symbols)


def _tags(image: Image, header: Header) -> Iterator[Tag]:
    at, end = header.offset + 16, header.offset + header.length
    if end > SEARCH:
        raise image.error(
            f"its multiboot 2 header at {header.offset:#x} has {header.length} bytes; it must end within the first "
            f"{SEARCH}. Correct its length."
        )
    while at + 8 <= end:
        kind, flags, size = image.unpack("<HHI", at, "a multiboot 2 header tag")
        if kind == TAG_END:
            return
        if size < 8 or at + size > end:
            raise image.error(
                f"the multiboot 2 header tag at {at:#x} has size {size}, which leaves the header; correct it."
            )
        yield Tag(kind, flags, at + 8, size - 8)
        at += size + 7 & ~7


def _read_tags(image: Image, header: Header) -> tuple[AddressFields | None, int | None]:
    """The address tag and the entry address, if they are there.

    Raises `ImageError` for what is required and unknown.
    """
    addresses: AddressFields | None = None
    entry: int | None = None
    for tag in _tags(image, header):
        if tag.type not in KNOWN_TAGS and not tag.flags & OPTIONAL:
            raise image.error(
                f"its multiboot 2 header requires tag {tag.type}, which does not exist; make it optional."
            )
        if tag.type == TAG_REQUEST and not tag.flags & OPTIONAL:
            requests = _fields(image, tag, f"<{tag.size // 4}I")
            unknown = [kind for kind in requests if kind not in KNOWN_REQUESTS]
            if unknown:
                raise image.error(
                    f"its multiboot 2 header requires information of types {unknown[:4]}, which do not exist."
                )
        elif tag.type == TAG_ADDRESS:
            addresses = AddressFields(*_fields(image, tag, "<4I"))
        elif tag.type == TAG_ENTRY:
            (entry,) = _fields(image, tag, "<I")
    return addresses, entry


def _fields(image: Image, tag: Tag, layout: str) -> tuple[int, ...]:
    """The first fields of a tag, which must have room for them."""
    if tag.size < struct.calcsize(layout):
        raise image.error(
            f"its multiboot 2 header tag {tag.type} has only {tag.size} bytes of contents; correct its size."
        )
    return image.unpack(layout, tag.offset, f"header tag {tag.type}")


def _root(spec: BootSpec, memory: GuestMemory) -> bytes:
    """A copy of the ACPI tables' root (RSDP, ACPI 6.5, 5.2.5.3), empty if there is none."""
    return memory.read(spec.acpi_rsdp, RSDP_SIZE) if spec.acpi_rsdp else b""


def _info_block(line: bytes, modules: list[Module], ranges: list[MemoryRange], rsdp: bytes) -> bytes:
    """The information of section 3.6, without a byte that depends on where it goes."""
    memory_map = b"".join(struct.pack("<QQII", base, size, kind, 0) for base, size, kind in ranges)
    tags = [
        _tag(1, line),
        _tag(2, LOADER_NAME),
        *(_tag(3, struct.pack("<II", module.start, module.end) + module.line) for module in modules),
        _tag(4, struct.pack("<II", lower_kib(ranges), upper_kib(ranges))),
        _tag(6, struct.pack("<II", 24, 0) + memory_map),
        # Framebuffer: EGA text at b8000h, 160 bytes a line, 80 by 25 characters of 16 bits, type 2, reserved.
        _tag(8, struct.pack("<QIIIBBH", 0xB8000, 160, 80, 25, 16, 2, 0)),
        # The root of ACPI tables as ACPI 1.0 has it, and as later versions have it: copies, as GRUB gives them.
        *((_tag(14, rsdp[:RSDP_V1_SIZE]), _tag(15, rsdp)) if rsdp else ()),
        _tag(0, b""),
    ]
    body = b"".join(tags)
    return struct.pack("<II", 8 + len(body), 0) + body


def _tag(kind: int, contents: bytes) -> bytes:
    """A tag, padded so that the next begins 8-byte aligned; the size leaves the padding out."""
    data = struct.pack("<II", kind, 8 + len(contents)) + contents
    return data + bytes(-len(data) % 8)
