"""INT 13h: floppies, hard disks and the CD, by cylinder, head and sector and by logical block.

Sources: IBM PS/2 and PC BIOS Interface Technical Reference, section 2, "Interrupt 13h"; Phoenix, Enhanced Disk Drive
Specification 3.0; "El Torito" Bootable CD-ROM Format Specification 1.0, section 4 (4Bh). The sectors are those that the
disk controllers read and write, so a guest's own driver sees what these services do.

Beyond a PC's BIOS, floppies have the packet functions (41h to 48h), too: a kernel that was written for a hard disk then
boots from a small image.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps

from hypervisor.firmware.bios import bda
from hypervisor.firmware.bios.call import DONE, Call, Outcome
from hypervisor.firmware.bios.disk.drive_numbers import Drive, Drives, Kind
from hypervisor.firmware.bios.disk.specification_packet import status_packet
from hypervisor.firmware.bios.meter import SECTOR_NS, Meter
from hypervisor.firmware.bios.rom import DISKETTE_TABLE, SEGMENT
from hypervisor.firmware.bios.service import service

BAD_COMMAND = 0x01
WRITE_PROTECTED = 0x03
SECTOR_NOT_FOUND = 0x04
DISKETTE_CHANGED = 0x06
READ_ERROR = 0x10
NO_DISKETTE = 0x20
NOT_REMOVABLE = 0xB2
WRITE_FAULT = 0xCC
TRANSFER_SECTORS = 10
"""What a transfer takes longer, as so many sectors."""
MAX_SECTORS = 128
"""Sectors of one transfer by cylinder, head and sector (64 KiB)."""

DRIVE_TYPES = {40 * 9 * 2: 1, 80 * 15 * 2: 2, 80 * 9 * 2: 3, 80 * 18 * 2: 4, 80 * 36 * 2: 5}
"""BL of AH=08h by sectors of the diskette: 360 KB, 1.2 MB, 720 KB, 1.44 MB, 2.88 MB."""
NO_CHANGE_LINE, HARD_DISK = 1, 3
"""AH of AH=15h."""
EDD_3_0 = 0x30
PACKET_ACCESS, REMOVABLE_ACCESS = 1 << 0, 1 << 1
GEOMETRY_VALID, REMOVABLE, LOCKABLE = 1 << 1, 1 << 2, 1 << 5
"""Information flags of AH=48h."""
LAST_SECTOR = 4
"""Offset in the diskette parameter table of the number of a track's last sector."""
ALL_EMULATIONS = 0x7F
"""The drive number with which 4B00h ends every emulation."""
FLAT_BUFFER = 0xFFFFFFFF
"""A packet's segment:offset that says that its buffer is at the 64-bit address behind the sector number."""


BY_HEADS = (Kind.FLOPPY, Kind.DISK)
"""Drives with cylinders, heads and sectors."""
ALL = (*BY_HEADS, Kind.CD)


@dataclass(frozen=True)
class Transfer:
    """Sectors ``first`` to ``first + count`` and the linear address of the guest's buffer."""

    drive: Drive
    first: int
    count: int
    address: int


Mover = Callable[[Call, Transfer], None]


def _on_drive(*kinds: Kind) -> Callable[[Callable[[Disk, Call, Drive], Outcome]], Callable[[Disk, Call], Outcome]]:
    """A service of drives of these kinds; for another one, or for one that is not there, it is a bad command."""

    def declare(function: Callable[[Disk, Call, Drive], Outcome]) -> Callable[[Disk, Call], Outcome]:
        @wraps(function)
        def serve(disk: Disk, call: Call) -> Outcome:
            drive = disk.drives.find(call.regs.dl)
            if drive is None or drive.kind not in kinds:
                return disk.fail(call, BAD_COMMAND)
            return function(disk, call, drive)

        return serve

    return declare


class Disk:
    """The disk services of a machine's drives."""

    def __init__(self, area: bda.Bda, drives: Drives, meter: Meter) -> None:
        self.area = area
        self.drives = drives
        self.meter = meter

    def power_on(self) -> None:
        """Say in the BIOS data area how many drives there are, and in the diskette table what is in the first."""
        floppies, disks = len(self.drives.floppies), len(self.drives.disks)
        self.area.set_byte(bda.DISK_COUNT, disks)
        equipment = self.area.word(bda.EQUIPMENT) & ~(bda.EQUIPMENT_FLOPPY | bda.EQUIPMENT_FLOPPIES)
        if floppies and self.drives.floppies[0].sectors:
            sectors = self.drives.floppies[0].geometry.sectors
            self.area.set_byte((SEGMENT << 4) + DISKETTE_TABLE + LAST_SECTOR, sectors)
        if floppies:
            equipment |= bda.EQUIPMENT_FLOPPY | floppies - 1 << 6
        self.area.set_word(bda.EQUIPMENT, equipment)

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
    @service(0x13, 0x49, "was the medium changed? (it never is)")
    @_on_drive(*ALL)
    def _succeed(self, call: Call, drive: Drive) -> Outcome:
        return self._finish(call)

    @service(0x13, 0x16, "was the diskette changed? (it never is, unless the drive is empty)")
    @_on_drive(*ALL)
    def _changed(self, call: Call, drive: Drive) -> Outcome:
        return self._finish(call) if drive.medium.sectors else self.fail(call, DISKETTE_CHANGED)

    def _finish(self, call: Call) -> Outcome:
        self.area.set_byte(bda.DISK_STATUS, 0)
        call.regs.ah = 0
        return call.ok()

    def fail(self, call: Call, code: int) -> Outcome:
        """The call failed with status ``code``, which AH=01h tells again."""
        self.area.set_byte(bda.DISK_STATUS, code)
        return call.fail(code)

    # --- transfers ----------------------------------------------------------------------------------------------------

    @service(0x13, 0x02, "read sectors")
    @_on_drive(*BY_HEADS)
    def _read(self, call: Call, drive: Drive) -> Outcome:
        return self._transfer_chs(call, drive, _load)

    @service(0x13, 0x03, "write sectors")
    @_on_drive(*BY_HEADS)
    def _write(self, call: Call, drive: Drive) -> Outcome:
        return self._transfer_chs(call, drive, _store)

    @service(0x13, 0x04, "verify sectors")
    @_on_drive(*BY_HEADS)
    def _verify_sectors(self, call: Call, drive: Drive) -> Outcome:
        return self._transfer_chs(call, drive, _verify)

    @service(0x13, 0x42, "extended read")
    @_on_drive(*ALL)
    def _extended_read(self, call: Call, drive: Drive) -> Outcome:
        return self._transfer_packet(call, drive, _load)

    @service(0x13, 0x43, "extended write")
    @_on_drive(*ALL)
    def _extended_write(self, call: Call, drive: Drive) -> Outcome:
        return self._transfer_packet(call, drive, _store)

    @service(0x13, 0x44, "extended verify")
    @_on_drive(*ALL)
    def _extended_verify(self, call: Call, drive: Drive) -> Outcome:
        return self._transfer_packet(call, drive, _verify)

    def _transfer_chs(self, call: Call, drive: Drive, move: Mover) -> Outcome:
        regs = call.regs
        count = regs.al
        first = drive.medium.geometry.lba(regs.ch | (regs.cl & 0xC0) << 2, regs.dh, regs.cl & 0x3F)
        regs.al = 0
        if not 1 <= count <= MAX_SECTORS:
            return self.fail(call, BAD_COMMAND)
        if not drive.medium.sectors:
            return self.fail(call, NO_DISKETTE)
        if first is None or first + count > drive.medium.sectors:
            return self.fail(call, SECTOR_NOT_FOUND)
        error = _move(call, Transfer(drive, first, count, Call.linear(regs.es, regs.bx)), move, self.meter)
        if error:
            return self.fail(call, error)
        regs.al = count
        return self._finish(call)

    def _transfer_packet(self, call: Call, drive: Drive, move: Mover) -> Outcome:
        regs = call.regs
        size, _, count, offset, segment, first = struct.unpack("<BBHHHQ", call.read(regs.ds, regs.si, 16))
        if size < 16:
            return self.fail(call, BAD_COMMAND)
        address = (segment << 4) + offset
        if size >= 24 and segment << 16 | offset == FLAT_BUFFER:
            (address,) = struct.unpack("<Q", call.read(regs.ds, regs.si + 16, 8))
        if not drive.medium.sectors:
            error = NO_DISKETTE
        elif first + count > drive.medium.sectors:
            error = SECTOR_NOT_FOUND
        else:
            error = _move(call, Transfer(drive, first, count, address), move, self.meter)
        if error:
            call.write(regs.ds, regs.si + 2, bytes(2))  # no sector was moved
            return self.fail(call, error)
        return self._finish(call)

    # --- what a drive is ----------------------------------------------------------------------------------------------

    @service(0x13, 0x08, "drive parameters")
    @_on_drive(*BY_HEADS)
    def _parameters(self, call: Call, drive: Drive) -> Outcome:
        regs = call.regs
        cylinders, heads, sectors = drive.medium.geometry
        last = cylinders - 1
        regs.ch = last & 0xFF
        regs.cl = sectors | last >> 8 << 6
        regs.dh = heads - 1
        regs.al = 0
        if drive.kind is Kind.FLOPPY:
            regs.dl = len(self.drives.floppies)
            regs.bx = DRIVE_TYPES.get(drive.medium.geometry.total, 1)
            regs.set("es", SEGMENT)
            regs.di = DISKETTE_TABLE
        else:
            regs.dl = len(self.drives.disks)
        return self._finish(call)

    @service(0x13, 0x15, "drive type")
    @_on_drive(*BY_HEADS)
    def _type(self, call: Call, drive: Drive) -> Outcome:
        self._finish(call)
        if drive.kind is Kind.FLOPPY:
            call.regs.ah = NO_CHANGE_LINE
            return DONE
        total = min(drive.medium.sectors, 0xFFFFFFFF)
        call.regs.cx, call.regs.dx = total >> 16, total & 0xFFFF
        call.regs.ah = HARD_DISK  # the one function whose AH is not a status
        return DONE

    @service(0x13, 0x41, "are there extensions?")
    @_on_drive(*ALL)
    def _extensions(self, call: Call, drive: Drive) -> Outcome:
        if call.regs.bx != 0x55AA:
            return self.fail(call, BAD_COMMAND)
        self._finish(call)
        call.regs.ah = EDD_3_0
        call.regs.bx = 0xAA55
        call.regs.cx = PACKET_ACCESS | (REMOVABLE_ACCESS if drive.kind is Kind.CD else 0)
        return DONE

    @service(0x13, 0x48, "extended drive parameters")
    @_on_drive(*ALL)
    def _extended_parameters(self, call: Call, drive: Drive) -> Outcome:
        regs = call.regs
        (room,) = struct.unpack("<H", call.read(regs.ds, regs.si, 2))
        if room < 26:
            return self.fail(call, BAD_COMMAND)
        medium = drive.medium
        flags, geometry = (REMOVABLE | LOCKABLE, (0, 0, 0)) if drive.kind is Kind.CD else (GEOMETRY_VALID, _edd(drive))
        size = 30 if room >= 30 else 26
        result = struct.pack("<HHIIIQHI", size, flags, *geometry, medium.sectors, medium.sector_size, 0xFFFFFFFF)
        call.write(regs.ds, regs.si, result[:size])
        return self._finish(call)

    @service(0x13, 0x45, "lock and unlock the drive")
    @_on_drive(*ALL)
    def _lock(self, call: Call, drive: Drive) -> Outcome:
        """Lock, unlock, status (AL = 0, 1, 2): nothing here can be taken out, locked or not."""
        return self.fail(call, NOT_REMOVABLE) if drive.kind is not Kind.CD else self._finish(call)

    # --- El Torito ----------------------------------------------------------------------------------------------------

    @service(0x13, 0x4B, "El Torito: status (4B01h), and end of the emulation (4B00h)")
    def _el_torito(self, call: Call) -> Outcome:
        image, drive = self.drives.emulated, self.drives.find(call.regs.dl)
        if image is None or call.regs.al > 1:
            return self.fail(call, BAD_COMMAND)
        if drive is not None:
            call.write(call.regs.ds, call.regs.si, status_packet(image, drive))
        elif (call.regs.al, call.regs.dl) != (0, ALL_EMULATIONS):
            return self.fail(call, BAD_COMMAND)
        if call.regs.al == 0:
            self.drives.end_emulation()
        return self._finish(call)


def _edd(drive: Drive) -> tuple[int, int, int]:
    """Cylinders, heads and sectors, which EDD does not limit to 1024 cylinders."""
    cylinders, heads, sectors = drive.medium.geometry
    return max(cylinders, min(drive.medium.sectors // (heads * sectors), 0xFFFFFFFF)), heads, sectors


def _move(call: Call, transfer: Transfer, move: Mover, meter: Meter) -> int:
    """0, or the status of what the host could not do."""
    meter.add((TRANSFER_SECTORS + transfer.count) * SECTOR_NS)
    medium = transfer.drive.medium
    begun = getattr(medium, "begun", None)  # of a disk with limits
    try:
        if begun is not None:
            meter.add(begun(transfer.count * medium.sector_size, move is _store))
        move(call, transfer)
    except PermissionError:
        return WRITE_PROTECTED
    except OSError:
        return WRITE_FAULT if move is _store else READ_ERROR
    return 0


def _load(call: Call, transfer: Transfer) -> None:
    call.regs.write(transfer.address, transfer.drive.medium.read(transfer.first, transfer.count))


def _store(call: Call, transfer: Transfer) -> None:
    medium = transfer.drive.medium
    medium.write(transfer.first, bytes(call.regs.read(transfer.address, transfer.count * medium.sector_size)))


def _verify(call: Call, transfer: Transfer) -> None:
    """What can be read is good."""
    transfer.drive.medium.read(transfer.first, transfer.count)
