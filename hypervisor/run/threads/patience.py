"""Looking for a moment before sleeping, where what is waited for was soon there the last time.

What one thread asks of another is often done sooner than an idle processor of the host wakes up, twice: there and back
(`hypervisor.engine.kernels.polling`). Who waits longer sleeps at once the next time, so nobody computes for nothing.
"""

from __future__ import annotations

import ctypes
import os
import time
from functools import cache

from hypervisor.engine.compiling.compiler import code

SOON_S = 0.0004
"""Waits that were shorter than this, in host seconds, are worth a look the next time."""

_comers = ctypes.c_int64()
COMERS = ctypes.addressof(_comers)
"""Where all who look are counted."""


@cache
def _several() -> bool:
    """Whether what is waited for can be done while somebody looks."""
    return len(os.sched_getaffinity(0)) > 1


class Mark:
    """What one thread sets and others look at. It is a hint: what is waited for says itself whether it is there."""

    __slots__ = ("_word", "address")

    def __init__(self) -> None:
        self._word = ctypes.c_int64()
        self.address = ctypes.addressof(self._word)
        """Of the word, in this process."""

    def set(self) -> None:
        """It is there; from any thread, also in a signal's handler."""
        self._word.value = 1

    def clear(self) -> None:
        """It is not."""
        self._word.value = 0

    def look(self) -> None:
        """Until it is set, or for some 200 microseconds, without the interpreter lock."""
        code().call["poll"](self.address, COMERS)


class Patience:
    """Whether it is worth while to look, by the last wait of a kind."""

    __slots__ = ("_looks",)

    def __init__(self) -> None:
        self._looks = _several()

    def begin(self, mark: Mark) -> float:
        """A wait begins, by a look at this; when that was, for `end`."""
        began = time.monotonic()
        if self._looks:
            mark.look()
        return began

    def end(self, began: float) -> None:
        """What was waited for is there."""
        self._looks = time.monotonic() - began < SOON_S and _several()


__all__ = ["COMERS", "SOON_S", "Mark", "Patience"]
