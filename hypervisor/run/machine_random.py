"""A machine's random numbers, which know whether they are still where they were put."""

from __future__ import annotations

import random
from typing import Any


class MachineRandom(random.Random):
    """As `random.Random`. ``at`` is what says where they are (a list of words in a record that nobody changes), until
    one is drawn: to go back there where nothing was drawn costs nothing.
    """

    at: object = None

    def random(self) -> float:
        """The next number from 0 up to 1."""
        self.at = None
        return super().random()

    def getrandbits(self, k: int, /) -> int:
        """The next ``k`` bits."""
        self.at = None
        return super().getrandbits(k)

    def seed(self, *given: Any, **named: Any) -> None:
        """Begin anew."""
        self.at = None
        super().seed(*given, **named)

    def setstate(self, state: Any) -> None:
        """Go on from what `getstate` gave."""
        self.at = None
        super().setstate(state)


__all__ = ["MachineRandom"]
