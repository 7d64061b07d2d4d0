"""A run that waits for the host: for a timer of the wall clock, or for input. It has no pCPU meanwhile."""

from __future__ import annotations

import time

from hypervisor.run.threads.thread_gate import Gate

SPIN_S = 0.0001
"""Sleeps shorter than this, in host seconds, are spent spinning."""


class Bell:
    """What wakes it. It is not forgotten when it rings before the sleep begins."""

    def __init__(self) -> None:
        self._gate = Gate()

    def ring(self) -> None:
        """Wake the sleeper; from any thread, and in a signal's handler."""
        self._gate.open()

    def sleep(self, seconds: float) -> bool:
        """Sleep so long at most; whether it rang."""
        if 0 < seconds < SPIN_S:  # too short for the host's scheduler to wake us in time
            end = time.monotonic() + seconds
            while not self._gate.is_open and time.monotonic() < end:
                pass
            return self._gate.wait(0)
        return self._gate.wait(seconds)


__all__ = ["Bell"]
