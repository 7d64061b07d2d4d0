"""INT 10h AH=11h: fonts for text and graphics modes.

Source: IBM PS/2 and PC BIOS Interface Technical Reference, section 2, "Interrupt 10h", AH=11h "Character generator".
"""

from __future__ import annotations

import struct

from hypervisor.arch.font import Font, font
from hypervisor.firmware.bios import bda
from hypervisor.firmware.bios.call import DONE, UNSERVED, Call, Outcome
from hypervisor.firmware.bios.service import service
from hypervisor.firmware.bios.video import video_rom as rom
from hypervisor.firmware.bios.video.display_adapter import CRTC_CURSOR_SHAPE, CRTC_MAX_SCAN, GLYPH_ROOM, SEQUENCER
from hypervisor.firmware.bios.video.video import Video

ROM_FONTS = {0x01: 14, 0x02: 8, 0x04: 16}
"""Of AL, without bit 4 (recalculate the screen)."""
RECALCULATE = 0x10
SEQ_FONTS = 3


class Fonts:
    """The character generator's services."""

    def __init__(self, video: Video) -> None:
        self._video = video
        self._area = video.area

    @service(0x10, 0x1100, "load a font of the caller's")
    @service(0x10, 0x1110, "load a font of the caller's and fit the screen to it")
    def _load_own(self, call: Call) -> Outcome:
        regs = call.regs
        height = min(regs.bh, GLYPH_ROOM)
        if height:
            count = min(regs.cx, 256)
            data = call.read(regs.es, regs.bp, count * height)
            self._load(Font(height, data), regs.bl, regs.dx & 0xFF, count, bool(regs.al & RECALCULATE))
        return DONE

    @service(0x10, 0x1101, "load the 8 by 14 font")
    @service(0x10, 0x1102, "load the 8 by 8 font")
    @service(0x10, 0x1104, "load the 8 by 16 font")
    @service(0x10, 0x1111, "load the 8 by 14 font and fit the screen to it")
    @service(0x10, 0x1112, "load the 8 by 8 font and fit the screen to it (50 rows)")
    @service(0x10, 0x1114, "load the 8 by 16 font and fit the screen to it")
    def _load_rom(self, call: Call) -> Outcome:
        chosen = font(ROM_FONTS[call.regs.al & 0xF])
        self._load(chosen, call.regs.bl, 0, 256, bool(call.regs.al & RECALCULATE))
        return DONE

    @service(0x10, 0x1103, "choose fonts by attribute bit 3")
    def _choose(self, call: Call) -> Outcome:
        self._video.adapter.set(SEQUENCER, SEQ_FONTS, call.regs.bl)
        return DONE

    def _load(self, chosen: Font, block: int, first: int, count: int, fit: bool) -> None:
        self._video.adapter.load_font(chosen, block, first, count)
        if fit:
            self._fit(chosen.height)

    def _fit(self, height: int) -> None:
        """As many rows as the scan lines hold."""
        adapter, area = self._video.adapter, self._area
        port = adapter.crtc_port
        adapter.set(port, CRTC_MAX_SCAN, adapter.get(port, CRTC_MAX_SCAN) & 0xE0 | height - 1)
        adapter.crtc(CRTC_CURSOR_SHAPE, height - 2 << 8 | height - 1 if height < 14 else height - 3 << 8 | height - 2)
        rows = self._selected_lines() // height
        area.set_word(bda.CHARACTER_HEIGHT, height)
        area.set_byte(bda.LAST_ROW, rows - 1)
        area.set_word(bda.PAGE_SIZE, (rows * self._video.columns * 2 + 0xFF) & 0xFF00)

    def _selected_lines(self) -> int:
        """Scan lines of text modes."""
        switches = self._area.byte(bda.VIDEO_SWITCHES)
        return 200 if switches & bda.LINES_200 else 400 if switches & bda.LINES_400 else 350

    @service(0x10, 0x1120, "upper half of the 8 by 8 graphics font")
    def _graphics_upper(self, call: Call) -> Outcome:
        self._area.memory.write(bda.UPPER_FONT, struct.pack("<HH", call.regs.bp, call.regs.es.selector))
        return DONE

    @service(0x10, 0x1121, "graphics font of the caller's")
    def _graphics_own(self, call: Call) -> Outcome:
        regs = call.regs
        self._area.memory.write(bda.GRAPHICS_FONT, struct.pack("<HH", regs.bp, regs.es.selector))
        self._graphics_rows(regs.bl, regs.dl, regs.cx & 0xFF)
        return DONE

    @service(0x10, 0x1122, "8 by 14 graphics font")
    @service(0x10, 0x1123, "8 by 8 graphics font")
    @service(0x10, 0x1124, "8 by 16 graphics font")
    def _graphics_rom(self, call: Call) -> Outcome:
        height = {0x22: 14, 0x23: 8, 0x24: 16}[call.regs.al]
        rom.set_graphics_font(self._area.memory, height)
        self._graphics_rows(call.regs.bl, call.regs.dl, height)
        return DONE

    def _graphics_rows(self, which: int, rows: int, height: int) -> None:
        self._area.set_word(bda.CHARACTER_HEIGHT, height)
        self._area.set_byte(bda.LAST_ROW, ({1: 14, 2: 25, 3: 43}.get(which, rows) or 25) - 1)

    @service(0x10, 0x1130, "where a font is")
    def _information(self, call: Call) -> Outcome:
        regs = call.regs
        vectors = {0: bda.UPPER_FONT, 1: bda.GRAPHICS_FONT}
        places = {
            2: rom.FONT_AT[14], 3: rom.FONT_AT[8], 4: rom.FONT_AT[8] + 128 * 8, 5: rom.ALTERNATES,
            6: rom.FONT_AT[16], 7: rom.ALTERNATES,
        }  # fmt: skip
        if regs.bh in vectors:
            at = vectors[regs.bh]
            offset, segment = self._area.word(at), self._area.word(at + 2)
        elif regs.bh in places:
            offset, segment = places[regs.bh], rom.SEGMENT
        else:
            return UNSERVED
        regs.set("es", segment)
        regs.bp = offset
        regs.cx = self._video.height
        regs.dl = self._video.rows - 1
        return DONE
