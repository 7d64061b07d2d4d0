"""The VGA: its registers at ports 3B4h to 3DFh, and what they make of its memory.

Sources: IBM PS/2 Hardware Interface Technical Reference, "Video subsystem". Power-on state is mode 3 (80 by 25, 9 by
16 dots, 70 Hz) with a font in plane 2, as firmware leaves it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from hypervisor.arch.font import font
from hypervisor.bus import Clock
from hypervisor.devices.parts.common import ByteDevice, RegisterTable, all_ones, nothing
from hypervisor.devices.parts.device_state import adopt
from hypervisor.devices.vga import timing
from hypervisor.devices.vga import vga_registers as r
from hypervisor.devices.vga.dispi import Dispi, LinearMode
from hypervisor.devices.vga.mmio import Mmio
from hypervisor.devices.vga.planes import Planes
from hypervisor.devices.vga.vga_state import VgaState
from hypervisor.devices.vga.video_memory import PLANES_SIZE, TEXT_SIZE, Memory, OwnMemory, VideoMemory
from hypervisor.devices.vga.window import DEVICE, Kind, Window, may_be_memory, window
from hypervisor.state import InRecord, copied

GLYPH_ROOM = 32
"""Bytes from one character of a font in plane 2 to the next."""
BLANK = b" \x07"


class Vga(ByteDevice, InRecord[VgaState]):
    """The adapter. Its aperture (`planes`), its Bochs interface (`dispi`) and the way to the registers through PCI
    memory (`mmio`) are devices of their own.

    ``vram`` and ``text`` are its memory (see `VideoMemory`); by default it has some of its own, without a linear frame
    buffer. ``show(window)`` is called when the guest's view of the aperture changes. A ``blank`` one has nothing in its
    memory yet.
    """

    def __init__(
        self,
        clock: Clock,
        vram: Memory | None = None,
        text: Memory | None = None,
        show: Callable[[Window], object] = lambda window: None,
        name: str = "vga",
        *,
        blank: bool = False,
    ) -> None:
        self.name = name
        self.clock = clock
        self.memory = VideoMemory(vram or OwnMemory(PLANES_SIZE), text or OwnMemory(TEXT_SIZE))
        self.registers = VgaState()
        self.window = DEVICE
        self.bank = 0
        """The bank of 64 KiB that A0000h shows."""
        self._show = show
        self.dispi = Dispi(self)
        self.planes = Planes(self)
        self.mmio = Mmio(self)
        if not blank:
            self._firmware_memory()
        self.refresh(restored=True)

    def _firmware_memory(self) -> None:
        """The memory as mode 3 begins: a font, and a blank screen."""
        self.memory.write_plane(2, 0, font(16).rooms(GLYPH_ROOM))
        self.memory.text.write(0, BLANK * (80 * 25))

    # ---- what the guest sees of the memory

    def refresh(self, *, restored: bool = False) -> None:
        """Show the guest the memory as the registers say; what it wrote as text moves along, except on a restore."""
        self.bank = self.dispi.bank
        self.planes.stale = True
        new = window(self.registers, self.bank)
        if new == self.window:
            return
        if not restored and (new.kind is Kind.TEXT) is not (self.window.kind is Kind.TEXT):
            if new.kind is Kind.TEXT:
                self.memory.planes_to_text()
            else:
                self.memory.text_to_planes()
        self.window = new
        self._show(new)

    def leave_text(self) -> None:
        """Have the planes hold what the guest wrote as text."""
        if self.window.kind is Kind.TEXT:
            self.memory.text_to_planes()

    def enter_linear(self, mode: LinearMode) -> None:
        """Set the VGA's registers as the Bochs interface does when it is enabled."""
        s = self.registers
        s.graphics[r.GR_MISC] = s.graphics[r.GR_MISC] & ~0x0C | 0x05
        s.sequencer[r.SEQ_MEMORY] |= 0x04
        if mode.depth != 4:
            s.sequencer[r.SEQ_MEMORY] |= 0x08
            s.sequencer[r.SEQ_MAP_MASK] |= 0x0F
        s.graphics[r.GR_MODE] = s.graphics[r.GR_MODE] & ~0x70 | (0 if mode.depth == 4 else 0x40)
        s.crtc[r.CRTC_MODE] |= 3
        s.crtc[r.CRTC_OFFSET] = mode.pitch >> 3 & 0xFF
        s.crtc[r.CRTC_H_SHOWN] = (mode.width >> 3) - 1 & 0xFF
        last = mode.height - 1
        s.crtc[r.CRTC_V_SHOWN] = last & 0xFF
        s.crtc[r.CRTC_OVERFLOW] = s.crtc[r.CRTC_OVERFLOW] & ~0x42 | last >> 7 & 0x02 | last >> 3 & 0x40 | 0x10
        s.crtc[r.CRTC_LINE_COMPARE] = 0xFF
        s.crtc[r.CRTC_MAX_SCAN] = s.crtc[r.CRTC_MAX_SCAN] & ~0x9F | 0x40
        self.refresh()

    # ---- device contract

    def reset(self) -> None:
        """Mode 3, as firmware leaves it."""
        self.registers = VgaState()
        self._firmware_memory()
        self.refresh(restored=True)

    def state(self) -> VgaState:
        """A copy of all mutable state. The memory is the board's to save."""
        return copied(self.registers)

    def is_still(self, state: Any) -> bool:
        """See `hypervisor.state.InRecord`."""
        return bool(self.registers == state)

    def restore(self, state: VgaState) -> None:
        """Take over ``state``; raises `DeviceError` if it is not one of this device."""
        self.registers = adopt(self.name, VgaState, state)
        self.refresh(restored=True)

    # ---- registers

    def _registers(self) -> RegisterTable:
        return self._wired_readers(), self._wired_writers()

    def _wired_readers(self) -> list[Callable[[], int]]:
        readers: list[Callable[[], int]] = [all_ones] * r.SIZE

        def put(offset: int, reader: Callable[[VgaState], int]) -> None:
            readers[offset] = lambda: reader(self.registers)

        put(0x10, lambda s: s.attribute_index)
        put(0x11, lambda s: _at(s.attribute, s.attribute_index & 0x1F))
        put(0x12, lambda s: r.STATUS_0)
        put(0x13, lambda s: s.enable)
        put(0x14, lambda s: s.sequencer_index)
        put(0x15, lambda s: _at(s.sequencer, s.sequencer_index))
        put(0x16, lambda s: s.dac_mask)
        put(0x17, lambda s: 3 if s.dac_reading else 0)
        put(0x18, lambda s: s.dac_at // 3)
        put(0x1A, lambda s: s.feature)
        put(0x1C, lambda s: s.misc)
        put(0x1E, lambda s: s.graphics_index)
        put(0x1F, lambda s: _at(s.graphics, s.graphics_index))
        readers[0x19] = self._read_dac
        for base, colour in ((0x04, 0), (0x24, 1)):
            readers[base] = partial(self._if_colour, colour, lambda: self.registers.crtc_index)
            readers[base + 1] = partial(
                self._if_colour, colour, lambda: _at(self.registers.crtc, self.registers.crtc_index)
            )
            readers[base + 6] = partial(self._if_colour, colour, self._read_status)

        return readers

    def _wired_writers(self) -> list[Callable[[int], None]]:
        writers: list[Callable[[int], None]] = [nothing] * r.SIZE

        def put(offset: int, name: str) -> None:
            writers[offset] = lambda value: setattr(self.registers, name, value)

        put(0x13, "enable")
        put(0x14, "sequencer_index")
        put(0x16, "dac_mask")
        put(0x1E, "graphics_index")
        writers[0x10] = self._write_attribute
        writers[0x12] = self._write_misc
        writers[0x15] = self._write_sequencer
        writers[0x17] = partial(self._seek_dac, True)
        writers[0x18] = partial(self._seek_dac, False)
        writers[0x19] = self._write_dac
        writers[0x1F] = self._write_graphics
        for base, colour in ((0x04, 0), (0x24, 1)):
            writers[base] = partial(self._write_crtc_port, colour, 0)
            writers[base + 1] = partial(self._write_crtc_port, colour, 1)
            writers[base + 6] = partial(self._write_crtc_port, colour, 6)
        return writers

    def _if_colour(self, colour: int, reader: Callable[[], int]) -> int:
        return reader() if self.registers.misc & r.MISC_COLOUR == colour else 0xFF

    def _write_crtc_port(self, colour: int, port: int, value: int) -> None:
        s = self.registers
        if s.misc & r.MISC_COLOUR != colour:
            return
        if port == 0:
            s.crtc_index = value
        elif port == 6:
            s.feature = value
        elif s.crtc_index < 8 and r.CRTC_PROTECT.of(s.crtc):
            if s.crtc_index == r.CRTC_OVERFLOW:  # only the line compare bit is not protected
                s.crtc[r.CRTC_OVERFLOW] = s.crtc[r.CRTC_OVERFLOW] & ~0x10 | value & 0x10
        elif s.crtc_index < len(s.crtc):
            s.crtc[s.crtc_index] = value

    def _read_status(self) -> int:
        s = self.registers
        s.attribute_data_next = False
        return timing.status(self.clock.now_ns, s.misc, s.sequencer, s.crtc)

    def _write_misc(self, value: int) -> None:
        self.registers.misc = value
        self.refresh()

    def _write_attribute(self, value: int) -> None:
        s = self.registers
        index = s.attribute_index & 0x1F
        if not s.attribute_data_next:
            s.attribute_index = value & r.AR_INDEX_BITS
        elif index < len(s.attribute):
            s.attribute[index] = value & r.ATTRIBUTE_BITS[index]
        s.attribute_data_next = not s.attribute_data_next

    def _write_sequencer(self, value: int) -> None:
        s = self.registers
        index = s.sequencer_index
        if index < len(s.sequencer):
            chained = may_be_memory(s)
            s.sequencer[index] = value & r.SEQUENCER_BITS[index]
            self.planes.stale = True
            if chained or may_be_memory(s):
                self.refresh()

    def _write_graphics(self, value: int) -> None:
        s = self.registers
        index = s.graphics_index
        if index < len(s.graphics):
            s.graphics[index] = value & r.GRAPHICS_BITS[index]
            self.planes.stale = True
            if may_be_memory(s):
                self.refresh()

    def _seek_dac(self, reading: bool, index: int) -> None:
        self.registers.dac_at, self.registers.dac_reading = index * 3, reading

    def _read_dac(self) -> int:
        s = self.registers
        value = s.palette[s.dac_at]
        s.dac_at = (s.dac_at + 1) % 768
        return value

    def _write_dac(self, value: int) -> None:
        s = self.registers
        s.palette[s.dac_at] = value if self.dispi.eight_bit_dac else value & 0x3F
        s.dac_at = (s.dac_at + 1) % 768


def _at(registers: bytearray, index: int) -> int:
    """The register at ``index``; what is not there reads as zero."""
    return registers[index] if index < len(registers) else 0
