"""What cylinder, head and sector addresses mean for an image.

Sources: IBM PC and PS/2 diskette formats as in Intel 82077AA data sheet, table 6-2; Phoenix, Enhanced Disk Drive
Specification 3.0, "LBA-assisted translation"; Microsoft FAT specification 1.03, "BPB_SecPerTrk".
"""

from __future__ import annotations

import struct

from hypervisor.bus import Geometry

SECTOR = 512
FLOPPIES = {
    cylinders * heads * sectors * SECTOR: Geometry(cylinders, heads, sectors)
    for cylinders, heads, sectors in (
        (40, 1, 8),
        (40, 1, 9),
        (40, 2, 8),
        (40, 2, 9),
        (80, 2, 9),
        (80, 2, 15),
        (80, 2, 18),
        (80, 2, 36),
    )
}
"""Diskette formats by their size in bytes: 160, 180, 320, 360, 720 KB, 1.2, 1.44, 2.88 MB."""

PADDED_TO = (Geometry(80, 2, 18), Geometry(80, 2, 36))
"""Formats of an image that has no format's size, the smallest first: loaders that count sectors count 18 a track."""

FLOPPY_LIMIT = 80 * 2 * 36 * SECTOR
"""Bytes on the largest diskette."""

MAX_CYLINDERS, MAX_HEADS, MAX_SECTORS = 1024, 255, 63


def floppy_geometry(size: int, head: bytes) -> Geometry:
    """The format of a diskette image of ``size`` bytes, at most `FLOPPY_LIMIT`, whose first sector is ``head``.

    A format's own size says it. An image of another size is a diskette that was not padded: if it has a FAT parameter
    block, the format that the block describes; else the smaller of 1.44 and 2.88 MB that holds it.
    """
    if size in FLOPPIES:
        return FLOPPIES[size]
    block = parameter_block(head)
    for geometry in FLOPPIES.values():
        if block == (geometry.sectors, geometry.heads) and size <= geometry.total * SECTOR:
            return geometry
    return next(geometry for geometry in PADDED_TO if size <= geometry.total * SECTOR)


def disk_geometry(size: int, head: bytes) -> Geometry:
    """What a BIOS shows of a hard disk of ``size`` bytes whose first sector is ``head``.

    That of a diskette if the image has one's size; else the heads and sectors of a FAT parameter block, since such
    code computes with them; else 63 sectors a track and as few heads from 16 up as reach the whole disk within 1024
    cylinders.
    """
    if size in FLOPPIES:
        return FLOPPIES[size]
    total = -(-size // SECTOR)
    sectors, heads = parameter_block(head) or (MAX_SECTORS, 16)
    while heads < MAX_HEADS and total > MAX_CYLINDERS * heads * sectors:
        heads = min(heads * 2, MAX_HEADS)
    cylinders = min(max(-(-total // (heads * sectors)), 1), MAX_CYLINDERS)
    return Geometry(cylinders, heads, sectors)


def parameter_block(head: bytes) -> tuple[int, int] | None:
    """Sectors a track and heads of a FAT boot sector, or None if ``head`` is none."""
    if len(head) < SECTOR or head[0] not in (0xEB, 0xE9):
        return None
    (bytes_a_sector,) = struct.unpack_from("<H", head, 11)
    sectors, heads = struct.unpack_from("<HH", head, 24)
    good = bytes_a_sector == SECTOR and 1 <= sectors <= MAX_SECTORS and 1 <= heads <= MAX_HEADS
    return (sectors, heads) if good else None
