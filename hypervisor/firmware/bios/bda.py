"""The BIOS data area at 0040:0000: the fields that the services keep, and their state at power-on.

It is the only state that most services have, so that a guest that reads or patches it sees and changes what the BIOS
does. Source: IBM PS/2 and PC BIOS Interface Technical Reference (April 1987), section 3, "BIOS data area".
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from hypervisor.bus import Dma

COM_PORTS = 0x400
EBDA_SEGMENT = 0x40E
EQUIPMENT = 0x410
MEMORY_KIB = 0x413
SHIFT_FLAGS = 0x417
SHIFT_FLAGS_2 = 0x418
KEY_HEAD = 0x41A
KEY_TAIL = 0x41C
KEY_BUFFER = 0x41E
VIDEO_MODE = 0x449
COLUMNS = 0x44A
PAGE_SIZE = 0x44C
PAGE_START = 0x44E
CURSORS = 0x450
CURSOR_SHAPE = 0x460
ACTIVE_PAGE = 0x462
CRTC_PORT = 0x463
CGA_PALETTE = 0x466
TICKS = 0x46C
MIDNIGHT = 0x470
BREAK = 0x471
DISK_STATUS = 0x474
DISK_COUNT = 0x475
COM_TIMEOUTS = 0x47C
KEY_BUFFER_START = 0x480
KEY_BUFFER_END = 0x482
LAST_ROW = 0x484
CHARACTER_HEIGHT = 0x485
VIDEO_CONTROL = 0x487
VIDEO_FEATURES = 0x488
VIDEO_SWITCHES = 0x489
DISPLAY_CODE = 0x48A
KEYBOARD_FLAGS = 0x496
VBE_MODE = 0x4BA
"""The linear mode that is set, 0 for none: a byte pair that is free on a PC."""

EQUIPMENT_FLOPPY, EQUIPMENT_FPU, EQUIPMENT_COLOUR_80 = 1 << 0, 1 << 1, 2 << 4
EQUIPMENT_FLOPPIES, EQUIPMENT_COM = 3 << 6, 7 << 9
"""Fields of `EQUIPMENT`: the number of floppy drives less one, and of serial ports."""

CURSOR_AS_GIVEN, VIDEO_256_KIB, NOT_CLEARED = 1 << 0, 3 << 5, 1 << 7
"""Of `VIDEO_CONTROL`: no cursor emulation; the adapter's memory; the mode was set without clearing the screen."""

VGA_ACTIVE, NO_PALETTE, LINES_400, SWITCHABLE, LINES_200 = 1 << 0, 1 << 3, 1 << 4, 1 << 6, 1 << 7
"""Of `VIDEO_SWITCHES`. `NO_PALETTE`: mode sets leave the palette alone; without a bit for lines there are 350."""

VIDEO_DIP_SWITCHES = 0x9
"""The low half of `VIDEO_FEATURES`: the switches of an EGA with an enhanced colour display."""

VGA_WITH_COLOUR = 0x08
"""Of `DISPLAY_CODE`."""

ENHANCED_KEYBOARD = 1 << 4
"""Of `KEYBOARD_FLAGS`: 101 keys."""

UPPER_FONT, GRAPHICS_FONT = 4 * 0x1F, 4 * 0x43
"""Interrupt vectors that point at fonts for graphics modes: of characters 128 to 255 in CGA modes, and of all."""

END = 0x500
USABLE = 1


class Bda:
    """Fields by guest-physical address, in bytes, words and double words."""

    def __init__(self, memory: Dma) -> None:
        self.memory = memory

    def byte(self, address: int) -> int:
        """The byte at ``address``."""
        return self.memory.read(address, 1)[0]

    def word(self, address: int) -> int:
        """The 16-bit word at ``address``."""
        return int.from_bytes(self.memory.read(address, 2), "little")

    def dword(self, address: int) -> int:
        """The 32-bit word at ``address``."""
        return int.from_bytes(self.memory.read(address, 4), "little")

    def set_byte(self, address: int, value: int) -> None:
        """Store the low 8 bits of ``value``."""
        self.memory.write(address, bytes([value & 0xFF]))

    def set_word(self, address: int, value: int) -> None:
        """Store the low 16 bits of ``value``."""
        self.memory.write(address, struct.pack("<H", value & 0xFFFF))

    def set_dword(self, address: int, value: int) -> None:
        """Store the low 32 bits of ``value``."""
        self.memory.write(address, struct.pack("<I", value & 0xFFFFFFFF))

    def power_on(self, memory_map: Sequence[tuple[int, int, int]]) -> None:
        """An 80 by 25 colour screen and a 101-key keyboard; serial ports and drives are added later."""
        self.memory.write(COM_PORTS, bytes(END - COM_PORTS))
        conventional = conventional_kib(memory_map)
        self.set_word(EBDA_SEGMENT, conventional * 64 if conventional < 640 else 0)
        self.set_word(EQUIPMENT, EQUIPMENT_FPU | EQUIPMENT_COLOUR_80)
        self.set_word(MEMORY_KIB, conventional)
        for address in (KEY_HEAD, KEY_TAIL, KEY_BUFFER_START):
            self.set_word(address, KEY_BUFFER - 0x400)
        self.set_word(KEY_BUFFER_END, KEY_BUFFER - 0x400 + 32)
        self.set_byte(KEYBOARD_FLAGS, ENHANCED_KEYBOARD)
        self.set_word(CRTC_PORT, 0x3D4)


def conventional_kib(memory_map: Sequence[tuple[int, int, int]]) -> int:
    """KiB of usable memory from address 0, at most 640."""
    return min(_reach(memory_map, 0), 0xA0000) >> 10


def extended_bytes(memory_map: Sequence[tuple[int, int, int]]) -> int:
    """Bytes of usable memory from 1 MiB up to the first hole."""
    return _reach(memory_map, 1 << 20) - (1 << 20)


def _reach(memory_map: Sequence[tuple[int, int, int]], start: int) -> int:
    for base, size, kind in sorted(memory_map):
        if kind == USABLE and base <= start < base + size:
            start = base + size
    return start
