"""The screen of a text mode as characters, attributes and a cursor."""

from __future__ import annotations

from typing import NamedTuple

from hypervisor.arch.font import CP437
from hypervisor.devices.vga import mode_geometry
from hypervisor.devices.vga import vga_registers as r
from hypervisor.devices.vga.adapter import Vga
from hypervisor.devices.vga.video_memory import CELLS, TEXT_CELLS
from hypervisor.devices.vga.window import Kind

_UNICODE = {code: character for code, character in enumerate(CP437)}


class Row(NamedTuple):
    """One row of text, a byte a cell."""

    characters: bytes
    """In code page 437."""
    attributes: bytes

    @property
    def text(self) -> str:
        """Its characters, trailing blanks included."""
        return self.characters.decode("latin-1").translate(_UNICODE)


def rows(vga: Vga) -> list[Row]:
    """The rows of a text mode; none in a graphics mode, or while the screen is blank."""
    mode = mode_geometry.mode(vga)
    if mode.kind != "text" or mode_geometry.blank(vga):
        return []
    first, step = mode_geometry.start(vga), mode_geometry.pitch(vga)
    height = mode.cell_height << r.CRTC_DOUBLE_SCAN.of(vga.registers.crtc)
    split = r.line_compare(vga.registers.crtc) // height + 1
    starts = [first + row * step if row < split else (row - split) * step for row in range(mode.rows)]
    return [_row(vga, at % CELLS, mode.columns) for at in starts]


def _row(vga: Vga, at: int, columns: int) -> Row:
    if vga.window.kind is Kind.TEXT and at + columns <= TEXT_CELLS:
        cells = vga.memory.text.read(2 * at, 2 * columns)
        return Row(cells[::2], cells[1::2])
    vga.leave_text()
    return Row(vga.memory.plane(0, at, columns), vga.memory.plane(1, at, columns))


def text(vga: Vga) -> str:
    """The screen: its rows without blanks at their ends, joined by newlines; empty in a graphics mode."""
    return "\n".join(row.text.rstrip() for row in rows(vga))


def fingerprint(vga: Vga) -> tuple[bytes, ...]:
    """Equal to an earlier one while the text is the same: much cheaper than the text itself."""
    s = vga.registers
    if vga.window.kind is not Kind.TEXT:
        return (b"", *(row.characters for row in rows(vga)))
    crtc = s.crtc
    lines, each = r.scan_count(crtc, r.CRTC_V_SHOWN, 1, 6) + 1, r.CRTC_ROW_LINES.of(crtc) + 1
    first = crtc[r.CRTC_START_HIGH] << 8 | crtc[r.CRTC_START_LOW]
    end = first + (lines // each + 1) * max(2 * crtc[r.CRTC_OFFSET], crtc[r.CRTC_H_SHOWN] + 1)
    if end > TEXT_CELLS:
        first, end = 0, TEXT_CELLS
    return vga.memory.text.read(2 * first, 2 * (end - first)), bytes(crtc), bytes((s.attribute_index, s.sequencer[1]))


def cursor(vga: Vga) -> tuple[int, int] | None:
    """Row and column of the cursor, from 0; None where it is hidden, off the screen, or in a graphics mode."""
    mode = mode_geometry.mode(vga)
    crtc = vga.registers.crtc
    if mode.kind != "text" or r.CRTC_CURSOR_OFF.of(crtc):
        return None
    if r.CRTC_CURSOR_TOP.of(crtc) > r.CRTC_CURSOR_BOTTOM.of(crtc) or r.CRTC_CURSOR_TOP.of(crtc) >= mode.cell_height:
        return None
    position = (crtc[r.CRTC_CURSOR_HIGH] << 8 | crtc[r.CRTC_CURSOR_LOW]) - mode_geometry.start(vga)
    row, column = divmod(position, mode_geometry.pitch(vga) or mode.columns)
    return (row, column) if 0 <= row < mode.rows and column < mode.columns else None
