"""The device: two byte-wide registers.

======  ======  =========================================================
offset  access  meaning
======  ======  =========================================================
0       read    a fresh roll, 1 to the number of sides
1       both    the number of sides, 1 to 255; a write of 0 is ignored
======  ======  =========================================================

It answers by offset and never learns where it was attached; its whole world is its constructor's arguments.
"""

from __future__ import annotations

import hypervisor as hv
from hypervisor.state import number, record

ROLL, SIDES = 0, 1


@record
class DiceState:
    """All that changes while a guest plays, with what each field may hold."""

    sides: int = number(1, 255, 6)
    random: int = number(1, 0xFFFF_FFFF, 1)  # the generator's 32 bits, never zero


class DiceDevice(hv.Device[DiceState]):
    """A die that always falls the same way for the same seed. Saving, restoring and reset follow from its state."""

    def __init__(self, sides: int = 6, seed: int = 1) -> None:
        super().__init__("dice", DiceState(sides, max(seed & 0xFFFF_FFFF, 1)))

    def read(self, offset: int, size: int) -> int:
        """One register after the other, lowest first, for accesses wider than a byte."""
        return int.from_bytes(bytes(self._read_byte(offset + i) for i in range(size)), "little")

    def write(self, offset: int, size: int, value: int) -> None:
        """Set the number of sides; a roll cannot be written."""
        sides = value.to_bytes(size, "little")[SIDES - offset] if offset <= SIDES < offset + size else 0
        if sides:
            self.s.sides = sides

    def _read_byte(self, offset: int) -> int:
        if offset == ROLL:
            return self._roll()
        return self.s.sides if offset == SIDES else 0xFF

    def _roll(self) -> int:
        """Marsaglia's xorshift, 32 bits: small enough to be part of the state."""
        x = self.s.random
        x ^= x << 13 & 0xFFFF_FFFF
        x ^= x >> 17
        x ^= x << 5 & 0xFFFF_FFFF
        self.s.random = x
        return x % self.s.sides + 1
