"""Machines to describe."""

from __future__ import annotations

from hypervisor.acpi import LegacyDevice, Pci, Platform

DEVICES = (
    LegacyDevice("RTC0", "PNP0B00", ((0x70, 2),), (8,)),
    LegacyDevice("KBD0", "PNP0303", ((0x60, 1), (0x64, 1)), (1,)),
    LegacyDevice("MOU0", "PNP0F13", (), (12,)),
    LegacyDevice("COM1", "PNP0501", ((0x3F8, 8),), (4,)),
    LegacyDevice("COM2", "PNP0501", ((0x2F8, 8),), (3,)),
)
PLATFORMS = {
    "small": Platform(),
    "pc": Platform(hpet=0xFED00000, hpet_id=0x8086A201, devices=DEVICES, pci=Pci((0xC0000000, 0xFEC00000))),
    "smp": Platform(cpus=8, devices=DEVICES, pci=Pci((0xC0000000, 0xFEC00000))),
    "elsewhere": Platform(cpus=3, sci=10, pm_ports=0xB000, local_apic=0xD0000000, io_apic=0xD0001000, io_apic_id=9),
}
