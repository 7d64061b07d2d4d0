"""All ACPI tables of a machine, before anybody knows where they will be: bytes, and where addresses and sums go.

`AcpiTables.at` puts them at an address. Firmware that places tables itself is given the same lists as a script
(`hypervisor.acpi.loader_script`).

Source: ACPI specification 6.5, 5.2.5 (RSDP), 5.2.6 (header), 5.2.7 (RSDT), 5.2.8 (XSDT).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from hypervisor.acpi import fixed
from hypervisor.acpi.dsdt import dsdt
from hypervisor.acpi.platform import Platform

OEM, TABLE, CREATOR = b"RTMODE", b"ROOTMODE", b"RTMD"
RSDP_SIZE, RSDP_V1_SIZE = 36, 20
RSDP_RSDT, RSDP_XSDT, RSDP_SUM, RSDP_EXTENDED_SUM = 16, 24, 8, 32
SUM_AT = 9
"""Offset of the checksum in a header."""
ALIGNMENT = 64
"""The FACS's, which is the largest (5.2.10)."""


class Link(NamedTuple):
    """A pointer of ``size`` bytes at ``offset``. What is stored there is the target's offset in the tables."""

    in_rsdp: bool
    offset: int
    size: int


class Checksum(NamedTuple):
    """The byte at ``offset`` makes the sum of ``length`` bytes from ``start`` zero."""

    in_rsdp: bool
    offset: int
    start: int
    length: int


@dataclass(frozen=True)
class AcpiTables:
    """The RSDP, the other tables in one piece, and what depends on the place of that piece."""

    rsdp: bytes
    tables: bytes
    links: tuple[Link, ...]
    checksums: tuple[Checksum, ...]

    def at(self, address: int) -> tuple[bytes, bytes]:
        """The RSDP and the tables, for tables at ``address`` (a multiple of `ALIGNMENT`)."""
        rsdp, tables = bytearray(self.rsdp), bytearray(self.tables)
        for link in self.links:
            data = rsdp if link.in_rsdp else tables
            value = int.from_bytes(data[link.offset : link.offset + link.size], "little") + address
            data[link.offset : link.offset + link.size] = value.to_bytes(link.size, "little")
        for total in self.checksums:
            data = rsdp if total.in_rsdp else tables
            data[total.offset] = -sum(data[total.start : total.start + total.length]) & 0xFF
        return bytes(rsdp), bytes(tables)


class _Builder:
    def __init__(self) -> None:
        self.data = bytearray(fixed.facs())
        self.links: list[Link] = []
        self.checksums: list[Checksum] = []

    def add(self, signature: bytes, revision: int, body: bytes, links: tuple[tuple[int, int], ...] = ()) -> int:
        """Append a table; returns its offset. ``links`` are offsets in it, and sizes, of what points to tables."""
        self.data += bytes(-len(self.data) % 8)
        start = len(self.data)
        length = fixed.HEADER_SIZE + len(body)
        self.data += struct.pack("<4sIBB6s8sI4sI", signature, length, revision, 0, OEM, TABLE, 1, CREATOR, 1) + body
        self.links += [Link(False, start + offset, size) for offset, size in links]
        self.checksums.append(Checksum(False, start + SUM_AT, start, length))
        return start


@cache
def build(platform: Platform) -> AcpiTables:
    """The tables that describe ``platform``."""
    made = _Builder()
    dsdt_at = made.add(b"DSDT", 2, dsdt(platform))
    fadt = bytearray(fixed.fadt(platform))
    struct.pack_into("<I", fadt, fixed.DSDT - fixed.HEADER_SIZE, dsdt_at)
    struct.pack_into("<Q", fadt, fixed.X_DSDT - fixed.HEADER_SIZE, dsdt_at)
    pointers = ((fixed.FIRMWARE_CTRL, 4), (fixed.DSDT, 4), (fixed.X_DSDT, 8))  # the FACS is at offset 0
    listed = [
        made.add(b"FACP", fixed.FADT_REVISION, bytes(fadt), pointers),
        made.add(b"APIC", fixed.MADT_REVISION, fixed.madt(platform)),
    ]
    if platform.hpet is not None:
        listed.append(made.add(b"HPET", fixed.HPET_REVISION, fixed.hpet(platform.hpet, platform.hpet_id)))
    entries = range(fixed.HEADER_SIZE, fixed.HEADER_SIZE + 8 * len(listed), 8)
    rsdt_at = made.add(
        b"RSDT", 1, struct.pack(f"<{len(listed)}I", *listed), tuple((36 + 4 * n, 4) for n in range(len(listed)))
    )
    xsdt_at = made.add(b"XSDT", 1, struct.pack(f"<{len(listed)}Q", *listed), tuple((at, 8) for at in entries))
    rsdp = struct.pack("<8sB6sBIIQB3x", b"RSD PTR ", 0, OEM, 2, rsdt_at, RSDP_SIZE, xsdt_at, 0)
    links = (Link(True, RSDP_RSDT, 4), Link(True, RSDP_XSDT, 8), *made.links)
    sums = (
        *made.checksums,
        Checksum(True, RSDP_SUM, 0, RSDP_V1_SIZE),
        Checksum(True, RSDP_EXTENDED_SUM, 0, RSDP_SIZE),
    )
    return AcpiTables(rsdp, bytes(made.data), links, sums)
