"""The MultiProcessor Specification's tables, for systems that know no ACPI.

Source: Intel MultiProcessor Specification 1.4, chapter 4.
"""

from __future__ import annotations

import struct

from hypervisor.acpi.platform import Platform

OEM, PRODUCT = b"RTMODE  ", b"ROOTMODE PC "
POINTER_SIZE = 16
ISA_BUS = 0
INT, NMI, SMI, EXTINT = 0, 1, 2, 3
CONFORMING, HIGH_LEVEL = 0x0, 0xD
PROCESSOR, BUS, IO_APIC, IO_INTERRUPT, LOCAL_INTERRUPT = range(5)
USABLE, BOOTSTRAP = 1, 2
ALL = 0xFF
APIC_VERSION = 0x14


def mp_table(platform: Platform, address: int, signature: int, features: int) -> bytes:
    """The floating pointer and the configuration table behind it, for ``address`` (a multiple of 16).

    ``signature`` and ``features`` are CPUID leaf 1, EAX and EDX.
    """
    entries = [
        struct.pack(
            "<BBBBII8x", PROCESSOR, number, APIC_VERSION, USABLE | (0 if number else BOOTSTRAP), signature, features
        )
        for number in range(platform.cpus)
    ]
    entries.append(struct.pack("<BB6s", BUS, ISA_BUS, b"ISA   "))
    entries.append(
        struct.pack("<BBBBI", IO_APIC, platform.io_apic_id, platform.io_apic_version, USABLE, platform.io_apic)
    )
    entries.append(_interrupt(platform, EXTINT, CONFORMING, 0, 0))
    for irq in (irq for irq in range(16) if irq != 2):
        flags = HIGH_LEVEL if irq in platform.level_irqs else CONFORMING
        entries.append(_interrupt(platform, INT, flags, irq, irq or platform.timer_pin))
    entries.append(struct.pack("<BBHBBBB", LOCAL_INTERRUPT, EXTINT, CONFORMING, ISA_BUS, 0, ALL, 0))
    entries.append(struct.pack("<BBHBBBB", LOCAL_INTERRUPT, NMI, CONFORMING, ISA_BUS, 0, ALL, 1))
    body = b"".join(entries)
    header = struct.pack(
        "<4sHBB8s12sIHHIHBB",
        *(b"PCMP", 44 + len(body), 4, 0, OEM, PRODUCT, 0, 0, len(entries), platform.local_apic, 0, 0, 0),
    )
    table = _summed(bytearray(header + body), 7)
    pointer = struct.pack("<4sIBBB5x", b"_MP_", address + POINTER_SIZE, 1, 4, 0)
    return _summed(bytearray(pointer), 10) + table


def _interrupt(platform: Platform, kind: int, flags: int, irq: int, pin: int) -> bytes:
    return struct.pack("<BBHBBBB", IO_INTERRUPT, kind, flags, ISA_BUS, irq, platform.io_apic_id, pin)


def _summed(data: bytearray, at: int) -> bytes:
    data[at] = -sum(data) & 0xFF
    return bytes(data)
