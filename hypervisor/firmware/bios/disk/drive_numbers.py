"""Drives by their BIOS numbers: floppies from 00h, hard disks from 80h, the CD at E0h, and what El Torito emulates.

Sources: "El Torito" Bootable CD-ROM Format Specification 1.0, section 1.2; Phoenix, Enhanced Disk Drive Specification
3.0. E0h is the number that SeaBIOS gives a CD.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

from hypervisor.backends.disk_geometry import FLOPPIES, SECTOR, disk_geometry
from hypervisor.backends.disk_image import ImageMedium
from hypervisor.backends.el_torito import FLOPPY_SECTORS, BootImage, Emulation
from hypervisor.backends.image_source import Window
from hypervisor.bus import Geometry, Medium

FIRST_FLOPPY, FIRST_DISK, CD = 0x00, 0x80, 0xE0


class Kind(Enum):
    """What a drive is."""

    FLOPPY = auto()
    DISK = auto()
    CD = auto()


@dataclass(frozen=True)
class Drive:
    """A drive as INT 13h sees it."""

    number: int
    kind: Kind
    medium: Medium


class Drives:
    """The drives of a machine, in the order of their numbers."""

    def __init__(
        self, floppies: Sequence[Medium] = (), disks: Sequence[Medium] = (), cd: ImageMedium | None = None
    ) -> None:
        self._floppies = list(floppies)
        self._disks = list(disks)
        self.cd = cd
        self.emulated: BootImage | None = None
        """The CD's boot image while the CD is booted from."""
        self._emulation: Drive | None = None

    @property
    def floppies(self) -> list[Medium]:
        """Diskettes; an emulated one comes first and pushes the others to the next numbers."""
        return self._with_emulated(Kind.FLOPPY, self._floppies)

    @property
    def disks(self) -> list[Medium]:
        """Hard disks; an emulated one comes first and pushes the others to the next numbers."""
        return self._with_emulated(Kind.DISK, self._disks)

    def find(self, number: int) -> Drive | None:
        """The drive of this number, or None."""
        if number == CD:
            return None if self.cd is None else Drive(CD, Kind.CD, self.cd)
        kind, first, media = (
            (Kind.DISK, FIRST_DISK, self.disks) if number & 0x80 else (Kind.FLOPPY, FIRST_FLOPPY, self.floppies)
        )
        index = number - first
        return Drive(number, kind, media[index]) if index < len(media) else None

    def emulate(self, image: BootImage) -> int:
        """Boot from the CD with ``image``; returns the number of the drive that was booted from."""
        assert self.cd is not None
        self.emulated = image
        self._emulation = None if image.emulation is Emulation.NONE else _emulation(self.cd, image)
        return CD if self._emulation is None else self._emulation.number

    def end_emulation(self) -> None:
        """The drives get their own numbers back."""
        self.emulated = self._emulation = None

    def _with_emulated(self, kind: Kind, media: list[Medium]) -> list[Medium]:
        emulation = self._emulation
        return media if emulation is None or emulation.kind is not kind else [emulation.medium, *media]


def _emulation(cd: ImageMedium, image: BootImage) -> Drive:
    """The drive whose sectors are the boot image on the CD."""
    offset = image.start * cd.sector_size
    if image.emulation in FLOPPY_SECTORS:
        size = FLOPPY_SECTORS[image.emulation] * SECTOR
        medium = ImageMedium(Window(cd.source, offset, size), size // SECTOR, FLOPPIES[size], writable=False)
        return Drive(FIRST_FLOPPY, Kind.FLOPPY, medium)
    table = cd.source.read(offset, SECTOR)
    geometry = _partition_geometry(table) or disk_geometry(cd.source.size - offset, table)
    source = Window(cd.source, offset, geometry.total * SECTOR)
    return Drive(FIRST_DISK, Kind.DISK, ImageMedium(source, geometry.total, geometry, writable=False))


def _partition_geometry(table: bytes) -> Geometry | None:
    """What the end of the first partition says (El Torito, section 3.2.2: its size is the disk's)."""
    head, sector, cylinder = table[446 + 5], table[446 + 6] & 0x3F, table[446 + 7] | (table[446 + 6] & 0xC0) << 2
    return Geometry(cylinder + 1, head + 1, sector) if table[446 + 4] and sector else None
