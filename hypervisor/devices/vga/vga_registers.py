"""The VGA's registers as data.

Source: IBM PS/2 Hardware Interface Technical Reference, "Video subsystem" (general, sequencer, CRT controller,
graphics controller, attribute controller and DAC registers). Offsets of ports count from 3B0h.
"""

from __future__ import annotations

from typing import NamedTuple

from hypervisor.devices.parts.common import Register

PORT_BASE = 0x3B0
SIZE = 0x30
"""Bytes of the port window (3B0h to 3DFh); a board maps the parts of it that are VGA registers."""

PORTS = (
    Register(0x04, "CRTC_INDEX_MONO", "rw", "3b4h, while miscellaneous output bit 0 is clear"),
    Register(0x05, "CRTC_DATA_MONO", "rw", "3b5h, likewise"),
    Register(0x0A, "STATUS_1_MONO", "r", "3bah, likewise"),
    Register(0x10, "ATTRIBUTE", "rw", "3c0h: index, then data, by a flip-flop; reads the index"),
    Register(0x11, "ATTRIBUTE_DATA", "r", "3c1h: the attribute register at the index"),
    Register(0x12, "MISC_OUTPUT", "w", "3c2h"),
    Register(0x12, "STATUS_0", "r", "3c2h"),
    Register(0x13, "ENABLE", "rw", "3c3h: bit 0 lets the adapter answer (kept, not acted on)"),
    Register(0x14, "SEQUENCER_INDEX", "rw", "3c4h"),
    Register(0x15, "SEQUENCER_DATA", "rw", "3c5h"),
    Register(0x16, "DAC_MASK", "rw", "3c6h"),
    Register(0x17, "DAC_READ_INDEX", "rw", "3c7h; reads 3 in read mode, 0 in write mode"),
    Register(0x18, "DAC_WRITE_INDEX", "rw", "3c8h"),
    Register(0x19, "DAC_DATA", "rw", "3c9h: red, green, blue in turn, 6 bits (8 if the Bochs registers say so)"),
    Register(0x1A, "FEATURE", "r", "3cah: feature control"),
    Register(0x1C, "MISC_OUTPUT_READ", "r", "3cch"),
    Register(0x1E, "GRAPHICS_INDEX", "rw", "3ceh"),
    Register(0x1F, "GRAPHICS_DATA", "rw", "3cfh"),
    Register(0x24, "CRTC_INDEX", "rw", "3d4h, while miscellaneous output bit 0 is set"),
    Register(0x25, "CRTC_DATA", "rw", "3d5h, likewise"),
    Register(0x2A, "STATUS_1", "r", "3dah, likewise: retrace; resets the flip-flop. Writes feature control"),
)


class Field(NamedTuple):
    """Bits of one indexed register."""

    register: int
    shift: int
    bits: int

    def of(self, registers: bytes | bytearray) -> int:
        """The field's value."""
        return registers[self.register] >> self.shift & (1 << self.bits) - 1


MISC_COLOUR, MISC_RAM = 1 << 0, 1 << 1
"""Miscellaneous output: the CRTC is at 3dxh; the processor reaches the memory."""
MISC_CLOCK_SHIFT = 2
DOT_KHZ = (25_175, 28_322, 25_175, 25_175)
"""The dot clock by miscellaneous output bits 3 and 2."""

SEQUENCER_BITS = bytes.fromhex("03 3d 0f 3f 0e")
"""Which bits of each sequencer register exist."""
SEQ_RESET, SEQ_CLOCKING, SEQ_MAP_MASK, SEQ_FONTS, SEQ_MEMORY = range(5)
SEQ_EIGHT_DOTS = Field(SEQ_CLOCKING, 0, 1)
SEQ_HALF_CLOCK = Field(SEQ_CLOCKING, 3, 1)
SEQ_SCREEN_OFF = Field(SEQ_CLOCKING, 5, 1)
SEQ_MASK = Field(SEQ_MAP_MASK, 0, 4)
SEQ_FONT_B, SEQ_FONT_B_HIGH = Field(SEQ_FONTS, 0, 2), Field(SEQ_FONTS, 4, 1)
SEQ_FONT_A, SEQ_FONT_A_HIGH = Field(SEQ_FONTS, 2, 2), Field(SEQ_FONTS, 5, 1)
SEQ_SEQUENTIAL = Field(SEQ_MEMORY, 2, 1)
"""Clear: even addresses are planes 0 and 2, odd ones 1 and 3."""
SEQ_CHAIN_4 = Field(SEQ_MEMORY, 3, 1)

CRTC_COUNT = 25
(CRTC_H_TOTAL, CRTC_H_SHOWN, CRTC_H_BLANK, CRTC_H_BLANK_END, CRTC_H_RETRACE, CRTC_H_RETRACE_END) = range(6)
CRTC_V_TOTAL, CRTC_OVERFLOW, CRTC_PRESET, CRTC_MAX_SCAN, CRTC_CURSOR_START, CRTC_CURSOR_END = range(6, 12)
CRTC_START_HIGH, CRTC_START_LOW, CRTC_CURSOR_HIGH, CRTC_CURSOR_LOW = range(12, 16)
CRTC_V_RETRACE, CRTC_V_RETRACE_END, CRTC_V_SHOWN, CRTC_OFFSET, CRTC_UNDERLINE = range(16, 21)
CRTC_V_BLANK, CRTC_V_BLANK_END, CRTC_MODE, CRTC_LINE_COMPARE = range(21, 25)
CRTC_PROTECT = Field(CRTC_V_RETRACE_END, 7, 1)
CRTC_ROW_LINES = Field(CRTC_MAX_SCAN, 0, 5)
CRTC_DOUBLE_SCAN = Field(CRTC_MAX_SCAN, 7, 1)
CRTC_CURSOR_OFF = Field(CRTC_CURSOR_START, 5, 1)
CRTC_CURSOR_TOP = Field(CRTC_CURSOR_START, 0, 5)
CRTC_CURSOR_BOTTOM = Field(CRTC_CURSOR_END, 0, 5)
CRTC_UNDERLINE_AT = Field(CRTC_UNDERLINE, 0, 5)
CRTC_ROW_SCAN_BIT_0 = Field(CRTC_MODE, 0, 1)
"""Clear: address bit 13 is the row scan counter's bit 0 (CGA graphics: odd lines lie 8 KiB higher)."""
CRTC_BYTES = Field(CRTC_MODE, 6, 1)
"""The address counter counts bytes of a plane, not words."""

GRAPHICS_BITS = bytes.fromhex("0f 0f 0f 1f 03 7b 0f 0f ff")
"""Which bits of each graphics register exist."""
(GR_SET_RESET, GR_ENABLE_SET_RESET, GR_COMPARE, GR_ROTATE, GR_READ_MAP, GR_MODE, GR_MISC, GR_DONT_CARE, GR_BIT_MASK) = (
    range(9)
)
GR_WRITE_MODE = Field(GR_MODE, 0, 2)
GR_READ_MODE = Field(GR_MODE, 3, 1)
GR_ODD_EVEN = Field(GR_MODE, 4, 1)
GR_SHIFT_CGA = Field(GR_MODE, 5, 1)
GR_SHIFT_256 = Field(GR_MODE, 6, 1)
GR_GRAPHICS = Field(GR_MISC, 0, 1)
GR_MEMORY_MAP = Field(GR_MISC, 2, 2)
MEMORY_MAPS = (range(0x00000, 0x20000), range(0x00000, 0x10000), range(0x10000, 0x18000), range(0x18000, 0x20000))
"""Where the memory answers, by `GR_MEMORY_MAP`, counted from A0000h."""

ATTRIBUTE_BITS = bytes([*[0x3F] * 16, 0xEF, 0xFF, 0x3F, 0x0F, 0x0F])
"""Which bits of each attribute register exist."""
AR_MODE, AR_OVERSCAN, AR_PLANES, AR_PANNING, AR_COLOUR_SELECT = range(16, 21)
AR_MONOCHROME = Field(AR_MODE, 1, 1)
AR_LINE_GRAPHICS = Field(AR_MODE, 2, 1)
AR_BLINK = Field(AR_MODE, 3, 1)
AR_SPLIT_KEEPS_PANNING = Field(AR_MODE, 5, 1)
AR_COLOUR_SELECT_LOW = Field(AR_MODE, 7, 1)
AR_INDEX_BITS = 0x3F
AR_INDEX_SHOW = 0x20
"""Of the index: the palette belongs to the screen. Clear while a guest loads it, with the screen blank."""

STATUS_BLANK, STATUS_RETRACE = 0x01, 0x08
STATUS_0 = 0x10
"""Input status 0: a monitor is there."""


def scan_count(crtc: bytes | bytearray, register: int, eighth: int, ninth: int) -> int:
    """A 10-bit vertical value: ``register`` with bits ``eighth`` and ``ninth`` of the overflow register."""
    overflow = crtc[CRTC_OVERFLOW]
    return crtc[register] | (overflow >> eighth & 1) << 8 | (overflow >> ninth & 1) << 9


def line_compare(crtc: bytes | bytearray) -> int:
    """The scan line after which the display restarts at address 0 (1023: never)."""
    return crtc[CRTC_LINE_COMPARE] | (crtc[CRTC_OVERFLOW] >> 4 & 1) << 8 | (crtc[CRTC_MAX_SCAN] >> 6 & 1) << 9
