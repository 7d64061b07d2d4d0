"""What a PC's firmware tells an operating system about the machine: ACPI tables and the MP table, as bytes.

Pure functions of a `Platform`; who puts the tables into memory is the board's business.
"""

from hypervisor.acpi.mp_table import mp_table
from hypervisor.acpi.platform import LegacyDevice, Pci, Platform
from hypervisor.acpi.table_set import AcpiTables, build

__all__ = ["AcpiTables", "LegacyDevice", "Pci", "Platform", "build", "mp_table"]
