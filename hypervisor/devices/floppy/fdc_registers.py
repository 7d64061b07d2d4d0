"""The 82077AA's registers, status bits and commands (Intel 82077AA data sheet, 290166, sections 2 and 5)."""

from __future__ import annotations

from typing import NamedTuple

from hypervisor.devices.parts.common import Register

SIZE = 8
"""Bytes of the window, from 3f0h; offset 6 (3f6h) belongs to the disk controller."""

SRA, SRB, DOR, TDR, MSR, FIFO, DIR = 0, 1, 2, 3, 4, 5, 7
DSR, CCR = MSR, DIR
REGISTERS = (
    Register(DOR, "DIGITAL OUTPUT", "rw", "bits 1:0: drive; 2: not reset; 3: interrupt and DMA on; 7:4: motors"),
    Register(TDR, "TAPE DRIVE", "rw", "bits 1:0"),
    Register(
        MSR, "MAIN STATUS", "r", "bit 7: the FIFO is ready; 6: to be read; 5: no DMA; 4: busy; 3:0: drives that seek"
    ),
    Register(DSR, "DATA RATE SELECT", "w", "bit 7: reset"),
    Register(FIFO, "DATA", "rw", "commands, results, and data without DMA"),
    Register(DIR, "DIGITAL INPUT", "r", "bit 7: the diskette may have been changed"),
    Register(CCR, "CONFIGURATION CONTROL", "w", "bits 1:0: data rate, which makes no difference"),
)

IDLE, EXECUTING, RESULT, TO_HOST, FROM_HOST = range(5)
"""Phases: waiting for a command's bytes, busy, showing results, moving data without DMA."""

NOT_RESET, GATE = 0x04, 0x08
RQM, DIO, NON_DMA, BUSY = 0x80, 0x40, 0x20, 0x10
DSR_RESET = 0x80
CHANGED = 0x80

ST0_ABNORMAL, ST0_INVALID, ST0_READY_CHANGED, ST0_SEEK_END, ST0_EQUIPMENT = 0x40, 0x80, 0xC0, 0x20, 0x10
ST1_END, ST1_DATA_ERROR, ST1_NO_DATA, ST1_PROTECTED, ST1_NO_ADDRESS = 0x80, 0x20, 0x04, 0x02, 0x01
ST2_WRONG_CYLINDER = 0x10
ST3_PROTECTED, ST3_READY, ST3_TRACK_0, ST3_TWO_SIDES = 0x40, 0x20, 0x10, 0x08

VERSION_82077 = 0x90
PART_ID = 0x41
MULTI_TRACK = 0x80
IMPLIED_SEEK = 0x40
"""Bit of CONFIGURE's second byte."""
SECTOR_CODE = 2
"""N of sectors with 512 bytes."""


class Command(NamedTuple):
    """A row of the table: bytes with the command's own, and the method that carries it out."""

    size: int
    method: str


READ_DATA, READ_DELETED, WRITE_DATA, WRITE_DELETED, FORMAT, VERIFY = 0x06, 0x0C, 0x05, 0x09, 0x0D, 0x16
COMMANDS = {
    **dict.fromkeys((READ_DATA, READ_DELETED, WRITE_DATA, WRITE_DELETED, VERIFY), Command(9, "transfer")),
    0x02: Command(9, "transfer"),  # read track
    FORMAT: Command(6, "transfer"),
    0x03: Command(3, "specify"),
    0x04: Command(2, "sense_drive"),
    0x07: Command(2, "recalibrate"),
    0x08: Command(1, "sense_interrupt"),
    0x0A: Command(2, "read_id"),
    0x0E: Command(1, "dump_registers"),
    0x0F: Command(3, "seek"),
    0x10: Command(1, "version"),
    0x12: Command(2, "perpendicular"),
    0x13: Command(4, "configure"),
    0x14: Command(1, "lock"),
    0x18: Command(1, "part_id"),
}
"""Commands by the low five bits of their first byte. The scan commands are not there: they are invalid."""

RELATIVE_SEEK = Command(3, "relative_seek")
"""8Fh and CFh, whose low bits are those of SEEK."""
