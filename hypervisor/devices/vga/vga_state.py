"""What the VGA remembers beside its memory."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypervisor.arch.vga_modes import MODES, dac
from hypervisor.devices.parts.device_state import data, flag, number, u8
from hypervisor.devices.vga.vga_registers import AR_INDEX_SHOW

MODE_3 = MODES[3]


_MODE_3_DAC = dac(MODE_3.palette)
SEQUENCER_RUNNING = b"\x03" + MODE_3.sequencer[1:]
"""The mode's registers, with the sequencer not held in reset."""


@dataclass(slots=True)
class VgaState:
    """The registers; at power-on mode 3, as firmware leaves it."""

    crtc: bytearray = field(default_factory=lambda: bytearray(MODE_3.crtc), metadata=data(25, exact=True))
    sequencer: bytearray = field(default_factory=lambda: bytearray(SEQUENCER_RUNNING), metadata=data(5, exact=True))
    graphics: bytearray = field(default_factory=lambda: bytearray(MODE_3.graphics), metadata=data(9, exact=True))
    attribute: bytearray = field(default_factory=lambda: bytearray(MODE_3.attribute), metadata=data(21, exact=True))
    palette: bytearray = field(default_factory=lambda: bytearray(_MODE_3_DAC), metadata=data(768, exact=True))
    crtc_index: int = u8()
    sequencer_index: int = u8()
    graphics_index: int = u8()
    attribute_index: int = u8(AR_INDEX_SHOW)
    attribute_data_next: bool = flag()
    misc: int = u8(MODE_3.misc)
    feature: int = u8()
    enable: int = u8(1)
    dac_mask: int = u8(0xFF)
    dac_at: int = number(0, 767)
    dac_reading: bool = flag()
