"""Bootable CDs: the boot record and the boot catalogue, checked before anything of them is used.

Source: "El Torito" Bootable CD-ROM Format Specification 1.0 (Phoenix and IBM, 1995), sections 2 and 3.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

from hypervisor.bus import Medium

BOOT_RECORD = 17
"""The sector of the boot record volume descriptor."""
SYSTEM_ID = b"EL TORITO SPECIFICATION"
X86 = 0
BOOTABLE = 0x88
HEADER_ID = 0x01
KEY = b"\x55\xaa"
VIRTUAL_SECTOR = 512
DEFAULT_SEGMENT = 0x07C0
MAX_ADDRESS = 0xA0000
"""Where memory for a boot image ends."""


class Emulation(IntEnum):
    """How the boot image is shown to what boots from it ("Boot media type", figure 3)."""

    NONE = 0
    FLOPPY_1200 = 1
    FLOPPY_1440 = 2
    FLOPPY_2880 = 3
    HARD_DISK = 4


FLOPPY_SECTORS = {Emulation.FLOPPY_1200: 2400, Emulation.FLOPPY_1440: 2880, Emulation.FLOPPY_2880: 5760}


@dataclass(frozen=True)
class BootImage:
    """The default entry of a boot catalogue.

    ``segment`` is where the image is loaded, ``count`` how many sectors of 512 bytes, ``start`` the CD's sector where
    the image begins, ``system`` the partition type of a hard disk that is emulated.
    """

    emulation: Emulation
    segment: int
    system: int
    count: int
    start: int


class NotBootableError(ValueError):
    """A CD that cannot be booted; the text says why, as the end of a sentence."""


def parse(cd: Medium) -> BootImage:
    """The default boot image of ``cd``; raises `NotBootableError`."""
    if cd.sectors <= BOOT_RECORD:
        raise NotBootableError("it has no boot record")
    record = cd.read(BOOT_RECORD, 1)
    if record[:7] != b"\0CD001\1" or record[7:39].rstrip(b"\0") != SYSTEM_ID:
        raise NotBootableError("it has no El Torito boot record in sector 17")
    (catalogue,) = struct.unpack_from("<I", record, 0x47)
    if catalogue >= cd.sectors:
        raise NotBootableError(f"its boot catalogue would be in sector {catalogue}, beyond the end")
    entries = cd.read(catalogue, 1)
    _check_validation_entry(entries[:32])
    return _default_entry(entries[32:64], cd.sectors)


def _check_validation_entry(entry: bytes) -> None:
    if entry[0] != HEADER_ID or entry[30:32] != KEY:
        raise NotBootableError("its boot catalogue does not begin with a validation entry")
    if sum(struct.unpack("<16H", entry)) & 0xFFFF:
        raise NotBootableError("the checksum of its boot catalogue is wrong")
    if entry[1] != X86:
        raise NotBootableError(f"it boots on platform {entry[1]:#x}, not on a PC with a BIOS")


def _default_entry(entry: bytes, sectors: int) -> BootImage:
    indicator, media, segment, system, _, count, start = struct.unpack_from("<BBHBBHI", entry)
    if indicator != BOOTABLE:
        raise NotBootableError("the default entry of its boot catalogue is not bootable")
    if media & 0x0F > Emulation.HARD_DISK:
        raise NotBootableError(f"its boot image has the unknown media type {media & 0x0F}")
    if start >= sectors:
        raise NotBootableError(f"its boot image would begin in sector {start}, beyond the end")
    image = BootImage(Emulation(media & 0x0F), segment or DEFAULT_SEGMENT, system, max(count, 1), start)
    if image.segment * 16 + image.count * VIRTUAL_SECTOR > MAX_ADDRESS:
        raise NotBootableError(f"its boot image of {count} sectors at segment {image.segment:#x} exceeds 640 KiB")
    return image
