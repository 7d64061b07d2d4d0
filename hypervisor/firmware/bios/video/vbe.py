"""INT 10h AH=4Fh: the VESA BIOS extension for the Bochs interface's linear modes.

Source: VESA BIOS Extension (VBE) Core Functions Standard 3.0, section 4. A call that is served returns AX=004Fh, one
that failed 014Fh; one that is not provided leaves AL as it was.
"""

from __future__ import annotations

import struct

from hypervisor.arch.vga_modes import MODES, dac
from hypervisor.firmware.bios import bda
from hypervisor.firmware.bios.call import DONE, Call, Outcome
from hypervisor.firmware.bios.service import service
from hypervisor.firmware.bios.video import display_adapter as hw
from hypervisor.firmware.bios.video import video_rom as rom
from hypervisor.firmware.bios.video.vbe_modes import LINEAR_MODES, LinearMode
from hypervisor.firmware.bios.video.video import Video

OK, FAILED = 0x004F, 0x014F
NUMBER, LINEAR, KEEP = 0x01FF, 0x4000, 0x8000
"""Bits of a mode as function 02h takes it: the number, with the frame buffer, without clearing it."""
SUPPORTED, INFORMATION, COLOUR, GRAPHICS, NO_VGA, HAS_LINEAR = 0x01, 0x02, 0x08, 0x10, 0x20, 0x80
WINDOW_READABLE_WRITABLE = 0x07
PLANAR, PACKED, DIRECT = 3, 4, 6
EIGHT_BIT_DAC = 0x01
MASKS = {
    15: (5, 10, 5, 5, 5, 0, 1, 15),
    16: (5, 11, 6, 5, 5, 0, 0, 0),
    24: (8, 16, 8, 8, 8, 0, 0, 0),
    32: (8, 16, 8, 8, 8, 0, 8, 24),
}
"""Size and place of red, green, blue and the rest, by depth."""
MODE_LIST, MODE_LIST_END = 34, 256
"""Bytes of the information block that are the BIOS's own (4.3)."""


class Vbe:
    """The extension's services."""

    def __init__(self, video: Video) -> None:
        self._video = video
        self._area = video.area
        self._adapter = video.adapter

    @property
    def modes(self) -> tuple[int, ...]:
        """The numbers of the modes that fit into the frame buffer."""
        memory = self._memory
        return tuple(number for number, mode in LINEAR_MODES.items() if mode.size <= memory)

    @property
    def _memory(self) -> int:
        """Bytes of the frame buffer; 0 without one."""
        return self._adapter.get_dispi(hw.DISPI_MEMORY) << 16 if self._adapter.has_dispi else 0

    @service(0x10, 0x4F00, "VBE: what there is")
    def _information(self, call: Call) -> Outcome:
        regs = call.regs
        if not self._adapter.has_dispi:
            return answer(call, FAILED)
        wants_more = call.read(regs.es, regs.di, 4) == b"VBE2"
        block = struct.pack(
            "<4sHHHIHHHH",
            *(b"VESA", 0x0300),
            *(rom.STRINGS["oem"], rom.SEGMENT),
            EIGHT_BIT_DAC,
            *((regs.di + MODE_LIST) & 0xFFFF, regs.es.selector),  # where callers without segments find it
            self._memory >> 16,
            0x0100,
        )
        for name in ("vendor", "product", "revision"):
            block += struct.pack("<HH", rom.STRINGS[name], rom.SEGMENT)
        numbers = self.modes[: (MODE_LIST_END - MODE_LIST) // 2 - 1]
        block += struct.pack(f"<{len(numbers)}HH", *numbers, 0xFFFF)
        call.write(regs.es, regs.di, block.ljust(512 if wants_more else 256, b"\0"))
        return answer(call, OK)

    @service(0x10, 0x4F01, "VBE: what a mode is")
    def _mode_information(self, call: Call) -> Outcome:
        regs = call.regs
        mode = LINEAR_MODES.get(regs.cx & NUMBER)
        if mode is None or mode.size > self._memory:
            return answer(call, FAILED)
        call.write(regs.es, regs.di, self._describe(mode).ljust(256, b"\0"))
        return answer(call, OK)

    def _describe(self, mode: LinearMode) -> bytes:
        direct = mode.bits > 8
        planar = mode.bits == 4
        attributes = SUPPORTED | INFORMATION | COLOUR | GRAPHICS | NO_VGA | (0 if planar else HAS_LINEAR)
        pitch = mode.width // 8 if planar else mode.pitch
        pages = min(max(self._memory // mode.size - 1, 0), 255)
        masks = MASKS.get(mode.bits, (0,) * 8)
        model = DIRECT if direct else PLANAR if planar else PACKED
        head = struct.pack("<HBBHHHHIH", attributes, WINDOW_READABLE_WRITABLE, 0, 64, 64, 0xA000, 0, 0, pitch)
        shape = struct.pack(
            "<HHBBBBBBBBB", mode.width, mode.height, 8, 16, 4 if planar else 1, mode.bits, 1, model, 0, pages, 1
        )
        linear = struct.pack(
            "<8BBIIH", *masks, 2 if mode.bits == 32 else 0, 0 if planar else self._adapter.frame_buffer, 0, 0
        )
        version_3 = struct.pack("<HBB8BI", pitch, pages, pages, *masks, 0)
        return head + shape + linear + version_3

    @service(0x10, 0x4F02, "VBE: set a mode")
    def _set_mode(self, call: Call) -> Outcome:
        wanted = call.regs.bx
        number, clear = wanted & NUMBER, not wanted & KEEP
        if number < 0x100:
            if number not in MODES:
                return answer(call, FAILED)
            self._video.set_mode(number, clear=clear)
            return answer(call, OK)
        mode = LINEAR_MODES.get(number)
        if mode is None or mode.size > self._memory:
            return answer(call, FAILED)
        adapter = self._adapter
        adapter.set_mode(MODES[0x12 if mode.bits == 4 else 0x13], clear=False)
        if mode.bits == 8:
            adapter.set_dac(0, dac("256"))
        for index, value in ((hw.DISPI_WIDTH, mode.width), (hw.DISPI_HEIGHT, mode.height), (hw.DISPI_BITS, mode.bits)):
            adapter.dispi(index, value)
        keep = 0 if clear else hw.DISPI_KEEP
        adapter.dispi(hw.DISPI_ENABLE, hw.DISPI_ENABLED | hw.DISPI_LINEAR | keep)
        self._area.set_word(bda.VBE_MODE, wanted)
        self._area.set_word(bda.COLUMNS, min(mode.width // 8, 255))
        self._area.set_byte(bda.LAST_ROW, mode.height // 16 - 1)
        self._area.set_word(bda.CHARACTER_HEIGHT, 16)
        return answer(call, OK)

    @service(0x10, 0x4F03, "VBE: current mode")
    def _current_mode(self, call: Call) -> Outcome:
        if not self._adapter.has_dispi:
            return answer(call, FAILED)
        call.regs.bx = self._area.word(bda.VBE_MODE) or self._area.byte(bda.VIDEO_MODE)
        return answer(call, OK)


def answer(call: Call, value: int) -> Outcome:
    """Return ``value`` in AX."""
    call.regs.ax = value
    return DONE
