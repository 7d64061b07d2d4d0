"""Multiboot 1 kernels: ELF32, ELF64 (entered in 32-bit mode, as GRUB does) or any file with address fields.

Source: Multiboot Specification 0.6.96, https://www.gnu.org/software/grub/manual/multiboot/multiboot.html.

Entry (section 3.2): EAX = 2BADB002h, EBX = information block, protected mode with flat 4 GiB segments (CS 08h, data
10h), paging and interrupts off, A20 on. ESP points at a stack of 16 KiB, which the specification does not promise.

The information block (section 3.3) with its strings and tables is one piece in the loader's area below 640 KiB, never
in page 0: flags bits 0 (mem), 2 (command line, which begins with the image's name), 3 (modules), 6 (memory map), 9
(loader name), and 12 (framebuffer: EGA text) when the header asks for a video mode.
"""

from __future__ import annotations

import struct
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

HEADER_MAGIC = 0x1BADB002
ENTRY_MAGIC = 0x2BADB002
SEARCH = 8192
"""The header lies within this many bytes from the start of the file, 4-byte aligned (section 3.1)."""

WANTS_VIDEO = 1 << 2
KNOWN_REQUIREMENTS = 0x0007
"""Bits 0 to 15 are requirements; of these, page-aligned modules, memory information and a video mode can be met."""

HAS_ADDRESSES = 1 << 16
INFO_SIZE = 116


class Header(NamedTuple):
    """A multiboot 1 header and where it was found."""

    offset: int
    flags: int


def find_header(image: Image) -> Header | None:
    """The first header with the right checksum, or None."""
    window = image.data[:SEARCH]
    for offset in range(0, len(window) - 11, 4):
        magic, flags, checksum = struct.unpack_from("<III", window, offset)
        if magic == HEADER_MAGIC and (magic + flags + checksum) & 0xFFFFFFFF == 0:
            return Header(offset, flags)
    return None


def is_multiboot1(image: Image) -> bool:
    """Whether there is a header, and either address fields or an ELF file to load."""
    header = find_header(image)
    return header is not None and (bool(header.flags & HAS_ADDRESSES) or elf_file.is_elf(image))


def load(image: Image, spec: BootSpec, memory: GuestMemory) -> Entry:
    """Place kernel, modules and information block; raises `ImageError` for a bad image or one that does not fit."""
    header = find_header(image)
    if header is None:
        raise image.error(
            f"there is no multiboot header (magic 0x1badb002, 4-byte aligned, flags and checksum adding up to zero) "
            f"in the first {SEARCH} bytes; check the header's checksum and the linker script."
        )
    unknown = header.flags & 0xFFFF & ~KNOWN_REQUIREMENTS
    if unknown:
        raise image.error(
            f"its multiboot header requires features {unknown:#x} in flags, which do not exist; clear them."
        )
    ranges = memory_map_of(spec, memory)
    placement = Placement(image.name, ranges)
    symbols: ElfSymbols | None = None
    if header.flags & HAS_ADDRESSES:
        *fields, start = image.unpack("<5I", header.offset + 12, "the multiboot header's address fields")
        place_by_address(image, AddressFields(*fields), header.offset, memory, placement)
    elif elf_file.is_elf(image):
        elf = elf_file.parse(image)
        elf_file.place(elf, memory, placement)
        start, symbols = elf.physical_entry(), ElfSymbols(image)
    else:
        raise image.error("its multiboot header has no address fields (flag bit 16) and the file is not ELF; set them.")
    modules = place_modules(spec, memory, placement)
    info = _info_block(kernel_line(image, spec), modules, ranges, memory, placement, bool(header.flags & WANTS_VIDEO))
    regs = {"rax": ENTRY_MAGIC, "rbx": info, "rsp": stack_top(placement)}
    return protected_mode("multiboot1", start, regs, memory, placement, symbols=symbols)


def _info_block(
    line: bytes,
    modules: list[Module],
    ranges: list[MemoryRange],
    memory: GuestMemory,
    placement: Placement,
    video: bool,
) -> int:
    """The information structure of section 3.3, followed by what it points to; returns its address."""
    memory_map = b"".join(struct.pack("<IQQI", 20, base, size, kind) for base, size, kind in ranges)
    module_list_size = 16 * len(modules)
    lines = [line, LOADER_NAME, *(module.line for module in modules)]
    size = INFO_SIZE + module_list_size + len(memory_map) + sum(map(len, lines))
    base = placement.loader_area(size, "the multiboot information")
    list_at = base + INFO_SIZE
    map_at = list_at + module_list_size
    line_at = map_at + len(memory_map)
    loader_at = line_at + len(line)
    text_at = loader_at + len(LOADER_NAME)

    info = bytearray(INFO_SIZE)
    flags = 1 << 0 | 1 << 2 | 1 << 3 | 1 << 6 | 1 << 9
    struct.pack_into("<III", info, 0, flags, lower_kib(ranges), upper_kib(ranges))
    struct.pack_into("<III", info, 16, line_at, len(modules), list_at)
    struct.pack_into("<II", info, 44, len(memory_map), map_at)
    struct.pack_into("<I", info, 64, loader_at)
    if video:
        # EGA text: address, bytes a line, columns, lines, bits a character, type 2 (section 3.3, framebuffer).
        struct.pack_into("<QIIIBB", info, 88, 0xB8000, 160, 80, 25, 16, 2)
        struct.pack_into("<I", info, 0, flags | 1 << 12)
    module_list = bytearray()
    for module in modules:
        module_list += struct.pack("<IIII", module.start, module.end, text_at, 0)
        text_at += len(module.line)
    memory.write(base, bytes(info + module_list) + memory_map + b"".join(lines))
    return base
