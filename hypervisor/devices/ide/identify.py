"""What IDENTIFY DEVICE and IDENTIFY PACKET DEVICE answer (ATA/ATAPI-6, 8.15 and 8.16): words, as a table."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from hypervisor.devices.ide import ata_registers as r

if TYPE_CHECKING:
    from hypervisor.devices.ide.disk import AtaDisk
    from hypervisor.devices.ide.drive import DriveState

FIRMWARE = "1.0"
MAX_LBA28 = (1 << 28) - 1


def identify_disk(disk: AtaDisk) -> bytes:
    """The 512 bytes of IDENTIFY DEVICE."""
    s, sectors = disk.s, disk.medium.sectors
    cylinders, heads, per_track = disk.default
    current = disk.translation
    capacity = min(current.total, sectors)
    words = {
        0: 0x0040,  # a fixed drive
        1: cylinders,
        3: heads,
        6: per_track,
        47: 0x8000 | 16,  # sectors of a block of READ MULTIPLE, at most
        49: 1 << 11 | 1 << 9 | 1 << 8,  # IORDY, LBA, DMA
        50: 0x4000,
        53: 0x0007,  # words 54 to 58, 64 to 70 and 88 are valid
        54: current.cylinders,
        55: current.heads,
        56: current.sectors,
        57: capacity & 0xFFFF,
        58: capacity >> 16 & 0xFFFF,
        59: 0x0100 | s.multiple if s.multiple else 0,
        60: min(sectors, MAX_LBA28) & 0xFFFF,
        61: min(sectors, MAX_LBA28) >> 16,
        80: 0x0070 | (disk.thin << 7),  # ATA/ATAPI-4 to -6; drivers ask for TRIM from -7 on
        82: 0x4020,  # NOP, write cache
        83: 0x7400,  # FLUSH CACHE EXT, FLUSH CACHE, 48-bit addresses
        84: 0x4000,
        85: 0x4000 | s.cache << 5,
        86: 0x3400,
        87: 0x4000,
        93: 0x600B,  # hardware reset passed
        105: int(disk.thin),  # blocks of one TRIM, at most
        169: int(disk.thin),  # TRIM
        **{100 + n: sectors >> 16 * n & 0xFFFF for n in range(4)},
        **_modes(s),
    }
    return _words(words, disk.serial, "Virtual disk")


def identify_cdrom(s: DriveState, serial: str) -> bytes:
    """The 512 bytes of IDENTIFY PACKET DEVICE."""
    words = {
        0: 0x85C0,  # a packet device, CD-ROM, removable, DRQ within 50 us, packets of 12 bytes
        49: 1 << 11 | 1 << 9 | 1 << 8,
        50: 0x4000,
        53: 0x0006,
        80: 0x0070,
        82: 0x4210,  # NOP, DEVICE RESET, PACKET
        83: 0x4000,
        84: 0x4000,
        85: 0x4210,
        87: 0x4000,
        93: 0x600B,
        **_modes(s),
    }
    return _words(words, serial, "Virtual CD-ROM")


def _modes(s: DriveState) -> dict[int, int]:
    """Transfer modes: those that there are, and the one that was chosen."""
    number = 1 << 8 + (s.transfer_mode & 7)
    return {
        63: 0x07 | (number if s.transfer_mode & ~7 == r.MULTIWORD_DMA else 0),
        64: 0x03,  # PIO 3 and 4
        65: 120,  # cycle times in ns
        66: 120,
        67: 120,
        68: 120,
        88: 0x3F | (number if s.transfer_mode & ~7 == r.ULTRA_DMA else 0),
    }


def _words(words: dict[int, int], serial: str, model: str) -> bytes:
    table = bytearray(512)
    for number, value in words.items():
        struct.pack_into("<H", table, 2 * number, value)
    for first, length, text in ((10, 20, serial.rjust(20)), (23, 8, FIRMWARE), (27, 40, model)):
        table[2 * first : 2 * first + length] = _swapped(text, length)
    return bytes(table)


def _swapped(text: str, length: int) -> bytes:
    """ASCII with the bytes of each word exchanged, as IDENTIFY has it."""
    padded = text.ljust(length).encode("ascii")[:length]
    return b"".join(padded[n + 1 : n + 2] + padded[n : n + 1] for n in range(0, length, 2))
