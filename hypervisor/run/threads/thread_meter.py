"""What the host's kernel says of a thread: how long it computed, and how long it was kept from that."""

from __future__ import annotations

import os
import threading
import time
import weakref
from contextlib import suppress
from typing import NamedTuple, Protocol


class Reading(NamedTuple):
    """Of one thread at one moment, in host seconds."""

    wall: float
    """Of time.monotonic."""
    cpu: float
    """For which it has had a processor of the host's."""
    stolen: float
    """For which it wanted one, and others had them."""


class Meter(Protocol):
    """Where a thread can be read."""

    def read(self) -> Reading:
        """Now; from any thread."""
        ...


class ThreadMeter:
    """Of the thread that makes it. Other threads may read it, also behind that one's end."""

    def __init__(self) -> None:
        self.thread = threading.get_ident()
        """Whose it is."""
        self._clock = time.pthread_getcpuclockid(self.thread)
        self._last = time.clock_gettime(self._clock)
        self._file = -1
        with suppress(OSError):
            self._file = os.open(f"/proc/self/task/{threading.get_native_id()}/schedstat", os.O_RDONLY | os.O_CLOEXEC)
            weakref.finalize(self, os.close, self._file).atexit = False

    def read(self) -> Reading:
        """See `Meter`."""
        wall = time.monotonic()
        with suppress(OSError):  # the thread has ended
            self._last = time.clock_gettime(self._clock)
        return Reading(wall, self._last, self._stolen(wall))

    def _stolen(self, wall: float) -> float:
        """Linux says it in nanoseconds, behind the time that the thread has computed (proc(5), schedstat). A kernel
        that does not leaves nothing better than to take for stolen whatever the thread did not compute.
        """
        with suppress(OSError, IndexError, ValueError):
            if self._file >= 0:
                return int(os.pread(self._file, 100, 0).split()[1]) / 1e9
        return wall - self._last


__all__ = ["Meter", "Reading", "ThreadMeter"]
