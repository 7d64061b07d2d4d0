"""Who is asked for memory when a host has little left: guests that have balloons, before anything is swapped.

The host wants so many frames as it has not enough. Each guest is asked for a part of that in proportion to what it
could give: frames that it alone has, beyond those that it was promised for sure. What is asked follows from where all
stand, again and again: one that gives nothing makes the others' parts larger the next time, and nobody waits for it.
When there is plenty again they are asked for less, in proportion to what they have lent, so they may take that back.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar

G = TypeVar("G")

LEAST_FRAMES, MOST_FRAMES, PART = 64, 4096, 16
"""A step is a sixteenth of a host's frames, within these bounds: pages are swapped when fewer than one is left."""
FEW, ENOUGH, PLENTY = 2, 3, 4
"""In steps: below the first number guests are asked for memory until the second is there; they get it back above the
third, until the second is left.
"""
LOOK_S = 0.01
"""How often it is looked who has given what, at most, in host seconds."""


class Giver(Protocol):
    """A guest with a balloon. All in pages."""

    @property
    def listens(self) -> bool:
        """Whether it runs, and may be asked."""
        ...

    @property
    def spare(self) -> int:
        """How many frames would come to the host if it gave as much as it may be asked for."""
        ...

    @property
    def lent(self) -> int:
        """What it has given because the host asked, and has not taken back."""
        ...

    @property
    def asked(self) -> int:
        """What the host has asked it for, in all."""
        ...

    def ask(self, pages: int) -> bool:
        """Ask it for so many in all, from any thread; False if it cannot be asked before it has heard of the last."""
        ...


def step_of(frames: int) -> int:
    """The unit of what is little, for a host with so many frames."""
    return min(max(frames // PART, LEAST_FRAMES), MOST_FRAMES)


class Balloons:
    """The guests of one host that have been heard of, and how much of its memory is to be left. For any thread."""

    def __init__(self, frames: int) -> None:
        """Of a host with so many frames."""
        step = step_of(frames)
        self.few, self.enough, self.plenty = FEW * step, ENOUGH * step, PLENTY * step
        """In frames that whoever comes first may take."""
        self.there = False
        """Whether a guest has ever been heard of: asked at each exit."""
        self._givers: weakref.WeakSet[Giver] = weakref.WeakSet()
        self._changing = threading.Lock()
        self._looking = threading.Lock()
        self._asks = False
        self._again = 0.0
        """When it is looked again, of the host's monotonic clock."""

    def join(self, giver: Giver) -> None:
        """A guest has said that it has a balloon."""
        if giver not in self._givers:
            with self._changing:
                self._givers.add(giver)
            self.there = True

    @property
    def _all(self) -> list[Giver]:
        with self._changing:
            return list(self._givers)

    @property
    def asked(self) -> int:
        """Pages that the host asks for at the moment."""
        return sum(one.asked for one in self._all if one.listens)

    @property
    def lent(self) -> int:
        """Pages that guests which may be asked have given for that."""
        return sum(one.lent for one in self._all if one.listens)

    def look(self, left: int) -> None:
        """So many frames are left for whoever comes first: ask for some if these are few, and for less if these are
        plenty. Nobody is waited for.
        """
        if self.few <= left <= self.plenty and not self._asks:
            return
        now = time.monotonic()
        if now < self._again or not self._looking.acquire(blocking=False):
            return
        try:
            self._again = now + LOOK_S
            self._ask(left)
        finally:
            self._looking.release()

    def _ask(self, left: int) -> None:
        givers = [one for one in self._all if one.listens]
        asked = self._asks
        self._asks = left < (self.enough if asked else self.few)
        if self._asks:
            for giver, part in parts(givers, self.enough - left, lambda one: one.spare):
                giver.ask(giver.lent + part)
        elif left > self.plenty:
            for giver, part in parts(givers, left - self.enough, lambda one: one.lent):
                giver.ask(min(giver.asked, giver.lent - part))
        elif asked:  # there is enough: whoever has not given need not do so any more
            heard = [giver.ask(min(giver.asked, giver.lent)) for giver in givers]
            self._asks = not all(heard)  # else one that is still to hear of more would never hear of this


def parts(givers: Iterable[G], pages: int, of: Callable[[G], int]) -> list[tuple[G, int]]:
    """What each has of so many pages, in proportion to ``of`` it, and at most that: together no fewer pages."""
    have = [(giver, max(of(giver), 0)) for giver in givers]
    whole = max(sum(each for _, each in have), 1)
    return [(giver, min(-(-pages * each // whole), each)) for giver, each in have]


__all__ = ["Balloons", "Giver", "parts", "step_of"]
