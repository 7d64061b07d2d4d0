"""INT 10h AX=4F05h to 4F09h: the window, the display's start and pitch, and the colours of a linear mode.

Source: VESA BIOS Extension (VBE) Core Functions Standard 3.0, sections 4.8 to 4.12.
"""

from __future__ import annotations

from hypervisor.firmware.bios import bda
from hypervisor.firmware.bios.call import Call, Outcome
from hypervisor.firmware.bios.service import service
from hypervisor.firmware.bios.video import display_adapter as hw
from hypervisor.firmware.bios.video.vbe import FAILED, NUMBER, OK, answer
from hypervisor.firmware.bios.video.vbe_modes import LINEAR_MODES, LinearMode
from hypervisor.firmware.bios.video.video import Video

MAX_WIDTH = 16000
WHILE_RETRACING = 0x80
"""Of BL: wait for the vertical retrace first. Nobody sees the difference here."""


class VbeDisplay:
    """Services for a linear mode that is set; without one they fail."""

    def __init__(self, video: Video) -> None:
        self._area = video.area
        self._adapter = video.adapter

    def _mode(self) -> LinearMode | None:
        return LINEAR_MODES.get(self._area.word(bda.VBE_MODE) & NUMBER)

    @service(0x10, 0x4F05, "VBE: window")
    def _window(self, call: Call) -> Outcome:
        regs = call.regs
        if self._mode() is None or regs.bl or regs.bh > 1:
            return answer(call, FAILED)
        if regs.bh == 0:
            if regs.dx >= self._adapter.get_dispi(hw.DISPI_MEMORY):
                return answer(call, FAILED)
            self._adapter.dispi(hw.DISPI_BANK, regs.dx)
        else:
            regs.dx = self._adapter.get_dispi(hw.DISPI_BANK)
        return answer(call, OK)

    @service(0x10, 0x4F06, "VBE: length of a line")
    def _line(self, call: Call) -> Outcome:
        regs, mode, adapter = call.regs, self._mode(), self._adapter
        if mode is None or regs.bl > 3:
            return answer(call, FAILED)
        bits = 16 if mode.bits == 15 else mode.bits
        if regs.bl in (0, 2):
            wanted = regs.cx if regs.bl == 0 else regs.cx * 8 // bits
            if not mode.width <= wanted <= MAX_WIDTH:
                return answer(call, FAILED)
            adapter.dispi(hw.DISPI_VIRTUAL_WIDTH, (wanted + 7) & ~7)
        width = MAX_WIDTH if regs.bl == 3 else adapter.get_dispi(hw.DISPI_VIRTUAL_WIDTH)
        pitch = width * bits // 8
        regs.bx, regs.cx = pitch, width
        regs.dx = min((adapter.get_dispi(hw.DISPI_MEMORY) << 16) // pitch, 0xFFFF)
        return answer(call, OK)

    @service(0x10, 0x4F07, "VBE: start of the display")
    def _start(self, call: Call) -> Outcome:
        regs, adapter = call.regs, self._adapter
        if self._mode() is None or regs.bl & ~WHILE_RETRACING > 1:
            return answer(call, FAILED)
        if regs.bl & 1:
            regs.bh = 0
            regs.cx, regs.dx = adapter.get_dispi(hw.DISPI_X), adapter.get_dispi(hw.DISPI_Y)
            return answer(call, OK)
        for index, value in ((hw.DISPI_X, regs.cx), (hw.DISPI_Y, regs.dx)):
            adapter.dispi(index, value)
        there = adapter.get_dispi(hw.DISPI_X) == regs.cx and adapter.get_dispi(hw.DISPI_Y) == regs.dx
        return answer(call, OK if there else FAILED)

    @service(0x10, 0x4F08, "VBE: width of the DAC")
    def _dac(self, call: Call) -> Outcome:
        regs, adapter = call.regs, self._adapter
        mode = self._mode()
        if mode is None or mode.bits > 8 or regs.bl > 1:
            return answer(call, FAILED)
        now = adapter.get_dispi(hw.DISPI_ENABLE)
        if regs.bl == 0:
            now = now & ~hw.DISPI_EIGHT_BITS | (hw.DISPI_EIGHT_BITS if regs.bh >= 8 else 0)
            adapter.dispi(hw.DISPI_ENABLE, now)
        regs.bh = 8 if now & hw.DISPI_EIGHT_BITS else 6
        return answer(call, OK)

    @service(0x10, 0x4F09, "VBE: palette")
    def _palette(self, call: Call) -> Outcome:
        """Blue, green, red and a spare byte for each colour."""
        regs = call.regs
        if self._mode() is None or regs.bl & ~WHILE_RETRACING > 1 or regs.dx + regs.cx > 256:
            return answer(call, FAILED)
        if regs.bl & 1:
            levels = self._adapter.get_dac(regs.dx, regs.cx)
            data = b"".join(bytes((*levels[at : at + 3][::-1], 0)) for at in range(0, len(levels), 3))
            call.write(regs.es, regs.di, data)
        else:
            data = call.read(regs.es, regs.di, 4 * regs.cx)
            self._adapter.set_dac(regs.dx, b"".join(data[at : at + 3][::-1] for at in range(0, len(data), 4)))
        return answer(call, OK)

    @service(0x10, 0x4F0A, "VBE: protected-mode interface (there is none)")
    def _protected_mode_interface(self, call: Call) -> Outcome:
        """Callers, GRUB among them, go on without."""
        return answer(call, FAILED)
