"""The display adapter as the video BIOS reaches it: registers through ports, planes through the frame buffer.

The linear frame buffer (PCI 1234h:1111h, base address 0) begins with the VGA's planes, four bytes a cell, so what a
BIOS writes to the planes it can write there at once. Sources: IBM PS/2 Hardware Interface Technical Reference, "Video
subsystem"; QEMU docs/specs/standard-vga.
"""

from __future__ import annotations

from hypervisor.arch.font import Font
from hypervisor.arch.vga_modes import ModeRegisters, dac
from hypervisor.bus import Dma
from hypervisor.firmware.bios import pci_bios as pci
from hypervisor.firmware.bios.call import Ports

PCI_ID, BASE_ADDRESS = 0x11111234, 0x10
FRAME_BUFFER = 0xFD000000
"""Where it is on a board without PCI."""
DISPI_INDEX, DISPI_DATA = 0x1CE, 0x1CF
DISPI_ID, DISPI_WIDTH, DISPI_HEIGHT, DISPI_BITS, DISPI_ENABLE, DISPI_BANK, DISPI_VIRTUAL_WIDTH = range(7)
DISPI_X, DISPI_Y, DISPI_MEMORY = 8, 9, 10
DISPI_VERSIONS = range(0xB0C0, 0xB0D0)
DISPI_ENABLED, DISPI_EIGHT_BITS, DISPI_LINEAR, DISPI_KEEP = 0x01, 0x20, 0x40, 0x80
MISC, MISC_READ, SEQUENCER, DAC_MASK, DAC_READ, DAC_WRITE, DAC_DATA = 0x3C2, 0x3CC, 0x3C4, 0x3C6, 0x3C7, 0x3C8, 0x3C9
GRAPHICS, ATTRIBUTE, ATTRIBUTE_READ = 0x3CE, 0x3C0, 0x3C1
CRTC_COLOUR, CRTC_MONO = 0x3D4, 0x3B4
CRTC_MAX_SCAN, CRTC_CURSOR_SHAPE, CRTC_START, CRTC_CURSOR = 0x09, 0x0A, 0x0C, 0x0E
CRTC_RETRACE_END = 0x11
SHOW = 0x20
GLYPH_ROOM = 32
FONT_PLANE = 2
FONT_BLOCKS = (0x0000, 0x4000, 0x8000, 0xC000, 0x2000, 0x6000, 0xA000, 0xE000)
"""Where the eight fonts begin in plane 2."""


class Adapter:
    """Ports and frame buffer of the adapter; without ``ports`` nothing is set, and nothing answers."""

    def __init__(self, memory: Dma, ports: Ports | None) -> None:
        self.memory = memory
        self.ports = ports
        self.function: int | None = None

    def _in(self, port: int, size: int = 1) -> int:
        return (1 << 8 * size) - 1 if self.ports is None else self.ports.read(port, size)

    def _out(self, port: int, value: int, size: int = 1) -> None:
        if self.ports is not None:
            self.ports.write(port, size, value)

    # ---- indexed registers

    @property
    def crtc_port(self) -> int:
        """The CRTC's index port: 3D4h, or 3B4h in monochrome modes."""
        return CRTC_COLOUR if self._in(MISC_READ) & 1 else CRTC_MONO

    def get(self, port: int, index: int) -> int:
        """Register ``index`` behind the index port ``port``."""
        self._out(port, index)
        return self._in(port + 1)

    def set(self, port: int, index: int, value: int) -> None:
        """Write register ``index`` behind the index port ``port``."""
        self._out(port, index)
        self._out(port + 1, value & 0xFF)

    def crtc(self, index: int, value: int) -> None:
        """A 16-bit value into the CRTC registers ``index`` (high byte) and ``index`` + 1."""
        port = self.crtc_port
        self.set(port, index, value >> 8)
        self.set(port, index + 1, value)

    def attribute(self, index: int, value: int) -> None:
        """Write an attribute register, with the screen on."""
        self._in(self.crtc_port + 6)
        self._out(ATTRIBUTE, index | SHOW)
        self._out(ATTRIBUTE, value & 0xFF)

    def get_attribute(self, index: int) -> int:
        """An attribute register."""
        self._in(self.crtc_port + 6)
        self._out(ATTRIBUTE, index | SHOW)
        value = self._in(ATTRIBUTE_READ)
        self._in(self.crtc_port + 6)
        return value

    # ---- colours

    def set_dac(self, first: int, levels: bytes) -> None:
        """Entries of the DAC from ``first`` on: red, green, blue, 6 bits each."""
        self._out(DAC_WRITE, first & 0xFF)
        for level in levels:
            self._out(DAC_DATA, level)

    def get_dac(self, first: int, count: int) -> bytes:
        """``count`` entries of the DAC."""
        self._out(DAC_READ, first & 0xFF)
        return bytes(self._in(DAC_DATA) for _ in range(3 * count))

    def dac_mask(self, value: int | None = None) -> int:
        """The DAC's pixel mask; written, if ``value`` is given."""
        if value is not None:
            self._out(DAC_MASK, value & 0xFF)
        return self._in(DAC_MASK)

    # ---- modes

    def set_mode(self, mode: ModeRegisters, *, clear: bool, palette: bool = True) -> None:
        """All registers of a mode; ``clear`` zeroes the planes first, ``palette`` loads the mode's colours."""
        self.dispi(DISPI_ENABLE, 0)
        if clear:
            self._clear_planes()
        self._out(MISC, mode.misc)
        for index, value in enumerate(b"\x03" + mode.sequencer[1:]):
            self.set(SEQUENCER, index, value)
        port = CRTC_COLOUR if mode.misc & 1 else CRTC_MONO
        self.set(port, CRTC_RETRACE_END, mode.crtc[CRTC_RETRACE_END] & 0x7F)  # which unlocks registers 0 to 7
        for index, value in enumerate(mode.crtc):
            self.set(port, index, value)
        for index, value in enumerate(mode.graphics):
            self.set(GRAPHICS, index, value)
        if palette:
            self.dac_mask(0xFF)
            self.set_dac(0, dac(mode.palette))
            for index, value in enumerate(mode.attribute):
                self.attribute(index, value)
        else:
            for index, value in enumerate(mode.attribute[0x10:], 0x10):
                self.attribute(index, value)

    def _clear_planes(self) -> None:
        """Zero all four planes: the Bochs interface clears what it is going to show, here 512 by 512 bytes."""
        if self.has_dispi:
            for index, value in ((DISPI_WIDTH, 512), (DISPI_HEIGHT, 512), (DISPI_BITS, 8), (DISPI_ENABLE, 1)):
                self.dispi(index, value)
            self.dispi(DISPI_ENABLE, 0)

    # ---- the Bochs interface

    @property
    def has_dispi(self) -> bool:
        """Whether the adapter has linear modes."""
        return self.get_dispi(DISPI_ID) in DISPI_VERSIONS

    def dispi(self, index: int, value: int) -> None:
        """Write a register of the Bochs interface."""
        self._out(DISPI_INDEX, index, 2)
        self._out(DISPI_DATA, value & 0xFFFF, 2)

    def get_dispi(self, index: int) -> int:
        """A register of the Bochs interface."""
        self._out(DISPI_INDEX, index, 2)
        return self._in(DISPI_DATA, 2)

    # ---- memory

    @property
    def frame_buffer(self) -> int:
        """The guest-physical address of the linear frame buffer, as its PCI function says it."""
        ports = self.ports
        if ports is None:
            return FRAME_BUFFER
        before = ports.read(pci.ADDRESS, 4)
        try:
            if self.function is None:
                slots = range(0, 32 << 3, 1 << 3)
                self.function = next((slot for slot in slots if pci.read_config(ports, slot, 0, 4) == PCI_ID), -1)
            if self.function < 0:
                return FRAME_BUFFER
            return pci.read_config(ports, self.function, BASE_ADDRESS, 4) & ~0xF
        finally:
            ports.write(pci.ADDRESS, 4, before)  # the guest may be between its own two accesses

    def load_font(self, font: Font, block: int, first: int = 0, count: int = 256) -> None:
        """Store ``count`` characters into plane 2 from character ``first`` of font ``block`` (0 to 7) on."""
        room = font.rooms(GLYPH_ROOM)[: min(count, 256 - first) * GLYPH_ROOM]
        at = self.frame_buffer + 4 * (FONT_BLOCKS[block & 7] + first * GLYPH_ROOM)
        cells = bytearray(self.memory.read(at, 4 * len(room)))
        cells[FONT_PLANE::4] = room
        self.memory.write(at, bytes(cells))
