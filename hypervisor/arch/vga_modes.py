"""The standard VGA modes as data: the registers that a BIOS sets for each, and the colours it loads.

Sources: IBM PS/2 Hardware Interface Technical Reference, "Video subsystem" (the table of register values per mode and
the default colours); IBM VGA/XGA Technical Reference, section 2.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple


class ModeRegisters(NamedTuple):
    """One mode of INT 10h AH=00h."""

    number: int
    columns: int
    rows: int
    character_height: int
    """In scan lines."""
    page_bytes: int
    """How far apart display pages lie, as the BIOS data area says it."""
    misc: int
    sequencer: bytes
    """Registers 0 to 4."""
    crtc: bytes
    """Registers 0 to 18h."""
    attribute: bytes
    """Registers 0 to 14h."""
    graphics: bytes
    """Registers 0 to 8."""
    palette: str
    """Which of `dac` the mode loads."""

    @property
    def is_text(self) -> bool:
        """Whether it shows characters (bit 0 of graphics register 6 is clear)."""
        return not self.graphics[6] & 1


def _mode(
    number: int, shape: tuple[int, int, int, int], misc: int, rows: tuple[str, str, str, str], palette: str
) -> ModeRegisters:
    sequencer, crtc, attribute, graphics = (bytes.fromhex(row) for row in rows)
    return ModeRegisters(number, *shape, misc, sequencer, crtc, attribute, graphics, palette)


_TEXT_COLOURS = "00 01 02 03 04 05 14 07 38 39 3a 3b 3c 3d 3e 3f"
_CGA_COLOURS = "00 01 02 03 04 05 06 07 10 11 12 13 14 15 16 17"
_CRTC_40 = "2d 27 28 90 2b a0 bf 1f 00 4f 0d 0e 00 00 00 00 9c 8e 8f 14 1f 96 b9 a3 ff"
_CRTC_80 = "5f 4f 50 82 55 81 bf 1f 00 4f 0d 0e 00 00 00 00 9c 8e 8f 28 1f 96 b9 a3 ff"
_CRTC_350 = "5f 4f 50 82 54 80 bf 1f 00 40 00 00 00 00 00 00 83 85 5d 28 0f 63 ba e3 ff"
_CRTC_480 = "5f 4f 50 82 54 80 0b 3e 00 40 00 00 00 00 00 00 ea 8c df 28 00 e7 04 e3 ff"
_GRAPHICS_TEXT = "00 00 00 00 00 10 0e 00 ff"
_PLANAR = "00 00 00 00 00 00 05 0f ff"

_TEXT_40 = ("00 08 03 00 02", _CRTC_40, f"{_TEXT_COLOURS} 0c 00 0f 08 00", _GRAPHICS_TEXT)
_TEXT_80 = ("00 00 03 00 02", _CRTC_80, f"{_TEXT_COLOURS} 0c 00 0f 08 00", _GRAPHICS_TEXT)
_CGA_4 = (
    "00 09 03 00 02",
    "2d 27 28 90 2b 80 bf 1f 00 c1 00 00 00 00 00 00 9c 8e 8f 14 00 96 b9 a2 ff",
    "00 13 15 17 02 04 06 07 10 11 12 13 14 15 16 17 01 00 03 00 00",
    "00 00 00 00 00 30 0f 00 ff",
)

MODES = {
    mode.number: mode
    for mode in (
        _mode(0x00, (40, 25, 16, 0x0800), 0x67, _TEXT_40, "ega"),
        _mode(0x01, (40, 25, 16, 0x0800), 0x67, _TEXT_40, "ega"),
        _mode(0x02, (80, 25, 16, 0x1000), 0x67, _TEXT_80, "ega"),
        _mode(0x03, (80, 25, 16, 0x1000), 0x67, _TEXT_80, "ega"),
        _mode(0x04, (40, 25, 8, 0x4000), 0x63, _CGA_4, "cga"),
        _mode(0x05, (40, 25, 8, 0x4000), 0x63, _CGA_4, "cga"),
        _mode(
            0x06,
            (80, 25, 8, 0x4000),
            0x63,
            (
                "00 01 01 00 06",
                "5f 4f 50 82 54 80 bf 1f 00 c1 00 00 00 00 00 00 9c 8e 8f 28 00 96 b9 c2 ff",
                f"00 {'17 ' * 15} 01 00 01 00 00",
                "00 00 00 00 00 00 0d 00 ff",
            ),
            "cga",
        ),
        _mode(
            0x07,
            (80, 25, 16, 0x1000),
            0x66,
            (
                "00 00 03 00 02",
                "5f 4f 50 82 55 81 bf 1f 00 4f 0d 0e 00 00 00 00 9c 8e 8f 28 0d 96 b9 a3 ff",
                f"00 {'08 ' * 7} 10 {'18 ' * 7} 0e 00 0f 08 00",
                "00 00 00 00 00 10 0a 00 ff",
            ),
            "mono",
        ),
        _mode(
            0x0D,
            (40, 25, 8, 0x2000),
            0x63,
            (
                "00 09 0f 00 06",
                "2d 27 28 90 2b 80 bf 1f 00 c0 00 00 00 00 00 00 9c 8e 8f 14 00 96 b9 e3 ff",
                f"{_CGA_COLOURS} 01 00 0f 00 00",
                _PLANAR,
            ),
            "cga",
        ),
        _mode(
            0x0E,
            (80, 25, 8, 0x4000),
            0x63,
            (
                "00 01 0f 00 06",
                "5f 4f 50 82 54 80 bf 1f 00 c0 00 00 00 00 00 00 9c 8e 8f 28 00 96 b9 e3 ff",
                f"{_CGA_COLOURS} 01 00 0f 00 00",
                _PLANAR,
            ),
            "cga",
        ),
        _mode(
            0x0F,
            (80, 25, 14, 0x8000),
            0xA2,
            (
                "00 01 0f 00 06",
                _CRTC_350,
                "00 08 00 00 18 18 00 00 00 08 00 00 00 18 00 00 0b 00 05 00 00",
                "00 00 00 00 00 00 05 05 ff",
            ),
            "mono",
        ),
        _mode(
            0x10,
            (80, 25, 14, 0x8000),
            0xA3,
            ("00 01 0f 00 06", _CRTC_350, f"{_TEXT_COLOURS} 01 00 0f 00 00", _PLANAR),
            "ega",
        ),
        _mode(
            0x11,
            (80, 30, 16, 0xA000),
            0xE3,
            ("00 01 0f 00 06", _CRTC_480, f"{'00 3f ' * 8} 01 00 0f 00 00", "00 00 00 00 00 00 05 01 ff"),
            "ega",
        ),
        _mode(
            0x12,
            (80, 30, 16, 0xA000),
            0xE3,
            ("00 01 0f 00 06", _CRTC_480, f"{_TEXT_COLOURS} 01 00 0f 00 00", _PLANAR),
            "ega",
        ),
        _mode(
            0x13,
            (40, 25, 8, 0x2000),
            0x63,
            (
                "00 01 0f 00 0e",
                "5f 4f 50 82 54 80 bf 1f 00 41 00 00 00 00 00 00 9c 8e 8f 28 40 96 b9 a3 ff",
                "00 01 02 03 04 05 06 07 08 09 0a 0b 0c 0d 0e 0f 41 00 0f 00 00",
                "00 00 00 00 00 40 05 0f ff",
            ),
            "256",
        ),
    )
}
"""By number. Mode 0Bh and 0Ch are not modes of a VGA."""

_NORMAL, _STRONG = 0x2A, 0x15


def _ega(index: int) -> tuple[int, int, int]:
    """Two bits for each of red, green and blue: 2Ah for bits 2, 1, 0 and 15h more for bits 5, 4, 3."""
    red, green, blue = (_NORMAL * (index >> bit & 1) + _STRONG * (index >> bit + 3 & 1) for bit in (2, 1, 0))
    return red, green, blue


def _cga(index: int) -> tuple[int, int, int]:
    """Bits 2 to 0 are red, green, blue and bit 4 is intensity; dark yellow is brown."""
    red, green, blue = (_NORMAL * (index >> bit & 1) + _STRONG * (index >> 4 & 1) for bit in (2, 1, 0))
    return (red, _STRONG if index & 0x17 == 6 else green, blue)


def _mono(index: int) -> tuple[int, int, int]:
    level = (0x00, 0x2A, 0x00, 0x3F)[index >> 3 & 3]
    return level, level, level


_GREYS = bytes.fromhex("00 05 08 0b 0e 11 14 18 1c 20 24 28 2d 32 38 3f")
_RAMPS = (
    "00 10 1f 2f 3f", "1f 27 2f 37 3f", "2d 31 36 3a 3f",
    "00 07 0e 15 1c", "0e 11 15 18 1c", "14 16 18 1a 1c",
    "00 04 08 0c 10", "08 0a 0c 0e 10", "0b 0c 0d 0f 10",
)  # fmt: skip
"""Mode 13h: three brightnesses of three saturations, each with 24 hues from blue over red and green to cyan."""


def _wheel(ramp: bytes) -> list[tuple[int, int, int]]:
    low, high = ramp[0], ramp[4]
    up, down = ramp[:4], ramp[:0:-1]
    return [
        *((level, low, high) for level in up),  # blue to magenta
        *((high, low, level) for level in down),  # to red
        *((high, level, low) for level in up),  # to yellow
        *((level, high, low) for level in down),  # to green
        *((low, high, level) for level in up),  # to cyan
        *((low, level, high) for level in down),  # and back to blue
    ]


@cache
def dac(palette: str) -> bytes:
    """The DAC's 256 entries (red, green, blue, 6 bits each) that the modes of this ``palette`` start with."""
    if palette == "256":
        entries = [_cga(n & 7 | (n & 8) << 1) for n in range(16)]
        entries += [(level, level, level) for level in _GREYS]
        for ramp in _RAMPS:
            entries += _wheel(bytes.fromhex(ramp))
    else:
        rule = {"ega": _ega, "cga": _cga, "mono": _mono}[palette]
        entries = [rule(index) for index in range(64)]
    return b"".join(map(bytes, entries)).ljust(768, b"\0")
