"""Drawing in graphics modes: a mode's pixels in groups of eight, which is a character's width."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from hypervisor.arch.vga_modes import MODES
from hypervisor.bus import Dma

CGA_AT = 0xB8000
PLANES = 4


class Layout(NamedTuple):
    """How a mode keeps pixels: ``bits`` of colour each, ``size`` bytes for a group of eight, ``pitch`` bytes a line.

    ``banked`` is 0, or how far odd lines lie behind even ones (CGA). ``depth`` says what a group's bytes are: 8, a
    pixel each; 4, the pixels' bits of one plane each; 2, four pixels each.
    """

    width: int
    height: int
    bits: int
    depth: int
    size: int
    pitch: int
    banked: int = 0


LAYOUTS = {
    0x04: Layout(320, 200, 2, 2, 2, 80, 0x2000),
    0x05: Layout(320, 200, 2, 2, 2, 80, 0x2000),
    0x06: Layout(640, 200, 1, 4, 4, 320, 0x8000),
    0x0D: Layout(320, 200, 4, 4, 4, 160),
    0x0E: Layout(640, 200, 4, 4, 4, 320),
    0x0F: Layout(640, 350, 4, 4, 4, 320),
    0x10: Layout(640, 350, 4, 4, 4, 320),
    0x11: Layout(640, 480, 1, 4, 4, 320),
    0x12: Layout(640, 480, 4, 4, 4, 320),
    0x13: Layout(320, 200, 8, 8, 8, 320),
}
"""By mode number."""


class Canvas:
    """The pixels of a mode in guest memory. Places outside are ignored."""

    def __init__(self, memory: Dma, mode: int, frame_buffer: int, page: int) -> None:
        self._memory = memory
        self.layout = layout = LAYOUTS[mode]
        self._base = CGA_AT if layout.depth == 2 else frame_buffer
        if layout.depth == 4 and not layout.banked:
            self._base += page * MODES[mode].page_bytes * PLANES

    def _at(self, group: int, y: int) -> int:
        layout = self.layout
        line = (y & 1) * layout.banked + (y >> 1) * layout.pitch if layout.banked else y * layout.pitch
        return self._base + line + group * layout.size

    def group(self, group: int, y: int) -> list[int]:
        """The colours of eight pixels from 8 * ``group`` on, in line ``y``."""
        data = self._memory.read(self._at(group, y), self.layout.size)
        if self.layout.depth == 8:
            return list(data)
        if self.layout.depth == 4:
            return [sum((data[plane] >> bit & 1) << plane for plane in range(PLANES)) for bit in range(7, -1, -1)]
        return [byte >> shift & 3 for byte in data for shift in (6, 4, 2, 0)]

    def _packed(self, colours: Sequence[int]) -> bytes:
        """Eight pixels as the mode keeps them."""
        layout = self.layout
        mask = (1 << layout.bits) - 1
        if layout.depth == 8:
            return bytes(colour & mask for colour in colours)
        if layout.depth == 4:
            return bytes(
                sum((colour & mask) >> plane & 1 and 0x80 >> n for n, colour in enumerate(colours))
                for plane in range(PLANES)
            )
        return bytes(
            sum((colour & mask) << 6 - 2 * n for n, colour in enumerate(half)) for half in (colours[:4], colours[4:])
        )

    def set_group(self, group: int, y: int, colours: Sequence[int]) -> None:
        """Store eight pixels."""
        if 0 <= group < self.layout.width // 8 and 0 <= y < self.layout.height:
            self._memory.write(self._at(group, y), self._packed(colours))

    def pixel(self, x: int, y: int) -> int:
        """The colour of a pixel; 0 outside."""
        inside = 0 <= x < self.layout.width and 0 <= y < self.layout.height
        return self.group(x >> 3, y)[x & 7] if inside else 0

    def set_pixel(self, x: int, y: int, colour: int, *, mix: bool) -> None:
        """Set a pixel, or ``mix`` the colour into it by exclusive or."""
        layout = self.layout
        if not (0 <= x < layout.width and 0 <= y < layout.height):
            return
        if layout.depth == 8 and not mix:
            self._memory.write(self._base + y * layout.pitch + x, bytes((colour,)))
        else:
            colours = self.group(x >> 3, y)
            colours[x & 7] = colours[x & 7] ^ colour if mix else colour
            self.set_group(x >> 3, y, colours)

    def draw(self, row: int, column: int, glyph: bytes, colour: int, *, mix: bool) -> None:
        """A character: its dots in ``colour``, the rest black, or ``mix`` its dots into what is there."""
        for y, dots in enumerate(glyph, row * len(glyph)):
            if y >= self.layout.height:
                return
            drawn = [colour if dots >> bit & 1 else 0 for bit in range(7, -1, -1)]
            if mix:
                drawn = [a ^ b for a, b in zip(drawn, self.group(column, y), strict=True)]
            self.set_group(column, y, drawn)

    def read(self, row: int, column: int, height: int) -> tuple[bytes, int]:
        """The dots of a cell, which are its pixels that are not black, and their colour."""
        lines = [self.group(column, y) for y in range(row * height, min((row + 1) * height, self.layout.height))]
        dots = bytes(sum(0x80 >> n for n, colour in enumerate(line) if colour) for line in lines)
        return dots.ljust(height, b"\0"), next((colour for line in lines for colour in line if colour), 0)

    def scroll(self, window: tuple[int, int, int, int], lines: int, colour: int, *, up: bool) -> None:
        """Move the cells (left, right) of the scan lines (top, bottom), all inclusive, by ``lines`` scan lines."""
        top, left, bottom, right = window
        bottom, right = min(bottom, self.layout.height - 1), min(right, self.layout.width // 8 - 1)
        size = (right - left + 1) * self.layout.size
        kept = range(top + lines, bottom + 1) if up else range(bottom - lines, top - 1, -1)
        for source in kept:
            data = self._memory.read(self._at(left, source), size)
            self._memory.write(self._at(left, source - lines if up else source + lines), data)
        blank = self._packed([colour] * 8) * (right - left + 1)
        for y in range(max(bottom - lines + 1, top), bottom + 1) if up else range(top, min(top + lines, bottom + 1)):
            self._memory.write(self._at(left, y), blank)
