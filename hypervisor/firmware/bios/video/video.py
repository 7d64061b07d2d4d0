"""INT 10h: modes, cursor, pages, characters and pixels.

All state is in the BIOS data area and in the adapter, but for a long string in progress. Source: IBM PS/2 and PC BIOS
Interface Technical Reference, section 2, "Interrupt 10h - Video". Fonts, palettes and linear modes are in `fonts`,
`colours` and `vbe`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from hypervisor.arch.font import Font, font
from hypervisor.arch.vga_modes import MODES, ModeRegisters
from hypervisor.bus import Dma
from hypervisor.firmware.bios import bda
from hypervisor.firmware.bios.call import AGAIN, DONE, UNSERVED, Call, Outcome
from hypervisor.firmware.bios.service import service
from hypervisor.firmware.bios.video.canvas import LAYOUTS, Canvas
from hypervisor.firmware.bios.video.display_adapter import (
    CRTC_COLOUR,
    CRTC_CURSOR,
    CRTC_CURSOR_SHAPE,
    CRTC_MONO,
    CRTC_START,
    Adapter,
)
from hypervisor.firmware.bios.video.video_rom import set_graphics_font

TEXT_MEMORY = 0xB8000
MONO_MEMORY = 0xB0000
TEXT_SIZE = 0x8000
PAGES = 8
NORMAL = 0x07
BLANK = 0x20
UNDERLINE = 6 << 8 | 7
"""The usual cursor: first and last line of a cell of eight."""
BELL, BACKSPACE, LINE_FEED, RETURN = 7, 8, 10, 13
MIX = 0x80
"""Of a colour in graphics modes: exclusive or with what is there."""
MONO_MODES = (0x07, 0x0F)
STRING_PART = 80
"""Characters of a string that are written at once. In graphics modes 65,535 of them are seconds of the host's time."""


class WrittenPart(NamedTuple):
    """A string of which a part is written."""

    stack: int
    """Its caller's stack, by which the call is known when it comes again."""
    done: int
    """Bytes that are written."""
    cursor: tuple[int, int]
    """Where the cursor was before."""


class Video:
    """The services. ``tty`` receives what teletype and write-string put out; ``text`` is where B8000h lives."""

    def __init__(self, area: bda.Bda, text: Dma, tty: Callable[[bytes], None], adapter: Adapter) -> None:
        self.area = area
        self.text = text
        self.tty = tty
        self.adapter = adapter
        self.string: WrittenPart | None = None
        self.frame_buffer: int | None = None
        """Where graphics are drawn, looked up once for each mode that is set: a pixel a call is slow enough."""

    def power_on(self) -> None:
        """Mode 3, cleared. The adapter's registers are so after a reset."""
        self.frame_buffer, self.string = None, None
        self.area.set_byte(bda.VIDEO_CONTROL, bda.VIDEO_256_KIB)
        self.area.set_byte(bda.VIDEO_FEATURES, 0xF0 | bda.VIDEO_DIP_SWITCHES)
        self.area.set_byte(bda.VIDEO_SWITCHES, bda.VGA_ACTIVE | bda.LINES_400 | bda.SWITCHABLE)
        self.area.set_byte(bda.DISPLAY_CODE, bda.VGA_WITH_COLOUR)
        self._describe(MODES[3])
        self._blank_text(3)
        self._move(0, 0, 0)

    # ---- modes

    def set_mode(self, number: int, *, clear: bool) -> None:
        """Enter mode ``number``, one of `MODES`: cursors home, page 0."""
        mode = MODES[number]
        self.frame_buffer = None
        keep_palette = bool(self.area.byte(bda.VIDEO_SWITCHES) & bda.NO_PALETTE)
        self.adapter.set_mode(mode, clear=clear and not mode.is_text, palette=not keep_palette)
        self._describe(mode)
        control = self.area.byte(bda.VIDEO_CONTROL) & ~bda.NOT_CLEARED
        self.area.set_byte(bda.VIDEO_CONTROL, control | (0 if clear else bda.NOT_CLEARED))
        if not mode.is_text:
            set_graphics_font(self.area.memory, mode.character_height)
        if mode.is_text:
            self.adapter.load_font(font(mode.character_height), 0)
            if clear:
                self._blank_text(number)
        elif clear and LAYOUTS[number].depth == 2:
            self.text.write(TEXT_MEMORY, bytes(TEXT_SIZE))

    def _describe(self, mode: ModeRegisters) -> None:
        """The data area for a mode."""
        area = self.area
        area.set_byte(bda.VIDEO_MODE, mode.number)
        area.set_word(bda.VBE_MODE, 0)
        area.set_word(bda.COLUMNS, mode.columns)
        area.set_word(bda.PAGE_SIZE, mode.page_bytes)
        area.set_word(bda.PAGE_START, 0)
        area.set_byte(bda.ACTIVE_PAGE, 0)
        area.memory.write(bda.CURSORS, bytes(2 * PAGES))
        area.set_word(bda.CURSOR_SHAPE, UNDERLINE if mode.is_text else 0)
        area.set_byte(bda.LAST_ROW, mode.rows - 1)
        area.set_word(bda.CHARACTER_HEIGHT, mode.character_height)
        area.set_word(bda.CRTC_PORT, CRTC_MONO if mode.number in MONO_MODES else CRTC_COLOUR)

    def _blank_text(self, mode: int) -> None:
        self.text.write(self._memory(mode), bytes((BLANK, NORMAL)) * (TEXT_SIZE // 2))

    @service(0x10, 0x00, "set video mode (0 to 7, 0Dh to 13h)")
    def _set_mode(self, call: Call) -> Outcome:
        mode = call.regs.al & 0x7F
        if mode not in MODES:
            return UNSERVED
        self.set_mode(mode, clear=not call.regs.al & 0x80)
        call.regs.al = 0x20 if mode > 7 else 0x3F if mode == 6 else 0x30  # as Phoenix's and AMI's answer
        return DONE

    @service(0x10, 0x0F, "current mode")
    def _get_mode(self, call: Call) -> Outcome:
        call.regs.al = self.area.byte(bda.VIDEO_MODE) | self.area.byte(bda.VIDEO_CONTROL) & bda.NOT_CLEARED
        call.regs.ah = self.columns & 0xFF
        call.regs.bh = self._page()
        return DONE

    # ---- cursor and pages

    @service(0x10, 0x01, "cursor shape")
    def _set_cursor_shape(self, call: Call) -> Outcome:
        self.area.set_word(bda.CURSOR_SHAPE, call.regs.cx)
        self.adapter.crtc(CRTC_CURSOR_SHAPE, self._scaled(call.regs.cx))
        return DONE

    def _scaled(self, shape: int) -> int:
        """A shape given for cells of 8 lines, as lines of the cell (what a VGA calls cursor emulation)."""
        start, end, height = shape >> 8 & 0x3F, shape & 0x1F, self.height
        emulated = not self.area.byte(bda.VIDEO_CONTROL) & bda.CURSOR_AS_GIVEN
        if not emulated or height <= 8 or not start <= end < 8:
            return shape
        if start == end - 1 >= 5:  # an underline
            return height - 3 << 8 | height - 2
        return start * height // 8 << 8 | (end + 1) * height // 8 - 1

    @service(0x10, 0x02, "move cursor")
    def _set_cursor(self, call: Call) -> Outcome:
        self._move(call.regs.bh % PAGES, call.regs.dh, call.regs.dl)
        return DONE

    @service(0x10, 0x03, "cursor position and shape")
    def _get_cursor(self, call: Call) -> Outcome:
        call.regs.dx = self.area.word(bda.CURSORS + 2 * (call.regs.bh % PAGES))
        call.regs.cx = self.area.word(bda.CURSOR_SHAPE)
        return DONE

    @service(0x10, 0x05, "show page")
    def _select_page(self, call: Call) -> Outcome:
        page = call.regs.al % PAGES
        start = page * self.area.word(bda.PAGE_SIZE)
        self.area.set_byte(bda.ACTIVE_PAGE, page)
        self.area.set_word(bda.PAGE_START, start)
        self.adapter.crtc(CRTC_START, start // 2 if self._is_text() else start)
        self._move(page, *self._cursor(page))
        return DONE

    def _move(self, page: int, row: int, column: int) -> None:
        self.area.set_word(bda.CURSORS + 2 * page, row << 8 | column)
        if page == self._page() and self._is_text():
            self.adapter.crtc(CRTC_CURSOR, self.area.word(bda.PAGE_START) // 2 + row * self.columns + column)

    # ---- characters

    @service(0x10, 0x06, "scroll window up")
    def _scroll_up(self, call: Call) -> Outcome:
        return self._scroll(call, up=True)

    @service(0x10, 0x07, "scroll window down")
    def _scroll_down(self, call: Call) -> Outcome:
        return self._scroll(call, up=False)

    def _scroll(self, call: Call, *, up: bool) -> Outcome:
        regs, last = call.regs, self.rows - 1
        window = (min(regs.ch, last), regs.cl, min(regs.dh, last), min(regs.dl, self.columns - 1))
        self._scroll_window(self._page(), window, regs.al, regs.bh, up=up)
        return DONE

    @service(0x10, 0x08, "read character and attribute")
    def _read_cell(self, call: Call) -> Outcome:
        page = call.regs.bh % PAGES
        canvas = self.canvas(page)
        if canvas is None:
            call.regs.ax = int.from_bytes(self.text.read(self._cell(page, *self._cursor(page)), 2), "little")
            return DONE
        (drawn, colour), glyphs = canvas.read(*self._cursor(page), self.height), self._font()
        found = (character for character in range(256) if glyphs.glyph(character) == drawn)
        character = next(found, None)
        call.regs.ax = 0 if character is None else colour << 8 | character
        return DONE

    @service(0x10, 0x09, "write characters and attributes")
    def _write_with_attribute(self, call: Call) -> Outcome:
        return self._write_cells(call, attribute=True)

    @service(0x10, 0x0A, "write characters")
    def _write_plain(self, call: Call) -> Outcome:
        return self._write_cells(call, attribute=False)

    def _write_cells(self, call: Call, *, attribute: bool) -> Outcome:
        regs = call.regs
        page = regs.bh % PAGES
        canvas = self.canvas(page)
        row, column = self._cursor(page)
        if canvas is not None:
            for at in range(column, min(column + regs.cx, self.columns)):
                self._draw(canvas, row, at, regs.al, regs.bl)
            return DONE
        start = self._cell(page, row, column)
        count = min(regs.cx, (self._memory() + TEXT_SIZE - start) // 2)
        if attribute:
            self.text.write(start, bytes((regs.al, regs.bl)) * count)
        else:
            for index in range(count):
                self.text.write(start + 2 * index, bytes((regs.al,)))
        return DONE

    @service(0x10, 0x0E, "teletype output")
    def _teletype(self, call: Call) -> Outcome:
        self.tty(bytes((call.regs.al,)))
        self._put(self._page(), call.regs.al, None, call.regs.bl)
        return DONE

    @service(0x10, 0x13, "write string")
    def _write_string(self, call: Call) -> Outcome:
        regs = call.regs
        page, step = regs.bh % PAGES, 2 if regs.al & 2 else 1
        data = call.read(regs.es, regs.bp, regs.cx * step)
        stack = Call.linear(regs.ss, regs.rsp)
        if self.string is None or self.string.stack != stack:
            self.string = WrittenPart(stack, 0, self._cursor(page))
            self._move(page, regs.dh, regs.dl)
        first, before = self.string.done, self.string.cursor
        part = data[first : first + STRING_PART * step]
        for index in range(0, len(part), step):
            attribute = part[index + 1] if step == 2 else regs.bl
            self._put(page, part[index], attribute, attribute)
        self.tty(part[::step])
        if first + len(part) < len(data):
            self.string = WrittenPart(stack, first + len(part), before)
            return AGAIN
        self.string = None
        if not regs.al & 1:
            self._move(page, *before)
        return DONE

    def _put(self, page: int, character: int, attribute: int | None, colour: int) -> None:
        """One character at the cursor: in text modes with the screen's attribute there when ``attribute`` is None, in
        graphics modes in ``colour``.
        """
        row, column = self._cursor(page)
        if character == RETURN:
            column = 0
        elif character == LINE_FEED:
            row += 1
        elif character == BACKSPACE:
            column = max(column - 1, 0)
        elif character != BELL:
            self._place(page, row, column, character, attribute, colour)
            column += 1
        if column >= self.columns:
            row, column = row + 1, 0
        if row >= self.rows:
            row = self.rows - 1
            below = self.text.read(self._cell(page, row, 0) + 1, 1)[0] if self._is_text() else 0
            self._scroll_window(page, (0, 0, row, self.columns - 1), 1, below, up=True)
        self._move(page, row, column)

    def _place(self, page: int, row: int, column: int, character: int, attribute: int | None, colour: int) -> None:
        canvas = self.canvas(page)
        if canvas is not None:
            self._draw(canvas, row, column, character, colour)
        elif self._is_text():
            cell = bytes((character,)) if attribute is None else bytes((character, attribute))
            self.text.write(self._cell(page, row, column), cell)

    def _scroll_window(self, page: int, window: tuple[int, int, int, int], lines: int, fill: int, *, up: bool) -> None:
        """Scroll (top, left, bottom, right), all inclusive, by ``lines``; 0 lines blanks the window."""
        top, left, bottom, right = window
        width, height = right - left + 1, bottom - top + 1
        if height <= 0 or width <= 0:
            return
        lines = height if lines == 0 else min(lines, height)
        canvas = self.canvas(page)
        if canvas is not None:
            scan = self.height
            canvas.scroll((top * scan, left, (bottom + 1) * scan - 1, right), lines * scan, fill, up=up)
            return
        if not self._is_text():
            return
        rows = [self.text.read(self._cell(page, row, left), 2 * width) for row in range(top, bottom + 1)]
        blank = [bytes((BLANK, fill)) * width] * lines
        rows = rows[lines:] + blank if up else blank + rows[: height - lines]
        for row, data in enumerate(rows, top):
            self.text.write(self._cell(page, row, left), data)

    # ---- pixels

    @service(0x10, 0x0C, "write a pixel")
    def _write_pixel(self, call: Call) -> Outcome:
        regs = call.regs
        canvas = self.canvas(regs.bh % PAGES)
        if canvas is None:
            return UNSERVED
        mix = bool(regs.al & MIX) and canvas.layout.bits < 8
        canvas.set_pixel(regs.cx, regs.dx, regs.al & ~MIX if mix else regs.al, mix=mix)
        return DONE

    @service(0x10, 0x0D, "read a pixel")
    def _read_pixel(self, call: Call) -> Outcome:
        canvas = self.canvas(call.regs.bh % PAGES)
        if canvas is None:
            return UNSERVED
        call.regs.al = canvas.pixel(call.regs.cx, call.regs.dx)
        return DONE

    def canvas(self, page: int) -> Canvas | None:
        """What the mode is drawn on; None in text and linear modes."""
        mode = self.area.byte(bda.VIDEO_MODE)
        if mode not in LAYOUTS or self.area.word(bda.VBE_MODE):
            return None
        if self.frame_buffer is None:
            self.frame_buffer = self.adapter.frame_buffer
        return Canvas(self.area.memory, mode, self.frame_buffer, page)

    def _draw(self, canvas: Canvas, row: int, column: int, character: int, colour: int) -> None:
        mix = bool(colour & MIX) and canvas.layout.bits < 8
        canvas.draw(row, column, self._font().glyph(character), colour & ~MIX if mix else colour, mix=mix)

    def _font(self) -> Font:
        """The graphics font: 256 characters where INT 43h's vector points."""
        offset, segment = self.area.word(bda.GRAPHICS_FONT), self.area.word(bda.GRAPHICS_FONT + 2)
        return Font(self.height, self.area.memory.read((segment << 4) + offset, 256 * self.height))

    # ---- the data area, which is the guest's to scribble on: results are kept within the screen

    @property
    def columns(self) -> int:
        """Columns of the mode."""
        return min(self.area.word(bda.COLUMNS), 255) or 80

    @property
    def rows(self) -> int:
        """Rows of the mode."""
        return self.area.byte(bda.LAST_ROW) + 1

    @property
    def height(self) -> int:
        """Scan lines of a character."""
        return min(self.area.byte(bda.CHARACTER_HEIGHT), 32) or 16

    def _is_text(self) -> bool:
        mode = MODES.get(self.area.byte(bda.VIDEO_MODE))
        return (mode is None or mode.is_text) and not self.area.word(bda.VBE_MODE)

    def _memory(self, mode: int | None = None) -> int:
        return MONO_MEMORY if (self.area.byte(bda.VIDEO_MODE) if mode is None else mode) == 7 else TEXT_MEMORY

    def _cell(self, page: int, row: int, column: int) -> int:
        """The address of a character cell."""
        offset = page * self.area.word(bda.PAGE_SIZE) + 2 * (row * self.columns + column)
        return self._memory() + offset % TEXT_SIZE

    def _cursor(self, page: int) -> tuple[int, int]:
        position = self.area.word(bda.CURSORS + 2 * page)
        return min(position >> 8, self.rows - 1), min(position & 0xFF, self.columns - 1)

    def _page(self) -> int:
        return self.area.byte(bda.ACTIVE_PAGE) % PAGES
