"""Segment registers; attributes of segments in the VMCB's 12-bit form: descriptor bits 55:52 above bits 47:40 (APM
volume 2, 15.5.1); and the parts of a selector (4.5.1).
"""

from __future__ import annotations

from typing import NamedTuple


class Segment(NamedTuple):
    """A segment register with its hidden part. ``limit`` is in bytes, the granularity bit already applied."""

    selector: int
    base: int
    limit: int
    attributes: int
    """In the 12-bit form."""


class Table(NamedTuple):
    """GDTR or IDTR: base address and limit (size less one), both in bytes."""

    base: int
    limit: int


CODE = 1 << 3  # of code and data segments: executable
DPL_SHIFT = 5
CODE_OR_DATA = 1 << 4  # S; clear in system segments
PRESENT = 1 << 7
LONG = 1 << 9  # L: 64-bit code, in long mode
BIG = 1 << 10  # D/B: 32-bit operands or stack pointer
GRANULAR = 1 << 11  # G: the limit counts pages

CODE16 = 0x09B
DATA16 = 0x093
CODE32 = 0xC9B
DATA32 = 0xC93
CODE64 = 0xA9B
LDT = 0x082
BUSY_TSS = 0x08B
"""What code, data and system segments usually have: present, ring 0, accessed; those of 32 and 64 bits counted in
pages.
"""

SELECTOR_RPL = 3
SELECTOR_TI = 1 << 2  # set: of the LDT
SELECTOR_INDEX = 0xFFF8
SELECTOR = SELECTOR_INDEX | SELECTOR_TI
"""All but the privilege level: zero in a null selector, and what an error code has."""
