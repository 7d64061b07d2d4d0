"""The registers of an IDE channel, their bits, and the commands (ATA/ATAPI-6, sections 7 and 8)."""

from __future__ import annotations

from hypervisor.devices.parts.common import Register

SIZE = 9
"""Bytes of a channel's window: the command block (1f0h to 1f7h) and the control block's one register (3f6h)."""

DATA, ERROR, COUNT, LOW, MID, HIGH, DEVICE, STATUS, CONTROL = range(9)
FEATURES, COMMAND, ALTERNATE = ERROR, STATUS, CONTROL

REGISTERS = (
    Register(DATA, "DATA", "rw", "1f0h: 16 (or 32) bits of the block that is being moved"),
    Register(ERROR, "ERROR", "r", "1f1h: what went wrong, or a diagnostic code"),
    Register(FEATURES, "FEATURES", "w", "1f1h: the command's parameter"),
    Register(COUNT, "SECTOR COUNT", "rw", "1f2h: sectors; for packets the interrupt reason"),
    Register(LOW, "LBA LOW", "rw", "1f3h: LBA 7:0 or the sector"),
    Register(MID, "LBA MID", "rw", "1f4h: LBA 15:8 or the cylinder; for packets the byte count"),
    Register(HIGH, "LBA HIGH", "rw", "1f5h: LBA 23:16 or the cylinder; for packets the byte count"),
    Register(DEVICE, "DEVICE", "rw", "1f6h: LBA mode, drive, LBA 27:24 or the head"),
    Register(STATUS, "STATUS", "rc", "1f7h: status; reading it withdraws the interrupt"),
    Register(COMMAND, "COMMAND", "w", "1f7h: executes a command"),
    Register(ALTERNATE, "ALTERNATE STATUS", "r", "3f6h: status, without touching the interrupt"),
    Register(CONTROL, "DEVICE CONTROL", "w", "3f6h: HOB, SRST, nIEN"),
)

BSY, DRDY, DF, DSC, DRQ, ERR = 0x80, 0x40, 0x20, 0x10, 0x08, 0x01
READY = DRDY | DSC
"""Status of a drive that has nothing to do."""

UNC, IDNF, ABRT = 0x40, 0x10, 0x04
"""Bits of ERROR: data that cannot be read, no such sector, no such command."""
DIAGNOSTIC_PASSED = 0x01

LBA, SLAVE, HEAD = 0x40, 0x10, 0x0F
DEVICE_ALWAYS = 0xA0
"""Bits of DEVICE that are always one."""

HOB, SRST, NIEN = 0x80, 0x04, 0x02

COMMAND_DATA, TO_HOST = 0x01, 0x02
"""Bits of the interrupt reason: the packet itself is moved; data go to the host."""

SIGNATURE_ATA, SIGNATURE_ATAPI = (0x00, 0x00), (0x14, 0xEB)
"""LBA MID and LBA HIGH after a reset."""

NOP, DATA_SET, DEVICE_RESET = 0x00, 0x06, 0x08
TRIM = 0x01
"""FEATURES of DATA SET MANAGEMENT (ATA8-ACS, 7.10)."""
RECALIBRATE = range(0x10, 0x20)
READ_SECTORS, READ_SECTORS_OLD, READ_EXT, READ_DMA_EXT, READ_NATIVE_MAX_EXT, READ_MULTIPLE_EXT = (
    0x20, 0x21, 0x24, 0x25, 0x27, 0x29,
)  # fmt: skip
WRITE_SECTORS, WRITE_SECTORS_OLD, WRITE_EXT, WRITE_DMA_EXT, WRITE_MULTIPLE_EXT = 0x30, 0x31, 0x34, 0x35, 0x39
VERIFY, VERIFY_OLD, VERIFY_EXT = 0x40, 0x41, 0x42
SEEK = range(0x70, 0x80)
DIAGNOSTIC, INITIALIZE_PARAMETERS = 0x90, 0x91
PACKET, IDENTIFY_PACKET = 0xA0, 0xA1
READ_MULTIPLE, WRITE_MULTIPLE, SET_MULTIPLE = 0xC4, 0xC5, 0xC6
READ_DMA, READ_DMA_OLD, WRITE_DMA, WRITE_DMA_OLD = 0xC8, 0xC9, 0xCA, 0xCB
STANDBY_NOW, IDLE_NOW, STANDBY, IDLE, CHECK_POWER, SLEEP = 0xE0, 0xE1, 0xE2, 0xE3, 0xE5, 0xE6
FLUSH, FLUSH_EXT, IDENTIFY, SET_FEATURES, READ_NATIVE_MAX = 0xE7, 0xEA, 0xEC, 0xEF, 0xF8

ACTIVE = 0xFF
"""SECTOR COUNT after CHECK POWER MODE."""

ENABLE_CACHE, TRANSFER_MODE, NO_LOOK_AHEAD, KEEP_DEFAULTS, DISABLE_CACHE, LOOK_AHEAD, REVERT_DEFAULTS = (
    0x02, 0x03, 0x55, 0x66, 0x82, 0xAA, 0xCC,
)  # fmt: skip
"""Subcommands of SET FEATURES."""
PIO_DEFAULT, PIO_FLOW, MULTIWORD_DMA, ULTRA_DMA = 0x00, 0x08, 0x20, 0x40
"""Transfer modes, with the mode's number in bits 2:0."""
