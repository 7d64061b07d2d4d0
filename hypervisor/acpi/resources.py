"""Resource descriptors: what a device uses, as ``_CRS`` and ``_PRS`` say it.

Source: ACPI specification 6.5, 6.4 "Resource Data Types for ACPI". Ranges are given by their first and their end.
"""

from __future__ import annotations

import struct

from hypervisor.acpi import aml

PRODUCER = 0x00
FIXED = 0x0C
"""Minimum and maximum of an address range are what they are (6.4.3.5, general flags: _MIF and _MAF)."""
ENTIRE_RANGE = 0x03
READ_WRITE, CACHEABLE = 0x01, 0x02


def template(*descriptors: bytes) -> bytes:
    """ResourceTemplate() {...}, as a buffer. The end tag's checksum of zero is taken for right (6.4.2.9)."""
    return aml.buffer(b"".join(descriptors) + b"\x79\x00")


def io(start: int, count: int) -> bytes:
    """IO(Decode16): ``count`` ports (6.4.2.5)."""
    return struct.pack("<BBHHBB", 0x47, 1, start, start, 1, count)


def irq(*numbers: int) -> bytes:
    """IRQNoFlags: edge-triggered ISA interrupts (6.4.2.1)."""
    return struct.pack("<BH", 0x22, sum(1 << number for number in numbers))


def level_interrupts(*numbers: int) -> bytes:
    """Interrupt(ResourceConsumer, Level, ActiveHigh, Shared) (6.4.3.6). The numbers begin at byte 5."""
    body = bytes([0x01 | 0x08, len(numbers)]) + struct.pack(f"<{len(numbers)}I", *numbers)
    return struct.pack("<BH", 0x89, len(body)) + body


def bus_numbers(first: int, end: int) -> bytes:
    """WordBusNumber (6.4.3.5.3)."""
    return _word_range(2, 0, first, end)


def io_range(first: int, end: int) -> bytes:
    """WordIO (6.4.3.5.3)."""
    return _word_range(1, ENTIRE_RANGE, first, end)


def memory_range(first: int, end: int, *, cacheable: bool = False) -> bytes:
    """DWordMemory (6.4.3.5.2)."""
    flags = READ_WRITE | (CACHEABLE if cacheable else 0)
    fields = struct.pack("<5I", 0, first, end - 1, 0, end - first)
    return struct.pack("<BHBBB", 0x87, 3 + len(fields), 0, PRODUCER | FIXED, flags) + fields


def _word_range(kind: int, flags: int, first: int, end: int) -> bytes:
    fields = struct.pack("<5H", 0, first, end - 1, 0, end - first)
    return struct.pack("<BHBBB", 0x88, 3 + len(fields), kind, PRODUCER | FIXED, flags) + fields
