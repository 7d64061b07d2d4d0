"""A disk in memory: an image of any length, the geometry that a BIOS shows for it, and what the guest has written."""

from __future__ import annotations

import struct
from typing import NamedTuple

SECTOR = 512
FLOPPIES = {368640: (40, 2, 9), 737280: (80, 2, 9), 1228800: (80, 2, 15), 1474560: (80, 2, 18), 2949120: (80, 2, 36)}
"""Cylinders, heads and sectors a track by image size in bytes."""

MAX_CYLINDERS = 1024


class Geometry(NamedTuple):
    """Cylinders, heads, sectors a track."""

    cylinders: int
    heads: int
    sectors: int

    @property
    def total(self) -> int:
        """Sectors in all."""
        return self.cylinders * self.heads * self.sectors


def geometry_of(image: bytes) -> Geometry:
    """What CHS addresses mean for ``image``.

    That of a floppy if the image has a floppy's size; else the heads and sectors of a FAT boot sector's parameter
    block, since such code computes with them; else 63 sectors a track and as few heads from 16 up as reach the whole
    disk within 1024 cylinders.
    """
    if len(image) in FLOPPIES:
        return Geometry(*FLOPPIES[len(image)])
    total = -(-len(image) // SECTOR)
    sectors, heads = 63, 16
    if len(image) >= SECTOR and image[0] in (0xEB, 0xE9):
        bytes_a_sector, fat_sectors, fat_heads = (
            *struct.unpack_from("<H", image, 11),
            *struct.unpack_from("<HH", image, 24),
        )
        if bytes_a_sector == SECTOR and 1 <= fat_sectors <= 63 and 1 <= fat_heads <= 255:
            sectors, heads = fat_sectors, fat_heads
    while heads < 255 and total > MAX_CYLINDERS * heads * sectors:
        heads = min(heads * 2, 255)
    cylinders = min(max(-(-total // (heads * sectors)), 1), MAX_CYLINDERS)
    return Geometry(cylinders, heads, sectors)


class DiskImage:
    """Sectors by number. Writes stay in memory: the image itself is never changed.

    What lies beyond the image's end, up to the geometry's, reads as zeros.
    """

    def __init__(self, image: bytes) -> None:
        self.image = image
        self.geometry = geometry_of(image)
        self.sectors = max(self.geometry.total, -(-len(image) // SECTOR))
        self._written: dict[int, bytes] = {}

    def read(self, first: int, count: int) -> bytes:
        """``count`` sectors from ``first``, which must be on the disk."""
        return b"".join(self._read_one(number) for number in range(first, first + count))

    def write(self, first: int, data: bytes) -> None:
        """Keep whole sectors of ``data`` from sector ``first``, which must be on the disk."""
        for index in range(0, len(data), SECTOR):
            self._written[first + index // SECTOR] = data[index : index + SECTOR]

    def contains(self, first: int, count: int) -> bool:
        """Whether all of these sectors are on the disk."""
        return 0 <= first and first + count <= self.sectors

    def _read_one(self, number: int) -> bytes:
        written = self._written.get(number)
        return (
            written if written is not None else self.image[number * SECTOR : (number + 1) * SECTOR].ljust(SECTOR, b"\0")
        )
