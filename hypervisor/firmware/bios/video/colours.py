"""INT 10h AH=0Bh, 10h, 12h and 1Ah: colours, and what the adapter is.

Source: IBM PS/2 and PC BIOS Interface Technical Reference, section 2, "Interrupt 10h", AH=0Bh, 10h, 12h, 1Ah.
"""

from __future__ import annotations

from hypervisor.firmware.bios import bda
from hypervisor.firmware.bios.call import DONE, UNSERVED, Call, Outcome
from hypervisor.firmware.bios.service import service
from hypervisor.firmware.bios.video.display_adapter import SEQUENCER
from hypervisor.firmware.bios.video.video import Video

OVERSCAN, AR_MODE, COLOUR_SELECT = 0x11, 0x10, 0x14
BLINK, SELECT_16 = 1 << 3, 1 << 7
SEQ_CLOCKING, SCREEN_OFF = 1, 1 << 5
CGA_MODES = (4, 5)
EGA_INFORMATION, PALETTE_AT_MODE_SETS, CURSOR_EMULATION, SCREEN_REFRESH = 0x10, 0x31, 0x34, 0x36
"""Functions of AH=12h, in BL. Of the last three, AL is 0 for on and 1 for off."""


class Palette:
    """The colour services."""

    def __init__(self, video: Video) -> None:
        self._adapter = video.adapter
        self._area = video.area

    @service(0x10, 0x0B, "border, background and CGA palette")
    def _cga(self, call: Call) -> Outcome:
        """BH=0: border and background; BH=1: green, red and brown, or cyan, magenta and white."""
        regs, adapter = call.regs, self._adapter
        if regs.bh == 0:
            colour = regs.bl & 7 | (regs.bl & 8) << 1
            adapter.attribute(OVERSCAN, colour)
            if self._area.byte(bda.VIDEO_MODE) in CGA_MODES:
                adapter.attribute(0, colour)
                for index in (1, 2, 3):
                    adapter.attribute(index, adapter.get_attribute(index) & ~0x10 | regs.bl & 0x10)
        elif regs.bh == 1:
            for index in (1, 2, 3):
                adapter.attribute(index, adapter.get_attribute(index) & ~1 | regs.bl & 1)
        else:
            return UNSERVED
        return DONE

    @service(0x10, 0x1000, "set a palette register")
    def _set_one(self, call: Call) -> Outcome:
        if call.regs.bl <= COLOUR_SELECT:
            self._adapter.attribute(call.regs.bl, call.regs.bh)
        return DONE

    @service(0x10, 0x1001, "set the border")
    def _set_border(self, call: Call) -> Outcome:
        self._adapter.attribute(OVERSCAN, call.regs.bh)
        return DONE

    @service(0x10, 0x1002, "set all palette registers and the border")
    def _set_all(self, call: Call) -> Outcome:
        for index, value in enumerate(call.read(call.regs.es, call.regs.dx, 17)):
            self._adapter.attribute(OVERSCAN if index == 16 else index, value)
        return DONE

    @service(0x10, 0x1003, "blinking or bright backgrounds")
    def _blinking(self, call: Call) -> Outcome:
        mode = self._adapter.get_attribute(AR_MODE)
        self._adapter.attribute(AR_MODE, mode & ~BLINK | (BLINK if call.regs.bl & 1 else 0))
        return DONE

    @service(0x10, 0x1007, "read a palette register")
    def _get_one(self, call: Call) -> Outcome:
        if call.regs.bl <= COLOUR_SELECT:
            call.regs.bh = self._adapter.get_attribute(call.regs.bl)
        return DONE

    @service(0x10, 0x1008, "read the border")
    def _get_border(self, call: Call) -> Outcome:
        call.regs.bh = self._adapter.get_attribute(OVERSCAN)
        return DONE

    @service(0x10, 0x1009, "read all palette registers and the border")
    def _get_all(self, call: Call) -> Outcome:
        values = bytes(self._adapter.get_attribute(index) for index in (*range(16), OVERSCAN))
        call.write(call.regs.es, call.regs.dx, values)
        return DONE

    @service(0x10, 0x1010, "set a DAC register")
    def _set_dac_one(self, call: Call) -> Outcome:
        regs = call.regs
        self._adapter.set_dac(regs.bx & 0xFF, bytes((regs.dh, regs.ch, regs.cl)))
        return DONE

    @service(0x10, 0x1012, "set DAC registers")
    def _set_dac(self, call: Call) -> Outcome:
        regs = call.regs
        count = min(regs.cx, 256)
        self._adapter.set_dac(regs.bx & 0xFF, call.read(regs.es, regs.dx, 3 * count))
        return DONE

    @service(0x10, 0x1013, "choose a DAC page")
    def _page(self, call: Call) -> Outcome:
        mode = self._adapter.get_attribute(AR_MODE)
        if call.regs.bl & 1:
            self._adapter.attribute(COLOUR_SELECT, call.regs.bh if mode & SELECT_16 else call.regs.bh << 2)
        else:
            self._adapter.attribute(AR_MODE, mode & ~SELECT_16 | (call.regs.bh & 1) << 7)
        return DONE

    @service(0x10, 0x1015, "read a DAC register")
    def _get_dac_one(self, call: Call) -> Outcome:
        call.regs.dh, call.regs.ch, call.regs.cl = self._adapter.get_dac(call.regs.bl, 1)
        return DONE

    @service(0x10, 0x1017, "read DAC registers")
    def _get_dac(self, call: Call) -> Outcome:
        regs = call.regs
        call.write(regs.es, regs.dx, self._adapter.get_dac(regs.bx & 0xFF, min(regs.cx, 256)))
        return DONE

    @service(0x10, 0x1018, "set the DAC mask")
    def _set_mask(self, call: Call) -> Outcome:
        self._adapter.dac_mask(call.regs.bl)
        return DONE

    @service(0x10, 0x1019, "read the DAC mask")
    def _get_mask(self, call: Call) -> Outcome:
        call.regs.bl = self._adapter.dac_mask()
        return DONE

    @service(0x10, 0x101A, "read the DAC page")
    def _get_page(self, call: Call) -> Outcome:
        mode, select = self._adapter.get_attribute(AR_MODE), self._adapter.get_attribute(COLOUR_SELECT)
        call.regs.bl = mode >> 7
        call.regs.bh = select & 0xF if mode & SELECT_16 else select >> 2 & 3
        return DONE

    @service(0x10, 0x101B, "turn DAC registers grey")
    def _grey(self, call: Call) -> Outcome:
        first, count = call.regs.bx & 0xFF, min(call.regs.cx, 256)
        levels = self._adapter.get_dac(first, count)
        grey = bytearray()
        for at in range(0, len(levels), 3):
            red, green, blue = levels[at : at + 3]
            grey += bytes([(77 * red + 151 * green + 28 * blue + 128) >> 8]) * 3
        self._adapter.set_dac(first, bytes(grey))
        return DONE

    @service(0x10, 0x12, "alternate select: EGA information, palette at mode sets, cursor emulation")
    def _alternate(self, call: Call) -> Outcome:
        regs, area = call.regs, self._area
        if regs.bl == EGA_INFORMATION:
            regs.bx = 0x0003  # colour, 256 KiB
            regs.cx = bda.VIDEO_DIP_SWITCHES
            return DONE
        if regs.bl == PALETTE_AT_MODE_SETS and regs.al <= 1:
            switches = area.byte(bda.VIDEO_SWITCHES)
            area.set_byte(bda.VIDEO_SWITCHES, switches & ~bda.NO_PALETTE | (bda.NO_PALETTE if regs.al else 0))
        elif regs.bl == CURSOR_EMULATION and regs.al <= 1:
            area.set_byte(bda.VIDEO_CONTROL, area.byte(bda.VIDEO_CONTROL) & ~bda.CURSOR_AS_GIVEN | regs.al)
        elif regs.bl == SCREEN_REFRESH and regs.al <= 1:
            clocking = self._adapter.get(SEQUENCER, SEQ_CLOCKING)
            self._adapter.set(SEQUENCER, SEQ_CLOCKING, clocking & ~SCREEN_OFF | (SCREEN_OFF if regs.al else 0))
        else:
            return UNSERVED
        regs.al = 0x12
        return DONE

    @service(0x10, 0x1A, "display combination")
    def _display_code(self, call: Call) -> Outcome:
        if call.regs.al > 1:
            return UNSERVED
        if call.regs.al == 0:
            call.regs.bx = self._area.byte(bda.DISPLAY_CODE)  # VGA with a colour display, and no second one
        else:
            self._area.set_byte(bda.DISPLAY_CODE, call.regs.bl)
        call.regs.al = 0x1A
        return DONE
