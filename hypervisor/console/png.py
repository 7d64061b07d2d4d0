"""Pictures as PNG files: one chunk of zlib, no filters (PNG specification, second edition, 5.2, 11.2)."""

from __future__ import annotations

import struct
import zlib

SIGNATURE = b"\x89PNG\r\n\x1a\n"
RGB_8 = (8, 2, 0, 0, 0)
"""Bit depth, colour type, compression, filter, interlace."""


def encode(width: int, height: int, pixels: bytes) -> bytes:
    """A PNG file of ``pixels``: rows from the top, red, green, blue for each pixel, 8 bits each."""
    stride = 3 * width
    rows = b"".join(b"\0" + pixels[start : start + stride] for start in range(0, height * stride, stride))
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", width, height, *RGB_8)), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return SIGNATURE + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
