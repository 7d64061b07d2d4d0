"""What the VGA remembers beside its memory."""

from __future__ import annotations

from hypervisor.arch.vga_modes import MODES, dac
from hypervisor.devices.vga.vga_registers import AR_INDEX_SHOW
from hypervisor.state import data, flag, number, record, u8

MODE_3 = MODES[3]


_MODE_3_DAC = dac(MODE_3.palette)
SEQUENCER_RUNNING = b"\x03" + MODE_3.sequencer[1:]
"""The mode's registers, with the sequencer not held in reset."""


@record
class VgaState:
    """The registers; at power-on mode 3, as firmware leaves it."""

    crtc: bytearray = data(25, MODE_3.crtc, exact=True)
    sequencer: bytearray = data(5, SEQUENCER_RUNNING, exact=True)
    graphics: bytearray = data(9, MODE_3.graphics, exact=True)
    attribute: bytearray = data(21, MODE_3.attribute, exact=True)
    palette: bytearray = data(768, _MODE_3_DAC, exact=True)
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
