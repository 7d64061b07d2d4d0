"""Entries of descriptor tables as values (APM volume 2, 4.7 and 4.8)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TableEntry:
    """What all descriptors and gates have in common."""

    raw: int
    """The entry's 8 bytes, little endian; the 16 of a gate of long mode."""

    @property
    def type(self) -> int:
        """The type with the S bit: below 16 for system descriptors and gates."""
        return self.raw >> 40 & 0x1F

    @property
    def dpl(self) -> int:
        """Descriptor privilege level: of a gate, the highest ring that may use it with INT or CALL."""
        return self.raw >> 45 & 3

    @property
    def present(self) -> bool:
        """The P bit."""
        return bool(self.raw >> 47 & 1)


@dataclass(frozen=True)
class Descriptor(TableEntry):
    """A segment descriptor."""

    @property
    def base(self) -> int:
        """Linear address of the segment's first byte."""
        return self.raw >> 16 & 0xFF_FFFF | self.raw >> 32 & 0xFF00_0000

    @property
    def limit(self) -> int:
        """The last valid offset in bytes, granularity applied."""
        limit = self.raw & 0xFFFF | self.raw >> 32 & 0xF_0000
        return limit << 12 | 0xFFF if self.raw >> 55 & 1 else limit

    @property
    def attributes(self) -> int:
        """The VMCB's 12 bits (APM volume 2, 15.5.1)."""
        return self.raw >> 40 & 0xFF | self.raw >> 44 & 0xF00

    @property
    def is_code(self) -> bool:
        """An executable segment."""
        return self.type & 0x18 == 0x18

    @property
    def conforming(self) -> bool:
        """Code that runs at its caller's privilege level."""
        return self.type & 0x1C == 0x1C

    @property
    def is_64_bit(self) -> bool:
        """L set and D clear: what long mode wants of a handler's code segment."""
        return self.raw >> 53 & 3 == 1
