"""Descriptors: APM volume 2, 4.7 and 4.8; SDM volume 3, 3.4.5 and 3.5."""

from __future__ import annotations

from dataclasses import dataclass

from .linear import Linear
from .state import Attributes, Segment, State

ACCESSED, WRITABLE_OR_READABLE, EXPAND_DOWN_OR_CONFORMING, CODE = 1, 2, 4, 8
TASK_GATE, TSS16_AVAILABLE, TSS16_BUSY, LDT = 5, 1, 3, 2
TSS_AVAILABLE, TSS_BUSY = 9, 11
INTERRUPT16, TRAP16, INTERRUPT32, TRAP32 = 6, 7, 14, 15


@dataclass(frozen=True)
class Descriptor(Attributes):
    """A decoded segment descriptor; ``va`` is where it was read (0 when decoded from bytes)."""

    base: int
    limit: int
    attributes: int
    va: int = 0

    @property
    def user_segment(self) -> bool:
        """S: a code or data segment, not a system one."""
        return bool(self.attributes & 0x10)

    @property
    def code(self) -> bool:
        """An executable segment."""
        return self.user_segment and bool(self.type & CODE)

    @property
    def conforming(self) -> bool:
        """A conforming code segment."""
        return self.code and bool(self.type & EXPAND_DOWN_OR_CONFORMING)

    @property
    def writable_data(self) -> bool:
        """A data segment that may be written, as a stack must be."""
        return self.user_segment and not self.type & CODE and bool(self.type & WRITABLE_OR_READABLE)

    def load(self, selector: int) -> Segment:
        """The segment register after loading: the accessed bit is set in code and data segments."""
        attributes = self.attributes | (ACCESSED if self.user_segment else 0)
        return Segment(selector, self.base, self.limit, attributes)


@dataclass(frozen=True)
class Gate:
    """A decoded IDT (or call) gate; ``ist`` is 0 in legacy gates."""

    type: int
    dpl: int
    present: bool
    system: bool
    selector: int
    offset: int
    ist: int = 0

    @property
    def interrupt(self) -> bool:
        """An interrupt gate clears IF, a trap gate leaves it."""
        return self.type in (INTERRUPT16, INTERRUPT32)


def decode(raw: bytes, va: int = 0) -> Descriptor:
    """Decode 8 bytes, or 16 of a long-mode system descriptor (its base then has 64 bits)."""
    low = int.from_bytes(raw[:8], "little")
    base = low >> 16 & 0xFF_FFFF | low >> 56 << 24
    limit = low & 0xFFFF | low >> 32 & 0xF_0000
    attributes = low >> 40 & 0xFF | low >> 44 & 0xF00
    if attributes & 0x800:
        limit = limit << 12 | 0xFFF
    if len(raw) == 16:
        base |= int.from_bytes(raw[8:12], "little") << 32
    return Descriptor(base, limit, attributes, va)


def decode_gate(raw: bytes) -> Gate:
    """Decode 8 bytes of a legacy gate or 16 of a long one (APM 2, 4.7.4 and 4.8.4)."""
    low = int.from_bytes(raw[:8], "little")
    kind = low >> 40 & 0xF
    offset = low & 0xFFFF | low >> 48 << 16
    ist = 0
    if len(raw) == 16:
        offset |= int.from_bytes(raw[8:12], "little") << 32
        ist = low >> 32 & 7
    elif kind in (INTERRUPT16, TRAP16, 4):
        offset &= 0xFFFF
    return Gate(kind, low >> 45 & 3, bool(low >> 47 & 1), not low >> 44 & 1, low >> 16 & 0xFFFF, offset, ist)


def null(selector: int) -> bool:
    """Null selectors are 0 to 3."""
    return not selector & 0xFFFC


def read_descriptor(linear: Linear, state: State, selector: int, size: int = 8) -> Descriptor | None:
    """The descriptor that ``selector`` names, or None when it lies beyond its table."""
    if selector & 4:
        if not state.ldtr.present or null(state.ldtr.selector):
            return None
        base, limit = state.ldtr.base, state.ldtr.limit
    else:
        base, limit = state.gdtr.base, state.gdtr.limit
    offset = selector & 0xFFF8
    if offset + size - 1 > limit:
        return None
    return decode(linear.read_system(base + offset, size), base + offset)


def mark_accessed(linear: Linear, descriptor: Descriptor) -> None:
    """Set the accessed bit in the table, when it is clear (APM 2, 4.7.1)."""
    if not descriptor.type & ACCESSED:
        linear.write_system(descriptor.va + 5, bytes([(descriptor.attributes | ACCESSED) & 0xFF]))


def fits(segment: Segment | Descriptor, offset: int, size: int) -> bool:
    """Whether ``size`` bytes at ``offset`` lie inside a data segment's limit (APM 2, 4.12)."""
    last = offset + size - 1
    expand_down = segment.type & (CODE | EXPAND_DOWN_OR_CONFORMING) == EXPAND_DOWN_OR_CONFORMING
    if expand_down:
        return offset > segment.limit and last <= (0xFFFF_FFFF if segment.big else 0xFFFF)
    return last <= segment.limit
