"""The display adapter in text mode: the VGA's registers, and the screen as text.

Source: IBM PS/2 Hardware Interface Technical Reference, "Video subsystem" (VGA function, registers). Only text: the
registers are register files that guests can write and read back; what they do is limited to the screen's start
address, the cursor and the retrace bits. The colour addresses (3d4h, 3dah) answer whatever the miscellaneous output
register says.

The characters are in ordinary guest memory at b8000h. Power-on state is mode 3 (80 by 25, 9 by 16 dots, 70 Hz), as
firmware leaves it.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

from hypervisor.bus import Clock, Dma
from hypervisor.devices._parts import ByteDevice, Register, all_ones, nothing
from hypervisor.devices._state import adopt, data, flag, number, u8

SIZE = 32
"""Bytes of the register window (ports 3c0h-3dfh)."""

REGISTERS = (
    Register(0x00, "ATTRIBUTE", "rw", "3c0h: index, then data, by a flip-flop; reads the index"),
    Register(0x01, "ATTRIBUTE_DATA", "r", "3c1h: the attribute register at the index"),
    Register(0x02, "MISC_OUTPUT", "w", "3c2h; reads input status 0"),
    Register(0x04, "SEQUENCER_INDEX", "rw", "3c4h"),
    Register(0x05, "SEQUENCER_DATA", "rw", "3c5h"),
    Register(0x06, "DAC_MASK", "rw", "3c6h"),
    Register(0x07, "DAC_READ_INDEX", "rw", "3c7h; reads 3 in read mode, 0 in write mode"),
    Register(0x08, "DAC_WRITE_INDEX", "rw", "3c8h"),
    Register(0x09, "DAC_DATA", "rw", "3c9h: red, green, blue in turn, 6 bits"),
    Register(0x0A, "FEATURE", "r", "3cah: feature control"),
    Register(0x0C, "MISC_OUTPUT_READ", "r", "3cch"),
    Register(0x0E, "GRAPHICS_INDEX", "rw", "3ceh"),
    Register(0x0F, "GRAPHICS_DATA", "rw", "3cfh"),
    Register(0x14, "CRTC_INDEX", "rw", "3d4h"),
    Register(0x15, "CRTC_DATA", "rw", "3d5h"),
    Register(0x1A, "INPUT_STATUS_1", "r", "3dah: retrace; resets the flip-flop. Writes feature control"),
)

CRTC_MODE_3 = bytes.fromhex("5f4f50825581bf1f004f0d0e000000009c8e8f281f96b9a3ff")
SEQUENCER_MODE_3 = bytes.fromhex("0300030002")
GRAPHICS_MODE_3 = bytes.fromhex("0000000000100e00ff")
ATTRIBUTE_MODE_3 = bytes.fromhex("000102030405140738393a3b3c3d3e3f0c000f0800")
MISC_MODE_3 = 0x67
CRTC_START_HIGH, CRTC_START_LOW, CRTC_CURSOR_HIGH, CRTC_CURSOR_LOW, CRTC_PROTECT, CRTC_OFFSET = 12, 13, 14, 15, 17, 19
ATTRIBUTE_INDEX = 0x3F
STATUS_BLANK, STATUS_RETRACE = 0x01, 0x08

DOT_KHZ = 28_322
"""The dot clock of mode 3."""
LINE_DOTS, SHOWN_DOTS = 900, 720
FRAME_LINES, SHOWN_LINES = 449, 400
RETRACE_LINES = range(412, 414)

TEXT_BASE, TEXT_SIZE = 0xB8000, 0x8000
COLUMNS, ROWS = 80, 25

CP437 = (
    " ☺☻♥♦♣♠•◘○◙♂♀♪♫☼►◄↕‼¶§▬↨↑↓→←∟↔▲▼"
    + bytes(range(32, 127)).decode("ascii")
    + "⌂"
    + bytes(range(128, 256)).decode("cp437")
)
"""The glyphs of code page 437; character 0 is blank."""


@dataclass(slots=True)
class VgaTextState:
    """All that the adapter remembers (the screen is guest memory)."""

    crtc: bytearray = field(default_factory=lambda: bytearray(CRTC_MODE_3), metadata=data(len(CRTC_MODE_3), exact=True))
    sequencer: bytearray = field(
        default_factory=lambda: bytearray(SEQUENCER_MODE_3), metadata=data(len(SEQUENCER_MODE_3), exact=True)
    )
    graphics: bytearray = field(
        default_factory=lambda: bytearray(GRAPHICS_MODE_3), metadata=data(len(GRAPHICS_MODE_3), exact=True)
    )
    attribute: bytearray = field(
        default_factory=lambda: bytearray(ATTRIBUTE_MODE_3), metadata=data(len(ATTRIBUTE_MODE_3), exact=True)
    )
    palette: bytearray = field(default_factory=lambda: bytearray(768), metadata=data(768, exact=True))
    crtc_index: int = u8()
    sequencer_index: int = u8()
    graphics_index: int = u8()
    attribute_index: int = u8(0x20)
    attribute_data_next: bool = flag()
    misc: int = u8(MISC_MODE_3)
    feature: int = u8()
    dac_mask: int = u8(0xFF)
    dac_at: int = number(0, 767)
    dac_reading: bool = flag()


class VgaText(ByteDevice):
    """The adapter at ports 3c0h-3dfh; ``memory`` is where `text` reads the screen."""

    def __init__(self, memory: Dma, clock: Clock, name: str = "vga") -> None:
        self.name = name
        self.memory = memory
        self.clock = clock
        self._s = VgaTextState()
        self._readers = [all_ones] * SIZE
        self._writers = [nothing] * SIZE
        for offset, reader in {
            0x00: lambda: self._s.attribute_index,
            0x01: lambda: _at(self._s.attribute, self._s.attribute_index & 0x1F),
            0x02: lambda: 0x10,  # a monitor is there
            0x04: lambda: self._s.sequencer_index,
            0x05: lambda: _at(self._s.sequencer, self._s.sequencer_index),
            0x06: lambda: self._s.dac_mask,
            0x07: lambda: 3 if self._s.dac_reading else 0,
            0x08: lambda: self._s.dac_at // 3,
            0x09: self._read_dac,
            0x0A: lambda: self._s.feature,
            0x0C: lambda: self._s.misc,
            0x0E: lambda: self._s.graphics_index,
            0x0F: lambda: _at(self._s.graphics, self._s.graphics_index),
            0x14: lambda: self._s.crtc_index,
            0x15: lambda: _at(self._s.crtc, self._s.crtc_index),
            0x1A: self._read_status,
        }.items():
            self._readers[offset] = reader
        for offset, writer in {
            0x00: self._write_attribute,
            0x02: lambda value: setattr(self._s, "misc", value),
            0x04: lambda value: setattr(self._s, "sequencer_index", value),
            0x05: lambda value: _put(self._s.sequencer, self._s.sequencer_index, value),
            0x06: lambda value: setattr(self._s, "dac_mask", value),
            0x07: lambda value: self._seek_dac(value, True),
            0x08: lambda value: self._seek_dac(value, False),
            0x09: self._write_dac,
            0x0E: lambda value: setattr(self._s, "graphics_index", value),
            0x0F: lambda value: _put(self._s.graphics, self._s.graphics_index, value),
            0x14: lambda value: setattr(self._s, "crtc_index", value),
            0x15: self._write_crtc,
            0x1A: lambda value: setattr(self._s, "feature", value),
        }.items():
            self._writers[offset] = writer

    # ---- host side

    @property
    def start(self) -> int:
        """The first character shown, counted from b8000h in characters."""
        return self._s.crtc[CRTC_START_HIGH] << 8 | self._s.crtc[CRTC_START_LOW]

    @property
    def cursor(self) -> tuple[int, int]:
        """Row and column of the cursor, from 0; outside the screen when the guest hides it there."""
        position = (self._s.crtc[CRTC_CURSOR_HIGH] << 8 | self._s.crtc[CRTC_CURSOR_LOW]) - self.start
        return divmod(position, self._pitch())

    def text(self) -> str:
        """The screen: 25 lines of up to 80 characters, without blanks at their ends, joined by newlines."""
        memory = self.memory.read(TEXT_BASE, TEXT_SIZE)
        lines = []
        for row in range(ROWS):
            first = (self.start + row * self._pitch()) * 2
            cells = (memory[(first + 2 * column) % TEXT_SIZE] for column in range(COLUMNS))
            lines.append("".join(CP437[cell] for cell in cells).rstrip())
        return "\n".join(lines)

    def _pitch(self) -> int:
        """Characters from one row to the next."""
        return self._s.crtc[CRTC_OFFSET] * 2 or COLUMNS

    # ---- device contract

    def reset(self) -> None:
        """Mode 3, as firmware leaves it; the screen's memory is not touched."""
        self._s = VgaTextState()

    def state(self) -> VgaTextState:
        """A copy of all mutable state."""
        return copy.deepcopy(self._s)

    def restore(self, state: VgaTextState) -> None:
        """Take over ``state``; raises `DeviceError` if it is not one of this device."""
        self._s = adopt(self.name, VgaTextState, state)

    # ---- registers

    def _read_status(self) -> int:
        """Input status 1: where the beam is, by the clock."""
        self._s.attribute_data_next = False
        dot = self.clock.now_ns * DOT_KHZ // 1_000_000 % (LINE_DOTS * FRAME_LINES)
        line, column = divmod(dot, LINE_DOTS)
        status = STATUS_BLANK if line >= SHOWN_LINES or column >= SHOWN_DOTS else 0
        return status | STATUS_RETRACE if line in RETRACE_LINES else status

    def _write_attribute(self, value: int) -> None:
        s = self._s
        if s.attribute_data_next:
            _put(s.attribute, s.attribute_index & 0x1F, value)
        else:
            s.attribute_index = value & ATTRIBUTE_INDEX
        s.attribute_data_next = not s.attribute_data_next

    def _write_crtc(self, value: int) -> None:
        crtc, index = self._s.crtc, self._s.crtc_index
        if index < 8 and crtc[CRTC_PROTECT] & 0x80:
            if index == 7:  # only the line compare bit is not protected
                crtc[7] = crtc[7] & ~0x10 | value & 0x10
            return
        _put(crtc, index, value)

    def _seek_dac(self, index: int, reading: bool) -> None:
        self._s.dac_at, self._s.dac_reading = index * 3, reading

    def _read_dac(self) -> int:
        s = self._s
        value = s.palette[s.dac_at]
        s.dac_at = (s.dac_at + 1) % 768
        return value

    def _write_dac(self, value: int) -> None:
        s = self._s
        s.palette[s.dac_at] = value & 0x3F
        s.dac_at = (s.dac_at + 1) % 768


def _at(registers: bytearray, index: int) -> int:
    """The register at ``index``; what is not there reads as zero."""
    return registers[index] if index < len(registers) else 0


def _put(registers: bytearray, index: int, value: int) -> None:
    if index < len(registers):
        registers[index] = value
