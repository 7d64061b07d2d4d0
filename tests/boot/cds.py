"""Small bootable CDs, made from the El Torito specification."""

from __future__ import annotations

import struct

SECTOR = 2048
CATALOGUE, IMAGE = 18, 19


def catalogue(media: int = 0, segment: int = 0, count: int = 4, start: int = IMAGE, indicator: int = 0x88) -> bytearray:
    """A validation entry with its checksum, and a default entry."""
    validation = bytearray(struct.pack("<BBH24sH", 1, 0, 0, b"test", 0) + b"\x55\xaa")
    struct.pack_into("<H", validation, 28, -sum(struct.unpack("<16H", validation)) & 0xFFFF)
    entry = struct.pack("<BBHBBHI", indicator, media, segment, 0, 0, count, start)
    return bytearray((validation + entry).ljust(SECTOR, b"\0"))


def cd(image: bytes, entries: bytes | None = None, at: int = CATALOGUE) -> bytes:
    """A CD with a boot record in sector 17 and the boot image in sector `IMAGE`."""
    sectors = [bytes(SECTOR)] * 16
    sectors.append((b"\1CD001\1").ljust(SECTOR, b"\0"))
    sectors.append(
        (b"\0CD001\1" + b"EL TORITO SPECIFICATION".ljust(64, b"\0") + struct.pack("<I", at)).ljust(SECTOR, b"\0")
    )
    sectors.append(bytes(catalogue() if entries is None else entries))
    return b"".join(sectors) + image
