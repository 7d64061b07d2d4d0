"""The tables of fixed layout: FADT, FACS, MADT and HPET, without their headers and with zeros where pointers go.

Source: ACPI specification 6.5, 5.2.9 (FADT; we build the one of ACPI 5.0, 268 bytes), 5.2.10 (FACS), 5.2.12 (MADT);
IA-PC HPET (High Precision Event Timers) Specification 1.0a, 3.2.4 (HPET).
"""

from __future__ import annotations

import struct

from hypervisor.acpi.platform import Platform

HEADER_SIZE = 36
FADT_REVISION, FADT_SIZE = 5, 268
MADT_REVISION = 3
HPET_REVISION = 1
HPET_MINIMUM = 100
"""Ticks of a periodic timer that software must leave at least, so that it loses none."""
FACS_SIZE = 64
FIRMWARE_CTRL, DSDT, X_DSDT = 36, 40, 140
"""Offsets in the FADT of its pointers: FACS and DSDT in 32 bits, and the DSDT in 64."""

DESKTOP = 1
WBINVD, PROC_C1, SLP_BUTTON, FIX_RTC, RESET_REG_SUP = 1 << 0, 1 << 2, 1 << 5, 1 << 6, 1 << 10
"""FADT flags: WBINVD works; HLT does on every processor; no sleep button, no RTC wake-up; there is a reset register."""
LEGACY_DEVICES, KEYBOARD_8042, NO_MSI = 1 << 0, 1 << 1, 1 << 3
"""FADT boot architecture flags."""
NO_LATENCY = 0xFFFF
"""Of C2 and C3, in microseconds: more than 100 and 1000 mean that there is none."""
SYSTEM_MEMORY = 0
SYSTEM_IO, BYTE_ACCESS, WORD_ACCESS, DWORD_ACCESS = 1, 1, 2, 3

PCAT_COMPAT = 1
"""MADT flag: there are 8259s."""
ENABLED = 1
CONFORMING, HIGH_LEVEL = 0x0, 0xD
"""MPS INTI flags (table 5.26): as the bus has it (ISA: high active, edge), or high active and level-triggered."""
ALL_PROCESSORS = 0xFF

_FADT = (
    # offset, layout, value: fields that are zero are left out
    (45, "B", lambda p: DESKTOP),
    (46, "H", lambda p: p.sci),
    (48, "I", lambda p: p.smi_command),
    (52, "B", lambda p: p.acpi_enable),
    (53, "B", lambda p: p.acpi_disable),
    (56, "I", lambda p: p.pm_ports),  # PM1a_EVT_BLK
    (64, "I", lambda p: p.pm_ports + 4),  # PM1a_CNT_BLK
    (76, "I", lambda p: p.pm_ports + 8),  # PM_TMR_BLK
    (88, "B", lambda p: 4),
    (89, "B", lambda p: 2),
    (91, "B", lambda p: 4),
    (96, "H", lambda p: NO_LATENCY),
    (98, "H", lambda p: NO_LATENCY),
    (108, "B", lambda p: p.century),
    (109, "H", lambda p: LEGACY_DEVICES | KEYBOARD_8042 | NO_MSI),
    (112, "I", lambda p: WBINVD | PROC_C1 | SLP_BUTTON | FIX_RTC | RESET_REG_SUP),
    (116, "12s", lambda p: _register(p.reset_port, 8, BYTE_ACCESS)),
    (128, "B", lambda p: p.reset_value),
    (148, "12s", lambda p: _register(p.pm_ports, 32, WORD_ACCESS)),
    (172, "12s", lambda p: _register(p.pm_ports + 4, 16, WORD_ACCESS)),
    (208, "12s", lambda p: _register(p.pm_ports + 8, 32, DWORD_ACCESS)),
)


def _register(port: int, bits: int, access: int) -> bytes:
    """A Generic Address Structure (5.2.3.2) in I/O space."""
    return struct.pack("<BBBBQ", SYSTEM_IO, bits, 0, access, port)


def fadt(platform: Platform) -> bytes:
    """The FADT's contents after its header."""
    table = bytearray(FADT_SIZE)
    for offset, layout, value in _FADT:
        struct.pack_into("<" + layout, table, offset, value(platform))
    return bytes(table[HEADER_SIZE:])


def facs() -> bytes:
    """The FACS, whole: it has no header, and is the one table that the guest writes to (the global lock)."""
    return struct.pack("<4sIIIIIQB31x", b"FACS", FACS_SIZE, 0, 0, 0, 0, 0, 2)


def madt(platform: Platform) -> bytes:
    """The MADT's contents after its header."""
    table = struct.pack("<II", platform.local_apic, PCAT_COMPAT)
    for number in range(platform.cpus):
        table += struct.pack("<BBBBI", 0, 8, number, number, ENABLED)
    table += struct.pack("<BBBBII", 1, 12, platform.io_apic_id, 0, platform.io_apic, 0)
    table += _override(0, platform.timer_pin, CONFORMING)
    for irq in platform.level_irqs:
        table += _override(irq, irq, HIGH_LEVEL)
    return table + struct.pack("<BBBHB", 4, 6, ALL_PROCESSORS, CONFORMING, 1)  # NMI on LINT1


def hpet(address: int, block_id: int) -> bytes:
    """The HPET table's contents after its header: one block of timers, number 0."""
    registers = struct.pack("<BBBBQ", SYSTEM_MEMORY, 64, 0, 0, address)
    return struct.pack("<I12sBHB", block_id, registers, 0, HPET_MINIMUM, 0)


def _override(irq: int, pin: int, flags: int) -> bytes:
    """An interrupt source override: an ISA interrupt that is elsewhere or otherwise (5.2.12.5)."""
    return struct.pack("<BBBBIH", 2, 10, 0, irq, pin, flags)
