"""What the registers put on the screen: text or graphics, its size, and where it lies in the memory."""

from __future__ import annotations

from typing import NamedTuple

from hypervisor.devices.vga import vga_registers as r
from hypervisor.devices.vga.adapter import Vga


class Mode(NamedTuple):
    """What is shown. ``str()`` names it, for example ``text 80x25`` or ``640x480x4``."""

    kind: str
    """``"text"``, ``"planar"`` (16 colours of four planes), ``"cga"`` (2-bit pixels), ``"256"`` (a byte a pixel) or
    ``"linear"`` (the Bochs interface)."""
    width: int
    """In pixels."""
    height: int
    """In pixels."""
    depth: int
    """Bits per pixel; 4 for text."""
    columns: int = 0
    """Of text; 0 in graphics modes."""
    rows: int = 0
    """Of text; 0 in graphics modes."""
    cell_width: int = 0
    """Of a character, in pixels."""
    cell_height: int = 0
    """Of a character, in pixels."""

    def __str__(self) -> str:
        return f"text {self.columns}x{self.rows}" if self.kind == "text" else f"{self.width}x{self.height}x{self.depth}"


def mode(vga: Vga) -> Mode:
    """What the adapter shows now. Pixels are the guest's: a pixel that the screen shows twice is one."""
    if vga.dispi.enabled:
        linear = vga.dispi.mode
        return Mode("linear", linear.width, linear.height, linear.depth)
    s = vga.registers
    characters = s.crtc[r.CRTC_H_SHOWN] + 1
    lines = r.scan_count(s.crtc, r.CRTC_V_SHOWN, 1, 6) + 1
    each = (r.CRTC_ROW_LINES.of(s.crtc) + 1) << r.CRTC_DOUBLE_SCAN.of(s.crtc)
    if not r.GR_GRAPHICS.of(s.graphics):
        height = r.CRTC_ROW_LINES.of(s.crtc) + 1
        rows = max(lines // each, 1)
        width = 8 if r.SEQ_EIGHT_DOTS.of(s.sequencer) else 9
        return Mode("text", characters * width, rows * height, 4, characters, rows, width, height)
    if r.GR_SHIFT_256.of(s.graphics):
        return Mode("256", characters * 4, max(lines // each, 1), 8)
    if r.GR_SHIFT_CGA.of(s.graphics):
        return Mode("cga", characters * 8, max(lines >> r.CRTC_DOUBLE_SCAN.of(s.crtc), 1), 2)
    scans = 1 << r.CRTC_DOUBLE_SCAN.of(s.crtc) if not r.CRTC_ROW_SCAN_BIT_0.of(s.crtc) else each
    return Mode("planar", characters * 8, max(lines // scans, 1), 4 if s.attribute[r.AR_PLANES] & 0xE else 1)


def start(vga: Vga) -> int:
    """The first cell shown."""
    return vga.registers.crtc[r.CRTC_START_HIGH] << 8 | vga.registers.crtc[r.CRTC_START_LOW]


def pitch(vga: Vga) -> int:
    """Cells from one row to the next."""
    return vga.registers.crtc[r.CRTC_OFFSET] * 2


def blank(vga: Vga) -> bool:
    """Whether the screen is dark, whatever the memory holds."""
    s = vga.registers
    return not s.attribute_index & r.AR_INDEX_SHOW or bool(r.SEQ_SCREEN_OFF.of(s.sequencer))
