"""Builders of descriptors, gates and table entries, for tests and generators (the inverse of `segments`)."""

from __future__ import annotations

from .segments import TASK_GATE
from .state import Segment

CODE32, CODE16, CODE64 = 0xC9B, 0x09B, 0xA9B
DATA32, DATA16 = 0xC93, 0x093
CONFORMING32, CONFORMING64 = 0xC9F, 0xA9F
TSS32, TSS16, LDT = 0x08B, 0x083, 0x082
EXPAND_DOWN = 0x4
FLAT = 0xFFFF_FFFF


def with_dpl(attributes: int, dpl: int) -> int:
    """``attributes`` with another DPL."""
    return attributes & ~0x60 | dpl << 5


def descriptor(base: int, limit: int, attributes: int) -> bytes:
    """8 bytes; ``limit`` in bytes, rounded down to pages when G is set."""
    if attributes & 0x800:
        limit >>= 12
    low = limit & 0xFFFF | (base & 0xFF_FFFF) << 16 | (attributes & 0xFF) << 40
    high = (limit >> 16 & 0xF) << 48 | (attributes >> 8) << 52 | (base >> 24 & 0xFF) << 56
    return (low | high).to_bytes(8, "little")


def descriptor16(base: int, limit: int, attributes: int) -> bytes:
    """A long-mode system descriptor: 16 bytes, 64-bit base."""
    return descriptor(base & 0xFFFF_FFFF, limit, attributes) + (base >> 32).to_bytes(8, "little")


def gate(kind: int, selector: int, offset: int, dpl: int = 0, present: bool = True) -> bytes:
    """A legacy gate of type ``kind`` (5 task, 6 and 7 16-bit, 14 and 15 32-bit)."""
    if kind == TASK_GATE:
        offset = 0
    flags = kind | dpl << 5 | present << 7
    value = offset & 0xFFFF | selector << 16 | flags << 40 | (offset >> 16 & 0xFFFF) << 48
    return value.to_bytes(8, "little")


def gate64(kind: int, selector: int, offset: int, dpl: int = 0, present: bool = True, ist: int = 0) -> bytes:
    """A long-mode gate, 16 bytes."""
    low = int.from_bytes(gate(kind, selector, offset & 0xFFFF_FFFF, dpl, present), "little") | ist << 32
    return low.to_bytes(8, "little") + (offset >> 32).to_bytes(8, "little")


def segment(selector: int, base: int, limit: int, attributes: int) -> Segment:
    """A segment register as if loaded from `descriptor` with the same arguments."""
    if attributes & 0x800:
        limit |= 0xFFF
    return Segment(selector, base, limit, attributes)
