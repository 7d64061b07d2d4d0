"""The tables for firmware that places them itself: the files of QEMU's fw_cfg interface.

Source: QEMU's docs/specs/acpi_hw_reduced and hw/acpi/bios-linker-loader.c describe the script: entries of 128 bytes
that allocate a file in guest memory, add a file's address to a pointer, and compute a checksum.
"""

from __future__ import annotations

import struct

from hypervisor.acpi.table_set import ALIGNMENT, AcpiTables

RSDP_FILE, TABLES_FILE, SCRIPT_FILE = "etc/acpi/rsdp", "etc/acpi/tables", "etc/table-loader"
NAMES = (RSDP_FILE, TABLES_FILE, SCRIPT_FILE)
ENTRY_SIZE = 128
ALLOCATE, ADD_POINTER, ADD_CHECKSUM = 1, 2, 3
HIGH, F_SEGMENT = 1, 2
"""Zones of an allocation: anywhere below 4 GiB, or F0000h to FFFFFh, where an RSDP is looked for."""


def files(acpi: AcpiTables) -> dict[str, bytes]:
    """Contents by fw_cfg file name."""
    entries = [
        struct.pack("<I56sIB", ALLOCATE, RSDP_FILE.encode(), 16, F_SEGMENT),
        struct.pack("<I56sIB", ALLOCATE, TABLES_FILE.encode(), ALIGNMENT, HIGH),
    ]
    for link in acpi.links:
        owner = RSDP_FILE if link.in_rsdp else TABLES_FILE
        entries.append(
            struct.pack("<I56s56sIB", ADD_POINTER, owner.encode(), TABLES_FILE.encode(), link.offset, link.size)
        )
    for total in acpi.checksums:
        owner = RSDP_FILE if total.in_rsdp else TABLES_FILE
        entries.append(struct.pack("<I56sIII", ADD_CHECKSUM, owner.encode(), total.offset, total.start, total.length))
    script = b"".join(entry.ljust(ENTRY_SIZE, b"\0") for entry in entries)
    return {RSDP_FILE: acpi.rsdp, TABLES_FILE: acpi.tables, SCRIPT_FILE: script}
