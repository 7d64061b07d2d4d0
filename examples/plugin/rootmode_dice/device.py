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

from dataclasses import dataclass, replace

from hypervisor.errors import DeviceError

ROLL, SIDES = 0, 1


@dataclass
class DiceState:
    """All that changes while a guest plays."""

    sides: int
    random: int  # the generator's 32 bits, never zero


class DiceDevice:
    """A die that always falls the same way for the same seed."""

    def __init__(self, sides: int = 6, seed: int = 1) -> None:
        self.name = "dice"
        self._at_reset = DiceState(sides, max(seed & 0xFFFF_FFFF, 1))
        self._state = replace(self._at_reset)

    def read(self, offset: int, size: int) -> int:
        """One register after the other, lowest first, for accesses wider than a byte."""
        return int.from_bytes(bytes(self._read_byte(offset + i) for i in range(size)), "little")

    def write(self, offset: int, size: int, value: int) -> None:
        """Set the number of sides; a roll cannot be written."""
        sides = value.to_bytes(size, "little")[SIDES - offset] if offset <= SIDES < offset + size else 0
        if sides:
            self._state.sides = sides

    def reset(self) -> None:
        """The die as it came out of its box: the same rolls again."""
        self._state = replace(self._at_reset)

    def state(self) -> DiceState:
        """A copy of the state."""
        return replace(self._state)

    def restore(self, state: DiceState) -> None:
        """Take over a state, if it could be ours."""
        if not isinstance(state, DiceState) or not 1 <= state.sides <= 255 or not 0 < state.random < 1 << 32:
            raise DeviceError(f"{self.name}: {state!r} is not the state of a die.")
        self._state = replace(state)

    def _read_byte(self, offset: int) -> int:
        if offset == ROLL:
            return self._roll()
        return self._state.sides if offset == SIDES else 0xFF

    def _roll(self) -> int:
        """Marsaglia's xorshift, 32 bits: small enough to be part of the state."""
        x = self._state.random
        x ^= x << 13 & 0xFFFF_FFFF
        x ^= x >> 17
        x ^= x << 5 & 0xFFFF_FFFF
        self._state.random = x
        return x % self._state.sides + 1
