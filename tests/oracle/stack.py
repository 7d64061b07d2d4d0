"""The frame that an event pushes."""

from __future__ import annotations

from dataclasses import dataclass

from .linear import GuestFaultError, Linear
from .segments import Descriptor, fits
from .state import MASK16, MASK32, Segment


@dataclass(frozen=True)
class Stack:
    """A legacy stack: segment (or the descriptor about to become one), pointer, and the CPL that pushes."""

    segment: Segment | Descriptor
    pointer: int
    cpl: int

    @property
    def mask(self) -> int:
        """SS.B decides between SP and ESP."""
        return MASK32 if self.segment.big else MASK16

    def offsets(self, size: int, count: int) -> list[int]:
        """Where ``count`` pushes of ``size`` bytes go."""
        return [self.pointer - size * (n + 1) & self.mask for n in range(count)]

    def require_room(self, size: int, count: int, fault: GuestFaultError) -> None:
        """Raise ``fault`` unless the whole frame lies inside the limit."""
        for offset in self.offsets(size, count):
            if not fits(self.segment, offset, size):
                raise fault

    def push(self, linear: Linear, size: int, values: list[int]) -> int:
        """Push ``values`` first to last; return the stack pointer afterwards (the high half of ESP stays)."""
        offsets = self.offsets(size, len(values))
        for offset, value in zip(offsets, values, strict=True):
            data = (value & (1 << 8 * size) - 1).to_bytes(size, "little")
            linear.push_at(self.segment.base + offset, data, self.cpl)
        return self.pointer & ~self.mask | offsets[-1]
