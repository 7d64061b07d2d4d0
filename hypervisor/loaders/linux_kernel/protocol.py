"""Linux bzImage kernels: the 32-bit and 64-bit entries of the boot protocol, 2.02 and later. (`linux16` has the other.)

Source: the Linux kernel's Documentation/arch/x86/boot.rst ("The Linux/x86 Boot Protocol") and zero-page.rst. Section
names below are those of boot.rst.

Placement: the kernel at its pref_address (2.10+) or code32_start; the initrd as high as initrd_addr_max allows; GDT,
boot_params, command line and page tables in the loader's area below 640 KiB.

Entry, 32-bit ("32-bit Boot Protocol"): CS 10h, data 18h, ESI = boot_params, EBP = EDI = EBX = 0, paging and
interrupts off. Entry, 64-bit ("64-bit Boot Protocol"): at the load address + 200h, RSI = boot_params, 4 GiB mapped
one to one.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from hypervisor.errors import ConfigError
from hypervisor.loaders.boot_image import Image
from hypervisor.loaders.c_text import c_string
from hypervisor.loaders.cpu_state import long_mode, protected_mode, stack_top
from hypervisor.loaders.entry import BootSpec, Entry, GuestMemory, MemoryRange
from hypervisor.loaders.linux_kernel import real_mode_setup
from hypervisor.loaders.memory_map import Placement, memory_map_of, upper_kib
from hypervisor.units import PAGE_SIZE

BOOT_CS = 0x10
SECTOR = 512
LOADED_HIGH = 1 << 0
XLF_KERNEL_64 = 1 << 0
SINCE_32_BIT_PROTOCOL = 0x207
"""The first version that loaders may enter past the real-mode code (2.6.24, "32-bit Boot Protocol"). Programs that only
look like a kernel, such as memdisk, announce older ones, whose loaders knew the 16-bit entry alone.
"""
MAX_E820_ENTRIES = 128
"""Entries of boot_params.e820_table (zero-page.rst, offset 2d0h)."""


@dataclass(frozen=True)
class Header:
    """The fields of the setup header that a loader reads ("The Real-Mode Kernel Header")."""

    raw: bytes
    version: int
    setup_size: int
    code_size: int
    code32_start: int
    relocatable: bool
    entry_64: bool
    command_line_size: int
    initrd_addr_max: int
    pref_address: int
    init_size: int


def is_linux(image: Image) -> bool:
    """Whether the file has the boot flag at 1feh and the magic HdrS at 202h."""
    return image.data[0x1FE:0x200] == b"\x55\xaa" and image.data[0x202:0x206] == b"HdrS"


def parse_header(image: Image) -> Header:
    """Read and check the setup header; raises `ImageError` for a truncated file and for kernels that are too old."""
    if not is_linux(image):
        raise image.error("this is not a bzImage: 55 AA at offset 0x1fe and HdrS at 0x202 are missing.")
    (version, _, _, _, _, loadflags) = image.unpack("<HIHHBB", 0x206, "the setup header")
    if version < 0x202 or not loadflags & LOADED_HIGH:
        raise image.error(
            f"this kernel has boot protocol {version >> 8}.{version & 0xFF:02}"
            f"{'' if loadflags & LOADED_HIGH else ' and is a zImage'}, which is too old; "
            "a bzImage of protocol 2.02 (Linux 2.4) or later is needed."
        )
    (jump_reach,) = image.unpack("<B", 0x201, "the setup header")
    # boot_params has a hole of this size for the header; beyond it begin other fields (zero-page.rst, offset 290h).
    raw = image.slice(0x1F1, min(0x202 + jump_reach, 0x290) - 0x1F1, "the setup header")
    # Fields that this protocol version does not have yet lie outside `raw`, or in it as other things: zeros stand for
    # them.
    full = raw.ljust(0x270 - 0x1F1, b"\0")

    def field(layout: str, offset: int, since: int, default: int) -> int:
        return int(struct.unpack_from("<" + layout, full, offset - 0x1F1)[0]) if version >= since else default

    setup_size = ((full[0] or 4) + 1) * SECTOR
    paragraphs = field("I", 0x1F4, 0x204, 0)
    available = len(image) - setup_size
    # The file may end within the last 16-byte paragraph, and may go on after it (signatures).
    if available <= 0 or available <= (paragraphs - 1) * 16:
        raise image.error(
            f"the file is truncated: its header announces {setup_size + paragraphs * 16} bytes, "
            f"but it has {len(image)}. Build or copy it again."
        )
    return Header(
        raw=raw,
        version=version,
        setup_size=setup_size,
        code_size=min(available, paragraphs * 16) if paragraphs else available,
        code32_start=field("I", 0x214, 0x200, 0),
        relocatable=bool(field("B", 0x234, 0x205, 0)),
        entry_64=bool(field("H", 0x236, 0x20C, 0) & XLF_KERNEL_64),
        command_line_size=field("I", 0x238, 0x206, 255),
        initrd_addr_max=field("I", 0x22C, 0x203, 0x37FFFFFF),
        pref_address=field("Q", 0x258, 0x20A, 0),
        init_size=field("I", 0x260, 0x20A, 0),
    )


def load(image: Image, spec: BootSpec, memory: GuestMemory) -> Entry:
    """Place kernel, initrd, command line and boot_params; returns the entry that ``mode`` asks for, otherwise the
    64-bit one if there is one, or else the 32-bit one. (A kernel without either has its 16-bit entry alone.) Kernels
    before protocol 2.07 are entered in their real-mode code, and so is one with ``vga=``, a video mode that only that
    code can set.

    Raises `ImageError` for a bad image or one that does not fit, `ConfigError` for options that cannot work.
    """
    header = parse_header(image)
    mode = _entry_mode(image, header, spec)
    if spec.modules:
        raise ConfigError(f"{image.name}: a Linux kernel takes no modules; use --initrd instead of --module.")
    ranges = memory_map_of(spec, memory)
    placement = Placement(image.name, ranges)

    line = c_string(spec.append, "the command line")
    if len(line) - 1 > header.command_line_size:
        raise ConfigError(
            f"{image.name}: the command line has {len(line) - 1} bytes, but this kernel takes at most "
            f"{header.command_line_size}; shorten --append."
        )
    if mode == 16:
        return real_mode_setup.load(image, header, spec, line, placement, memory)
    start = header.pref_address if header.relocatable and header.pref_address else header.code32_start
    if start >= 1 << 32:
        raise image.error(f"the setup header asks for load address {start:#x}, beyond 4 GiB; the file is damaged.")
    # The kernel runs, decompresses and keeps its bss here ("init_size"), so all of it must be memory.
    placement.claim(start, max(header.init_size, header.code_size), "the kernel")
    memory.write(start, image.view(header.setup_size, header.code_size, "the kernel's code"))

    params_at = placement.loader_area(PAGE_SIZE, "boot_params")
    line_at = placement.loader_area(len(line), "the command line", align=16)
    memory.write(line_at, line)
    initrd_at = 0
    if spec.initrd:
        highest = min(header.initrd_addr_max + 1, 1 << 32)
        initrd_at = placement.find_high(len(spec.initrd), "the initrd", high=highest)
        memory.write(initrd_at, spec.initrd)
    memory.write(
        params_at, _boot_params(image, header, start, line_at, (initrd_at, len(spec.initrd or b"")), ranges, spec)
    )

    regs = {"rsi": params_at, "rbp": 0, "rdi": 0, "rbx": 0, "rsp": stack_top(placement)}
    if mode == 64:
        return long_mode("linux64", start + 0x200, regs, memory, placement, code_selector=BOOT_CS)
    return protected_mode("linux32", start, regs, memory, placement, code_selector=BOOT_CS)


def _entry_mode(image: Image, header: Header, spec: BootSpec) -> int:
    if not header.code32_start and not header.entry_64:
        if spec.mode not in (None, 16):
            raise ConfigError(
                f"{image.name}: this kernel has a 16-bit entry only (code32_start is 0); leave --mode out."
            )
        return 16
    if spec.mode == 64 and not header.entry_64:
        raise ConfigError(f"{image.name}: this kernel has no 64-bit entry (XLF_KERNEL_64 is clear); leave --mode out.")
    if spec.mode not in (None, 16, 32, 64):
        raise ConfigError(f"{image.name}: a Linux kernel is entered in mode 16, 32 or 64; leave --mode out.")
    if spec.mode is not None:
        return spec.mode
    if header.version < SINCE_32_BIT_PROTOCOL or real_mode_setup.video_mode(spec.append) is not None:
        return 16
    return 64 if header.entry_64 else 32


def _boot_params(
    image: Image,
    header: Header,
    start: int,
    line_at: int,
    initrd: tuple[int, int],
    ranges: list[MemoryRange],
    spec: BootSpec,
) -> bytes:
    """struct boot_params (zero-page.rst), zero but for what is set here."""
    if len(ranges) > MAX_E820_ENTRIES:
        raise ConfigError(f"{image.name}: the memory map has {len(ranges)} entries; Linux takes {MAX_E820_ENTRIES}.")
    params = bytearray(PAGE_SIZE)
    _screen_info(params)
    struct.pack_into("<Q", params, 0x70, spec.acpi_rsdp)  # acpi_rsdp_addr
    struct.pack_into("<I", params, 0x1E0, min(upper_kib(ranges), 0xFFFFFFFF))  # alt_mem_k
    params[0x1E8] = len(ranges)
    for index, entry in enumerate(ranges):
        struct.pack_into("<QQI", params, 0x2D0 + 20 * index, *entry)
    params[0x1F1 : 0x1F1 + len(header.raw)] = header.raw
    struct.pack_into("<H", params, 0x1FA, 0xFFFF)  # vid_mode: "normal"
    params[0x210] = 0xFF  # type_of_loader: none of the assigned ones
    struct.pack_into("<I", params, 0x214, start)
    struct.pack_into("<II", params, 0x218, *initrd)
    struct.pack_into("<I", params, 0x228, line_at)
    return bytes(params)


def _screen_info(params: bytearray) -> None:
    """VGA text mode 3, 80 by 25, cursor at the top left (struct screen_info, zero-page.rst offset 0)."""
    params[0x06] = 3  # orig_video_mode
    params[0x07] = 80  # orig_video_cols
    struct.pack_into("<H", params, 0x0A, 3)  # orig_video_ega_bx: 256 KiB; 10h would mean "no EGA or VGA"
    params[0x0E] = 25  # orig_video_lines
    params[0x0F] = 1  # orig_video_isVGA
    struct.pack_into("<H", params, 0x10, 16)  # orig_video_points: height of a character
