"""A run that waits for the host: for a timer of the wall clock, or for input. It has no pCPU meanwhile."""

from __future__ import annotations

import threading
import time

SPIN_S = 0.0001
"""Sleeps shorter than this, in host seconds, are spent spinning."""


class Bell:
    """What wakes it. It is not forgotten when it rings before the sleep begins."""

    def __init__(self) -> None:
        self._rung = threading.Event()

    def ring(self) -> None:
        """Wake the sleeper; from any thread."""
        self._rung.set()

    def sleep(self, seconds: float) -> bool:
        """Sleep so long at most; whether it rang."""
        if 0 < seconds < SPIN_S:  # too short for the host's scheduler to wake us in time
            end = time.monotonic() + seconds
            while not self._rung.is_set() and time.monotonic() < end:
                pass
            rang = self._rung.is_set()
        else:
            rang = self._rung.wait(max(seconds, 0))
        self._rung.clear()
        return rang


__all__ = ["Bell"]
