"""The video BIOS's ROM at C000:0000: fonts, and the tables that VBE hands out. No code of it runs.

Source: IBM PS/2 and PC BIOS Interface Technical Reference, "ROM scan"; VESA BIOS Extension 3.0, 4.3 "Function 00h".
"""

from __future__ import annotations

import struct
from functools import cache

from hypervisor.arch.font import font
from hypervisor.bus import Dma
from hypervisor.firmware.bios import bda

SEGMENT = 0xC000
BASE = SEGMENT << 4
FONT_AT = {16: 0x0100, 14: 0x1100, 8: 0x1F00}
"""Offset of each font in the segment, by height."""
ALTERNATES = 0x2700
"""An empty table of characters that look different in 9 dots."""
STRINGS = {"oem": 0x2710, "vendor": 0x2730, "product": 0x2750, "revision": 0x2770}
TEXTS = {"oem": b"rootmode VGA", "vendor": b"rootmode", "product": b"VGA with Bochs display", "revision": b"1"}
SIZE = 0x2800
IDENTITY = 0x1E, b"IBM VGA compatible"
"""Where programs look for a VGA's BIOS."""


@cache
def contents() -> bytes:
    """The ROM; its bytes add up to 0."""
    rom = bytearray(SIZE)
    rom[:6] = b"\x55\xaa" + bytes((SIZE // 512,)) + b"\xcb\0\0"  # retf: there is nothing to initialize
    parts = [(IDENTITY[0], IDENTITY[1])]
    parts += [(at, font(height).data) for height, at in FONT_AT.items()]
    parts += [(STRINGS[name], text) for name, text in TEXTS.items()]
    for at, data in parts:
        rom[at : at + len(data)] = data
    rom[-1] = -sum(rom) & 0xFF
    return bytes(rom)


def install(memory: Dma) -> None:
    """Write the ROM, and let INT 1Fh and INT 43h point at the fonts for graphics modes."""
    memory.write(BASE, contents())
    memory.write(bda.UPPER_FONT, struct.pack("<HH", FONT_AT[8] + 128 * 8, SEGMENT))
    set_graphics_font(memory, 16)


def set_graphics_font(memory: Dma, height: int) -> None:
    """Point INT 43h at the font of this height."""
    memory.write(bda.GRAPHICS_FONT, struct.pack("<HH", FONT_AT[height], SEGMENT))
