"""A run that waits for the host: for a timer of the wall clock, or for input. It has no pCPU meanwhile."""

from __future__ import annotations

import threading
import time
from contextlib import suppress

SPIN_S = 0.0001
"""Sleeps shorter than this, in host seconds, are spent spinning."""


class Bell:
    """What wakes it. It is not forgotten when it rings before the sleep begins.

    A lock by itself, which is taken while it has not rung: `threading.Event` has a lock within, which an exception of a
    signal's handler would leave taken.
    """

    def __init__(self) -> None:
        self._quiet = threading.Lock()
        self._quiet.acquire()

    def ring(self) -> None:
        """Wake the sleeper; from any thread."""
        with suppress(RuntimeError):  # it has rung
            self._quiet.release()

    def sleep(self, seconds: float) -> bool:
        """Sleep so long at most; whether it rang."""
        if 0 < seconds < SPIN_S:  # too short for the host's scheduler to wake us in time
            end = time.monotonic() + seconds
            while self._quiet.locked() and time.monotonic() < end:
                pass
            seconds = 0
        return self._quiet.acquire(timeout=max(seconds, 0))


__all__ = ["Bell"]
