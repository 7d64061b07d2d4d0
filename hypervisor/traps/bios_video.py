"""INT 10h: text on the VGA's screen and on the terminal.

All state is in the BIOS data area and in text memory. Graphics modes are not served. Source: IBM PS/2 and PC BIOS
Interface Technical Reference, section 2, "Interrupt 10h - Video".
"""

from __future__ import annotations

from collections.abc import Callable

from hypervisor.bus import Dma
from hypervisor.traps import bios_bda as bda
from hypervisor.traps.bios_call import DONE, UNSERVED, Call, Outcome, Ports
from hypervisor.traps.bios_table import service

TEXT_MEMORY = 0xB8000
TEXT_SIZE = 0x8000
PAGES = 8
ROWS = 25
NORMAL = 0x07
BLANK = 0x20
BELL, BACKSPACE, LINE_FEED, RETURN = 7, 8, 10, 13
TEXT_COLUMNS = {0: 40, 1: 40, 2: 80, 3: 80, 7: 80}


class Video:
    """The text services. ``tty`` receives what teletype and write-string put out; ``text`` is where B8000h lives."""

    def __init__(self, area: bda.Bda, text: Dma, tty: Callable[[bytes], None], ports: Ports | None) -> None:
        self.area = area
        self.text = text
        self.tty = tty
        self.ports = ports

    def power_on(self) -> None:
        """Mode 3, cleared."""
        self.set_mode(3, clear=True)

    def set_mode(self, mode: int, *, clear: bool) -> None:
        """Enter text mode ``mode``: cursors home, page 0."""
        area = self.area
        columns = TEXT_COLUMNS[mode]
        area.set_byte(bda.VIDEO_MODE, mode)
        area.set_word(bda.COLUMNS, columns)
        area.set_word(bda.PAGE_SIZE, 0x1000 if columns == 80 else 0x800)
        area.memory.write(bda.CURSORS, bytes(2 * PAGES))
        area.set_word(bda.CURSOR_SHAPE, 0x0D0E)
        area.set_byte(bda.LAST_ROW, ROWS - 1)
        area.set_word(bda.CHARACTER_HEIGHT, 16)
        if clear:
            self.text.write(TEXT_MEMORY, bytes((BLANK, NORMAL)) * (TEXT_SIZE // 2))
        self._show_page(0)
        self._crtc(0x0A, 0x0D0E)

    @service(0x10, 0x00, "set text mode")
    def _set_mode(self, call: Call) -> Outcome:
        mode = call.regs.al & 0x7F
        if mode not in TEXT_COLUMNS:
            return UNSERVED
        self.set_mode(mode, clear=not call.regs.al & 0x80)
        return DONE

    @service(0x10, 0x01, "cursor shape")
    def _set_cursor_shape(self, call: Call) -> Outcome:
        self.area.set_word(bda.CURSOR_SHAPE, call.regs.cx)
        self._crtc(0x0A, call.regs.cx)
        return DONE

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
        self._show_page(call.regs.al % PAGES)
        return DONE

    @service(0x10, 0x0F, "current mode")
    def _get_mode(self, call: Call) -> Outcome:
        call.regs.al = self.area.byte(bda.VIDEO_MODE)
        call.regs.ah = self._columns()
        call.regs.bh = self._page()
        return DONE

    @service(0x10, 0x12, "alternate select: EGA information")
    def _ega_information(self, call: Call) -> Outcome:
        if call.regs.bl != 0x10:
            return UNSERVED
        call.regs.bx = 0x0003  # colour, 256 KiB
        call.regs.cx = 0x0009
        return DONE

    @service(0x10, 0x1A, "display combination")
    def _display_code(self, call: Call) -> Outcome:
        if call.regs.al:
            return UNSERVED
        call.regs.al = 0x1A
        call.regs.bx = 0x0008  # VGA with a colour display, and no second one
        return DONE

    @service(0x10, 0x06, "scroll window up")
    def _scroll_up(self, call: Call) -> Outcome:
        return self._scroll(call, up=True)

    @service(0x10, 0x07, "scroll window down")
    def _scroll_down(self, call: Call) -> Outcome:
        return self._scroll(call, up=False)

    @service(0x10, 0x09, "write characters and attributes")
    def _write_with_attribute(self, call: Call) -> Outcome:
        return self._write_cells(call, attribute=True)

    @service(0x10, 0x0A, "write characters")
    def _write_plain(self, call: Call) -> Outcome:
        return self._write_cells(call, attribute=False)

    @service(0x10, 0x0B, "border and palette (text needs neither)")
    @service(0x10, 0x10, "palette and blinking (text needs neither)")
    def _palette(self, call: Call) -> Outcome:
        return DONE

    def _scroll(self, call: Call, *, up: bool) -> Outcome:
        regs = call.regs
        window = (min(regs.ch, ROWS - 1), regs.cl, min(regs.dh, ROWS - 1), min(regs.dl, self._columns() - 1))
        self._scroll_window(self._page(), window, regs.al, regs.bh, up=up)
        return DONE

    @service(0x10, 0x08, "read character and attribute")
    def _read_cell(self, call: Call) -> Outcome:
        page = call.regs.bh % PAGES
        call.regs.ax = int.from_bytes(self.text.read(self._cell(page, *self._cursor(page)), 2), "little")
        return DONE

    def _write_cells(self, call: Call, *, attribute: bool) -> Outcome:
        regs = call.regs
        page = regs.bh % PAGES
        start = self._cell(page, *self._cursor(page))
        count = min(regs.cx, (TEXT_MEMORY + TEXT_SIZE - start) // 2)
        if attribute:
            self.text.write(start, bytes((regs.al, regs.bl)) * count)
        else:
            for index in range(count):
                self.text.write(start + 2 * index, bytes((regs.al,)))
        return DONE

    @service(0x10, 0x0E, "teletype output")
    def _teletype(self, call: Call) -> Outcome:
        self.tty(bytes((call.regs.al,)))
        self._put(self._page(), call.regs.al, None)
        return DONE

    @service(0x10, 0x13, "write string")
    def _write_string(self, call: Call) -> Outcome:
        regs = call.regs
        page, step = regs.bh % PAGES, 2 if regs.al & 2 else 1
        data = call.read(regs.es, regs.bp, regs.cx * step)
        before = self._cursor(page)
        self._move(page, regs.dh, regs.dl)
        for index in range(0, len(data), step):
            self._put(page, data[index], data[index + 1] if step == 2 else regs.bl)
        self.tty(data[::step])
        if not regs.al & 1:
            self._move(page, *before)
        return DONE

    def _put(self, page: int, character: int, attribute: int | None) -> None:
        """One character at the cursor, with the screen's attribute there when ``attribute`` is None."""
        row, column = self._cursor(page)
        if character == RETURN:
            column = 0
        elif character == LINE_FEED:
            row += 1
        elif character == BACKSPACE:
            column = max(column - 1, 0)
        elif character != BELL:
            cell = bytes((character,)) if attribute is None else bytes((character, attribute))
            self.text.write(self._cell(page, row, column), cell)
            column += 1
        if column >= self._columns():
            row, column = row + 1, 0
        if row >= ROWS:
            below = self.text.read(self._cell(page, ROWS - 1, 0) + 1, 1)[0]
            self._scroll_window(page, (0, 0, ROWS - 1, self._columns() - 1), 1, below, up=True)
            row = ROWS - 1
        self._move(page, row, column)

    def _scroll_window(self, page: int, window: tuple[int, int, int, int], lines: int, fill: int, *, up: bool) -> None:
        """Scroll (top, left, bottom, right), all inclusive, by ``lines``; 0 lines blanks the window."""
        top, left, bottom, right = window
        width = right - left + 1
        if bottom < top or width <= 0:
            return
        rows = [self.text.read(self._cell(page, row, left), 2 * width) for row in range(top, bottom + 1)]
        lines = len(rows) if lines == 0 else min(lines, len(rows))
        blank = [bytes((BLANK, fill)) * width] * lines
        rows = rows[lines:] + blank if up else blank + rows[: len(rows) - lines]
        for row, data in enumerate(rows, top):
            self.text.write(self._cell(page, row, left), data)

    def _move(self, page: int, row: int, column: int) -> None:
        self.area.set_word(bda.CURSORS + 2 * page, row << 8 | column)
        if page == self._page():
            self._crtc(0x0E, self.area.word(bda.PAGE_START) // 2 + row * self._columns() + column)

    def _show_page(self, page: int) -> None:
        start = page * self.area.word(bda.PAGE_SIZE)
        self.area.set_byte(bda.ACTIVE_PAGE, page)
        self.area.set_word(bda.PAGE_START, start)
        self._crtc(0x0C, start // 2)
        self._move(page, *self._cursor(page))

    def _crtc(self, index: int, value: int) -> None:
        """A 16-bit value into the CRTC registers ``index`` (high byte) and ``index`` + 1, where there is a CRTC."""
        if self.ports is not None:
            for number, byte in ((index, value >> 8), (index + 1, value)):
                self.ports.write(0x3D4, 1, number)
                self.ports.write(0x3D5, 1, byte & 0xFF)

    def _cell(self, page: int, row: int, column: int) -> int:
        """The address of a character cell.

        The data area is the guest's to scribble on, so the result is kept inside text memory.
        """
        offset = page * self.area.word(bda.PAGE_SIZE) + 2 * (row * self._columns() + column)
        return TEXT_MEMORY + offset % TEXT_SIZE

    def _cursor(self, page: int) -> tuple[int, int]:
        position = self.area.word(bda.CURSORS + 2 * page)
        return min(position >> 8, ROWS - 1), min(position & 0xFF, self._columns() - 1)

    def _columns(self) -> int:
        return 40 if self.area.word(bda.COLUMNS) == 40 else 80

    def _page(self) -> int:
        return self.area.byte(bda.ACTIVE_PAGE) % PAGES
