"""The linear modes and their numbers, as every adapter with the Bochs interface has them.

Sources: VESA BIOS Extension 3.0, 3 "VBE mode numbers" for 100h to 11Bh; from 140h on the numbers that the BIOSes of
Bochs and QEMU use.
"""

from __future__ import annotations

from typing import NamedTuple


class LinearMode(NamedTuple):
    """One mode: number, pixels, bits per pixel."""

    number: int
    width: int
    height: int
    bits: int

    @property
    def pitch(self) -> int:
        """Bytes a line."""
        return self.width * (16 if self.bits == 15 else self.bits) // 8

    @property
    def size(self) -> int:
        """Bytes of the frame buffer that it shows."""
        return self.pitch * self.height


def _run(first: int, width: int, height: int, *depths: int) -> list[LinearMode]:
    return [LinearMode(first + n, width, height, bits) for n, bits in enumerate(depths)]


LINEAR_MODES = {
    mode.number: mode
    for run in (
        _run(0x100, 640, 400, 8),
        _run(0x101, 640, 480, 8),
        _run(0x102, 800, 600, 4, 8),
        _run(0x104, 1024, 768, 4, 8),
        _run(0x106, 1280, 1024, 4, 8),
        _run(0x10D, 320, 200, 15, 16, 24),
        _run(0x110, 640, 480, 15, 16, 24),
        _run(0x113, 800, 600, 15, 16, 24),
        _run(0x116, 1024, 768, 15, 16, 24),
        _run(0x119, 1280, 1024, 15, 16, 24),
        _run(0x11C, 1600, 1200, 8, 15, 16, 24),
        _run(0x140, 320, 200, 32),
        _run(0x141, 640, 400, 32),
        _run(0x142, 640, 480, 32),
        _run(0x143, 800, 600, 32),
        _run(0x144, 1024, 768, 32),
        _run(0x145, 1280, 1024, 32),
        _run(0x146, 320, 200, 8),
        _run(0x147, 1600, 1200, 32),
        _run(0x148, 1152, 864, 8, 15, 16, 24, 32),
        _run(0x175, 1280, 768, 16, 24, 32),
        _run(0x178, 1280, 800, 16, 24, 32),
        _run(0x17B, 1280, 960, 16, 24, 32),
        _run(0x17E, 1440, 900, 16, 24, 32),
        _run(0x181, 1400, 1050, 16, 24, 32),
        _run(0x184, 1680, 1050, 16, 24, 32),
        _run(0x187, 1920, 1200, 16, 24, 32),
        _run(0x18A, 2560, 1600, 16, 24, 32),
        _run(0x18D, 1280, 720, 16, 24, 32),
        _run(0x190, 1920, 1080, 16, 24, 32),
    )
    for mode in run
}
"""By number."""
