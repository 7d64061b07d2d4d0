"""What a thread of ours waits at."""

from __future__ import annotations

import threading


class Gate:
    """Lets one through each time that it is opened, however often before.

    Any thread opens it, also in a signal's handler: nobody who does waits for another one. It is a lock by itself,
    which is taken while it is closed. (`threading.Event` has a lock within, which an exception of a signal's handler
    would leave taken, and CPython 3.11's `queue.SimpleQueue` waits for ever if its timeout runs out while it takes its
    lock.)
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    @property
    def is_open(self) -> bool:
        """Whether the next one gets through at once."""
        return not self._lock.locked()

    def open(self) -> None:
        """Let the one through who waits, or comes next."""
        try:
            self._lock.release()
        except RuntimeError:  # it is open
            pass

    def wait(self, seconds: float = threading.TIMEOUT_MAX) -> bool:
        """Until it is opened, or so long at most; whether it was."""
        return self._lock.acquire(timeout=min(max(seconds, 0.0), threading.TIMEOUT_MAX))


__all__ = ["Gate"]
