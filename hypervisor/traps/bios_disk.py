"""INT 13h: drive 80h, by cylinder, head and sector and by logical block.

Sources: IBM PS/2 and PC BIOS Interface Technical Reference, section 2, "Interrupt 13h"; Phoenix, Enhanced Disk Drive
Specification 3.0. Writes change the drive as the guest sees it, never the image file.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import wraps

from hypervisor.traps import bios_bda as bda
from hypervisor.traps.bios_call import DONE, Call, Outcome
from hypervisor.traps.bios_disk_image import SECTOR, DiskImage
from hypervisor.traps.bios_table import service

DRIVE = 0x80
BAD_COMMAND = 0x01
SECTOR_NOT_FOUND = 0x04
MAX_SECTORS = 128
"""Sectors of one transfer (64 KiB); a larger count is a bad command."""


def _on_drive(function: Callable[[Disk, Call, DiskImage], Outcome]) -> Callable[[Disk, Call], Outcome]:
    """A service of drive `DRIVE`; for another one it is a bad command."""

    @wraps(function)
    def serve(disk: Disk, call: Call) -> Outcome:
        if disk.image is None or call.regs.dl != DRIVE:
            return disk._fail(call, BAD_COMMAND)
        return function(disk, call, disk.image)

    return serve


class Disk:
    """The disk services; ``image`` None means that there is no drive."""

    def __init__(self, area: bda.Bda, image: DiskImage | None) -> None:
        self.area = area
        self.image = image

    @service(0x13, 0x01, "status of the last call")
    def _status(self, call: Call) -> Outcome:
        status = self.area.byte(bda.DISK_STATUS)
        return call.fail(status) if status else self._finish(call)

    @service(0x13, 0x00, "reset")
    @service(0x13, 0x0C, "seek")
    @service(0x13, 0x0D, "reset hard disk")
    @service(0x13, 0x10, "is the drive ready?")
    @service(0x13, 0x11, "recalibrate")
    @service(0x13, 0x14, "diagnose")
    @service(0x13, 0x47, "extended seek")
    @_on_drive
    def _succeed(self, call: Call, disk: DiskImage) -> Outcome:
        return self._finish(call)

    def _finish(self, call: Call) -> Outcome:
        self.area.set_byte(bda.DISK_STATUS, 0)
        call.regs.ah = 0
        return call.ok()

    def _fail(self, call: Call, code: int) -> Outcome:
        self.area.set_byte(bda.DISK_STATUS, code)
        return call.fail(code)

    @service(0x13, 0x02, "read sectors")
    @_on_drive
    def _read(self, call: Call, disk: DiskImage) -> Outcome:
        return self._transfer_chs(call, disk, self._load)

    @service(0x13, 0x03, "write sectors")
    @_on_drive
    def _write(self, call: Call, disk: DiskImage) -> Outcome:
        return self._transfer_chs(call, disk, self._store)

    @service(0x13, 0x04, "verify sectors")
    @_on_drive
    def _verify_sectors(self, call: Call, disk: DiskImage) -> Outcome:
        return self._transfer_chs(call, disk, self._verify)

    @service(0x13, 0x42, "extended read")
    @_on_drive
    def _extended_read(self, call: Call, disk: DiskImage) -> Outcome:
        return self._transfer_lba(call, disk, self._load)

    @service(0x13, 0x43, "extended write")
    @_on_drive
    def _extended_write(self, call: Call, disk: DiskImage) -> Outcome:
        return self._transfer_lba(call, disk, self._store)

    @service(0x13, 0x44, "extended verify")
    @_on_drive
    def _extended_verify(self, call: Call, disk: DiskImage) -> Outcome:
        return self._transfer_lba(call, disk, self._verify)

    def _transfer_chs(
        self, call: Call, disk: DiskImage, move: Callable[[Call, DiskImage, int, int, int], None]
    ) -> Outcome:
        regs = call.regs
        count, head, sector = regs.al, regs.dh, regs.cl & 0x3F
        cylinder = regs.ch | (regs.cl & 0xC0) << 2
        geometry = disk.geometry
        if not 1 <= count <= MAX_SECTORS:
            regs.al = 0
            return self._fail(call, BAD_COMMAND)
        first = (cylinder * geometry.heads + head) * geometry.sectors + sector - 1
        reachable = head < geometry.heads and 1 <= sector <= geometry.sectors
        if not reachable or not disk.contains(first, count):
            regs.al = 0
            return self._fail(call, SECTOR_NOT_FOUND)
        move(call, disk, first, count, Call.linear(regs.es, regs.bx))
        return self._finish(call)

    def _transfer_lba(
        self, call: Call, disk: DiskImage, move: Callable[[Call, DiskImage, int, int, int], None]
    ) -> Outcome:
        regs = call.regs
        packet = call.read(regs.ds, regs.si, 16)
        size, _, count, offset, segment, first = struct.unpack("<BBHHHQ", packet)
        if size < 16 or not 1 <= count <= MAX_SECTORS - 1:
            return self._fail(call, BAD_COMMAND)
        if not disk.contains(first, count):
            call.write(regs.ds, regs.si + 2, struct.pack("<H", 0))
            return self._fail(call, SECTOR_NOT_FOUND)
        move(call, disk, first, count, (segment << 4) + offset)
        return self._finish(call)

    @staticmethod
    def _load(call: Call, disk: DiskImage, first: int, count: int, address: int) -> None:
        call.regs.write(address, disk.read(first, count))

    @staticmethod
    def _store(call: Call, disk: DiskImage, first: int, count: int, address: int) -> None:
        disk.write(first, bytes(call.regs.read(address, count * SECTOR)))

    @staticmethod
    def _verify(call: Call, disk: DiskImage, first: int, count: int, address: int) -> None:
        """Memory sectors are good sectors."""

    @service(0x13, 0x08, "drive parameters")
    @_on_drive
    def _parameters(self, call: Call, disk: DiskImage) -> Outcome:
        cylinders, heads, sectors = disk.geometry
        last = cylinders - 1
        call.regs.ch = last & 0xFF
        call.regs.cl = sectors | last >> 8 << 6
        call.regs.dh = heads - 1
        call.regs.dl = 1
        call.regs.al = 0
        return self._finish(call)

    @service(0x13, 0x15, "drive type")
    @_on_drive
    def _type(self, call: Call, disk: DiskImage) -> Outcome:
        total = disk.geometry.total
        call.regs.cx, call.regs.dx = total >> 16, total & 0xFFFF
        self._finish(call)
        call.regs.ah = 3  # a hard disk; the one function whose AH is not a status
        return DONE

    @service(0x13, 0x41, "are there extensions?")
    @_on_drive
    def _extensions(self, call: Call, disk: DiskImage) -> Outcome:
        if call.regs.bx != 0x55AA:
            return self._fail(call, BAD_COMMAND)
        self._finish(call)
        call.regs.ah = 0x30  # EDD 3.0
        call.regs.bx = 0xAA55
        call.regs.cx = 1  # packet access only
        return DONE

    @service(0x13, 0x48, "extended drive parameters")
    @_on_drive
    def _extended_parameters(self, call: Call, disk: DiskImage) -> Outcome:
        regs = call.regs
        (room,) = struct.unpack("<H", call.read(regs.ds, regs.si, 2))
        if room < 26:
            return self._fail(call, BAD_COMMAND)
        geometry = disk.geometry
        result = struct.pack("<HHIIIQH", 26, 2, *geometry, disk.sectors, SECTOR)  # flag bit 1: the geometry is valid
        call.write(regs.ds, regs.si, result)
        return self._finish(call)
