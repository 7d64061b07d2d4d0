"""Colours: what a pixel's or an attribute's number means, through the attribute controller and the DAC."""

from __future__ import annotations

from hypervisor.devices.vga import vga_registers as r
from hypervisor.devices.vga.adapter import Vga

Colour = tuple[int, int, int]
"""Red, green, blue, 8 bits each."""


def eight_bits(value: int) -> int:
    """A 6-bit DAC level as 8 bits: the two new bits repeat its lowest, so that 0 is black and 3Fh is FFh (as QEMU)."""
    value &= 0x3F
    return value << 2 | (value & 1) * 3


def dac(vga: Vga) -> list[Colour]:
    """The colours of the DAC's 256 inputs, behind its pixel mask."""
    s = vga.registers
    levels = s.palette if vga.dispi.eight_bit_dac else bytes(map(eight_bits, s.palette))
    entries = [(levels[n], levels[n + 1], levels[n + 2]) for n in range(0, 768, 3)]
    return entries if s.dac_mask == 0xFF else [entries[n & s.dac_mask] for n in range(256)]


def attributes(vga: Vga) -> list[Colour]:
    """The colours of the 16 attributes.

    IBM PS/2 Hardware Interface Technical Reference, "Attribute controller": the palette register gives 6 bits, the
    colour select register bits 7 and 6, and 5 and 4 too if mode control bit 7 says so.
    """
    s = vga.registers
    select, enabled = s.attribute[r.AR_COLOUR_SELECT], s.attribute[r.AR_PLANES] & 0xF
    colours = dac(vga)

    def entry(number: int) -> int:
        value = s.attribute[number & enabled]
        if r.AR_COLOUR_SELECT_LOW.of(s.attribute):
            return (select & 0xF) << 4 | value & 0xF
        return (select & 0xC) << 4 | value & 0x3F

    return [colours[entry(number)] for number in range(16)]


def text_colours(vga: Vga, attribute: int) -> tuple[int, int]:
    """Foreground and background of a text attribute, as numbers of `attributes`. A blinking character is shown."""
    background = attribute >> 4
    if r.AR_BLINK.of(vga.registers.attribute):
        background &= 7
    if r.AR_MONOCHROME.of(vga.registers.attribute):
        foreground, background = attribute & 0xF, attribute >> 4 & 7
        if (foreground & 7, background) == (0, 7):
            return 0, 7  # reverse
        return (foreground & 8 | 7 if foreground & 7 else foreground), 0
    return attribute & 0xF, background
