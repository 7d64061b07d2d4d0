"""The screen as pixels. Imports numpy, so only who wants pixels imports this.

A character that blinks is shown, and so is the cursor: a picture does not depend on when it is taken.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hypervisor.devices.vga import mode_geometry, palette
from hypervisor.devices.vga import vga_registers as r
from hypervisor.devices.vga.adapter import GLYPH_ROOM, Vga
from hypervisor.devices.vga.mode_geometry import Mode
from hypervisor.devices.vga.text_mode import cursor, rows
from hypervisor.devices.vga.video_memory import CELLS, PLANES_SIZE

Bytes = NDArray[np.uint8]
Numbers = NDArray[np.intp]
FONT_PLANE = 2


def pixels(vga: Vga) -> Bytes:
    """The screen, height by width by 3 (red, green, blue)."""
    mode = mode_geometry.mode(vga)
    if mode.kind == "linear":
        return _linear(vga)
    if mode_geometry.blank(vga):
        return np.zeros((mode.height, mode.width, 3), np.uint8)
    vga.leave_text()
    if mode.kind == "text":
        return _colours(palette.attributes(vga))[_text(vga, mode)]
    if mode.kind == "256":
        return _colours(palette.dac(vga))[_bytes(vga, mode)]
    indices = _planar(vga, mode) if mode.kind == "planar" else _cga(vga, mode)
    return _colours(palette.attributes(vga))[indices]


def _colours(entries: list[palette.Colour]) -> Bytes:
    return np.array(entries, np.uint8)


def _cells(vga: Vga) -> Bytes:
    """The planes, 65536 by 4."""
    return np.frombuffer(vga.memory.vram.read(0, PLANES_SIZE), np.uint8).reshape(CELLS, 4)


# ---- text


def _text(vga: Vga, mode: Mode) -> Bytes:
    """The number of each pixel's colour."""
    s = vga.registers
    shown = rows(vga)
    characters = np.array([list(row.characters) for row in shown], np.intp)
    attributes = np.array([list(row.attributes) for row in shown], np.intp)
    fonts = _fonts(vga, mode.cell_height)
    high = attributes >> 3 & 1
    glyphs = fonts[high, characters]  # rows, columns, lines of a cell
    if r.AR_MONOCHROME.of(s.attribute):
        line = r.CRTC_UNDERLINE_AT.of(s.crtc)
        if line < mode.cell_height:
            glyphs[..., line][attributes & 7 == 1] = 0xFF
    dots = np.unpackbits(glyphs, axis=-1).reshape(*glyphs.shape, 8)
    if mode.cell_width == 9:
        ninth = np.zeros_like(dots[..., :1])
        if r.AR_LINE_GRAPHICS.of(s.attribute):
            runs_on = (characters >= 0xC0) & (characters <= 0xDF)
            ninth[runs_on] = dots[runs_on][..., 7:]
        dots = np.concatenate([dots, ninth], axis=-1)
    place = cursor(vga)
    if place is not None:
        top, bottom = r.CRTC_CURSOR_TOP.of(s.crtc), r.CRTC_CURSOR_BOTTOM.of(s.crtc)
        dots[place[0], place[1], top : bottom + 1] = 1
    pairs = np.array([palette.text_colours(vga, attribute) for attribute in range(256)], np.uint8)
    if s.sequencer[r.SEQ_FONTS] and _two_fonts(vga):
        pairs[:, 0] &= 7
    fore, back = pairs[attributes, 0], pairs[attributes, 1]
    chosen: Bytes = np.where(dots, fore[..., None, None], back[..., None, None])
    return chosen.transpose(0, 2, 1, 3).reshape(mode.height, mode.width)


def _font_slots(vga: Vga) -> tuple[int, int]:
    """Which eighths of plane 2 hold the fonts for attribute bit 3 clear and set."""
    sequencer = vga.registers.sequencer
    return (
        r.SEQ_FONT_B.of(sequencer) | r.SEQ_FONT_B_HIGH.of(sequencer) << 2,
        r.SEQ_FONT_A.of(sequencer) | r.SEQ_FONT_A_HIGH.of(sequencer) << 2,
    )


def _two_fonts(vga: Vga) -> bool:
    """Whether attribute bit 3 chooses a font."""
    low, high = _font_slots(vga)
    return low != high


def _fonts(vga: Vga, height: int) -> Bytes:
    """The two fonts, 2 by 256 by ``height``."""
    plane = _cells(vga)[:, FONT_PLANE]
    starts = [(slot & 3) * 0x4000 + (slot >> 2) * 0x2000 for slot in _font_slots(vga)]
    return np.stack([plane[at : at + 256 * GLYPH_ROOM].reshape(256, GLYPH_ROOM)[:, :height] for at in starts])


# ---- graphics modes of the VGA


def _addresses(vga: Vga, mode: Mode, per_row: int) -> tuple[Numbers, int]:
    """The cell of each shown group of 8 (or 4) pixels, height by ``per_row``; and the pixel panning."""
    s = vga.registers
    lines = np.arange(mode.height)
    total = r.scan_count(s.crtc, r.CRTC_V_SHOWN, 1, 6) + 1
    scans = max(total // mode.height, 1)
    split = r.line_compare(s.crtc) // scans + 1
    step = mode_geometry.pitch(vga)
    if r.CRTC_ROW_SCAN_BIT_0.of(s.crtc):
        at = np.where(lines < split, mode_geometry.start(vga) + lines * step, (lines - split) * step)
    else:  # CGA: even and odd lines lie apart
        apart = 0x2000 if r.CRTC_BYTES.of(s.crtc) else 0x1000
        at = mode_geometry.start(vga) + (lines >> 1) * step + (lines & 1) * apart
    return (at[:, None] + np.arange(per_row)) % CELLS, s.attribute[r.AR_PANNING] & 7


def _planar(vga: Vga, mode: Mode) -> Numbers:
    """16 colours: bit n of a pixel's number is in plane n."""
    addresses, panning = _addresses(vga, mode, mode.width // 8 + 1)
    return _gather(_cells(vga)[addresses])[:, panning : panning + mode.width]


def _gather(groups: Bytes) -> Numbers:
    """Height by cells by planes as height by pixels."""
    bits = np.unpackbits(groups[..., None], axis=-1).astype(np.intp)
    numbers: Numbers = (bits << np.arange(4)[:, None]).sum(axis=2)
    return numbers.reshape(len(groups), -1)


def _cga(vga: Vga, mode: Mode) -> Numbers:
    """4 colours: planes 0 and 1 in turn hold four pixels a byte, planes 2 and 3 the upper bits of each."""
    addresses, _ = _addresses(vga, mode, mode.width // 8)
    cells = _cells(vga)[addresses].astype(np.intp)
    shifts = np.array([6, 4, 2, 0])
    low = np.concatenate([cells[..., [n]] >> shifts & 3 for n in (0, 1)], axis=-1)
    high = np.concatenate([cells[..., [n]] >> shifts & 3 for n in (2, 3)], axis=-1)
    numbers: Numbers = low | high << 2
    return numbers.reshape(mode.height, mode.width)


def _bytes(vga: Vga, mode: Mode) -> Bytes:
    """256 colours: the planes in turn hold a pixel each."""
    addresses, panning = _addresses(vga, mode, mode.width // 4 + 1)
    first = panning >> 1
    return _cells(vga)[addresses].reshape(mode.height, -1)[:, first : first + mode.width]


# ---- the linear frame buffer


def _linear(vga: Vga) -> Bytes:
    mode = vga.dispi.mode
    if mode.depth == 4:
        return _linear_planar(vga)
    wide = {8: 1, 15: 2, 16: 2, 24: 3, 32: 4}[mode.depth]
    flat = np.frombuffer(vga.memory.vram.read(mode.start, mode.height * mode.pitch), np.uint8)
    lines = flat.reshape(mode.height, mode.pitch)[:, : mode.width * wide]
    if wide == 1:
        return _colours(palette.dac(vga))[lines]
    if wide == 2:
        return _high_colour(np.ascontiguousarray(lines).view("<u2"), mode.depth)
    return np.ascontiguousarray(lines.reshape(mode.height, mode.width, wide)[..., 2::-1])


def _high_colour(values: NDArray[np.uint16], depth: int) -> Bytes:
    """15 bits are 5:5:5, 16 bits 5:6:5. As in QEMU, 16 bits are scaled to the full range, and 15 bits are not."""
    green_bits = depth - 10
    red = (values >> depth - 5 & 31) << 3
    green = (values >> 5 & (1 << green_bits) - 1) << 8 - green_bits
    levels = np.stack([red, green, (values & 31) << 3], axis=-1)
    if depth == 16:
        levels |= levels >> np.array([5, 6, 5], np.uint16)
    return levels.astype(np.uint8)


def _linear_planar(vga: Vga) -> Bytes:
    mode = vga.dispi.mode
    per_row = mode.width // 8
    addresses = (mode.start + np.arange(mode.height)[:, None] * mode.pitch) // 4 + np.arange(per_row)
    vram = vga.memory.vram
    cells = np.frombuffer(vram.read(0, vram.size), np.uint8).reshape(-1, 4)
    return _colours(palette.attributes(vga))[_gather(cells[addresses % len(cells)])]
