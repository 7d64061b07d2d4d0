"""The 16-bit entry of the Linux boot protocol: the kernel's own real-mode code, which calls the BIOS.

Source: the Linux kernel's Documentation/arch/x86/boot.rst, "Memory Layout", "Details of the Real-Mode Header",
"Special Command Line Options" and "Running the Kernel". Programs that only look like a kernel, such as iPXE's
``ipxe.lkrn``, have no other entry.
"""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import TYPE_CHECKING

from hypervisor.arch.flags import RFLAGS_FIXED
from hypervisor.arch.segments import DATA16, Segment
from hypervisor.errors import ConfigError
from hypervisor.loaders.cpu_state import real_mode
from hypervisor.loaders.entry import BootSpec, Entry, GuestMemory
from hypervisor.loaders.memory_map import Placement

if TYPE_CHECKING:
    from hypervisor.loaders.boot_image import Image
    from hypervisor.loaders.linux_kernel.protocol import Header

REAL_MODE, SIZE = 0x90000, 0xFC00
"""Where the real-mode code goes, and how much it has up to the EBDA: code, heap and stack, command line."""
HEAP_END = 0xE000
MOST_SETUP = 0x8000
"""Bytes of the real-mode code, below its heap and stack ("Memory Layout")."""
PROTECTED_MODE = 0x100000
CAN_USE_HEAP = 0x80
UNKNOWN_LOADER = 0xFF
VIDEO_MODES = {"normal": 0xFFFF, "ext": 0xFFFE, "ask": 0xFFFD}
"""Values of vid_mode that have a name; the others are modes of the BIOS, of VBE (200h + n) and of the kernel's own."""


def video_mode(append: str) -> int | None:
    """What ``vga=`` asks for, the last one if there are several, None without one; in C's notation, or by name.

    The kernel's real-mode code sets the mode before it can read its command line, so the loader reads it.
    Raises `ConfigError` for one that is no mode.
    """
    asked = [word.removeprefix("vga=") for word in append.split() if word.startswith("vga=")]
    if not asked:
        return None
    word = asked[-1]
    if word in VIDEO_MODES:
        return VIDEO_MODES[word]
    octal = word.startswith("0") and word.isdigit()
    try:
        mode = int(word, 8 if octal else 0)
    except ValueError:
        mode = -1
    if not 0 <= mode <= 0xFFFF:
        raise ConfigError(f"vga={word} is no video mode: give a number up to 0xffff, {', '.join(VIDEO_MODES)}.")
    return mode


def load(image: Image, header: Header, spec: BootSpec, line: bytes, placement: Placement, memory: GuestMemory) -> Entry:
    """Place both parts of the kernel, initrd and command line; returns the state in which a boot loader jumps.

    Raises `ImageError` for an image that does not fit, `ConfigError` for a ``vga=`` that is no mode. The BIOS must be
    there.
    """
    if header.setup_size > MOST_SETUP:
        raise image.error(
            f"its real-mode code has {header.setup_size} bytes; at most {MOST_SETUP} are loaded. The file is damaged."
        )
    placement.claim(REAL_MODE, SIZE, "the kernel's real-mode code")
    placement.claim(PROTECTED_MODE, header.code_size, "the kernel")
    code = bytearray(image.slice(0, header.setup_size, "the kernel's real-mode code"))
    mode = video_mode(spec.append)
    if mode is not None:
        struct.pack_into("<H", code, 0x1FA, mode)
    code[0x210] = UNKNOWN_LOADER
    code[0x211] |= CAN_USE_HEAP
    initrd_at = 0
    if spec.initrd:
        highest = min(header.initrd_addr_max + 1, 1 << 32)
        initrd_at = placement.find_high(len(spec.initrd), "the initrd", high=highest)
        memory.write(initrd_at, spec.initrd)
    struct.pack_into("<II", code, 0x218, initrd_at, len(spec.initrd or b""))
    struct.pack_into("<H", code, 0x224, HEAP_END - 0x200)
    struct.pack_into("<I", code, 0x228, REAL_MODE + HEAP_END)
    memory.write(REAL_MODE, bytes(code))
    memory.write(REAL_MODE + HEAP_END, line)
    memory.write(PROTECTED_MODE, image.view(header.setup_size, header.code_size, "the kernel's code"))
    entry = real_mode("linux16", REAL_MODE, {}, stack=HEAP_END)
    data = Segment(REAL_MODE >> 4, REAL_MODE, 0xFFFF, DATA16)
    start = Segment((REAL_MODE >> 4) + 0x20, REAL_MODE + 0x200, 0xFFFF, entry.segments["cs"].attributes)
    segments = {**entry.segments, **dict.fromkeys(("ds", "es", "ss", "fs", "gs"), data), "cs": start}
    return replace(entry, regs={**entry.regs, "rip": 0, "rflags": RFLAGS_FIXED}, segments=segments)
