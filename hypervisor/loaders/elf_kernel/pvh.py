"""PVH: an ELF kernel whose Xen note names a 32-bit physical entry point.

Source: Xen's docs/misc/pvh.pandoc ("x86 HVM direct boot ABI") and xen/include/public/arch-x86/hvm/start_info.h.

Entry: EBX = struct hvm_start_info, flat 32-bit protected mode, paging and interrupts off. The structure, its module
list, memory map and strings are one piece in the loader's area below 640 KiB. The initrd is the first module.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

from hypervisor.loaders.boot_image import Image
from hypervisor.loaders.c_text import c_string
from hypervisor.loaders.cpu_state import protected_mode, stack_top
from hypervisor.loaders.elf_kernel.elf_file import ElfFile
from hypervisor.loaders.entry import BootSpec, Entry, GuestMemory
from hypervisor.loaders.memory_map import Placement, memory_map_of
from hypervisor.loaders.multiboot.headers import place_modules

PHYS32_ENTRY = 18
"""XEN_ELFNOTE_PHYS32_ENTRY, in a note whose name is Xen."""

START_INFO_MAGIC = 0x336EC578
START_INFO = struct.Struct("<IIIIQQQQII")


def entry_of(elf: ElfFile) -> int | None:
    """The entry point of the PVH note (4 bytes, or 8 in some ELF64 files), or None."""
    for name, kind, description in elf.notes():
        if name == b"Xen" and kind == PHYS32_ENTRY and len(description) >= 4:
            return int.from_bytes(description[:4], "little")
    return None


def enter(
    start: int, image: Image, spec: BootSpec, memory: GuestMemory, placement: Placement, symbols: Mapping[str, int]
) -> Entry:
    """Place modules and start info for a kernel that is in memory already."""
    ranges = memory_map_of(spec, memory)
    modules = place_modules(spec, memory, placement)
    line = c_string(spec.append, "the command line")
    memory_map = b"".join(struct.pack("<QQII", base, size, kind, 0) for base, size, kind in ranges)
    strings = [line, *(module.line for module in modules)]
    size = START_INFO.size + 32 * len(modules) + len(memory_map) + sum(map(len, strings))
    base = placement.loader_area(size, "the PVH start info")
    list_at = base + START_INFO.size
    map_at = list_at + 32 * len(modules)
    line_at = map_at + len(memory_map)
    text_at = line_at + len(line)
    module_list = b""
    for module in modules:
        module_list += struct.pack("<QQQQ", module.start, module.end - module.start, text_at, 0)
        text_at += len(module.line)
    modules_at = list_at if modules else 0
    head = START_INFO.pack(
        START_INFO_MAGIC, 1, 0, len(modules), modules_at, line_at, spec.acpi_rsdp, map_at, len(ranges), 0
    )
    memory.write(base, head + module_list + memory_map + b"".join(strings))
    regs = {"rbx": base, "rsp": stack_top(placement)}
    return protected_mode("pvh", start, regs, memory, placement, symbols=symbols)
