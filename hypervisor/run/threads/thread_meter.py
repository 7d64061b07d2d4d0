"""What the host's kernel says of a thread: how long it computed, and how long it was kept from that."""

from __future__ import annotations

import os
import threading
import time
import weakref
from contextlib import suppress
from typing import NamedTuple, Protocol

NO_FILE, CLOSED = -1, -2


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

    def glance(self, since: Reading) -> Reading:
        """The same, but for ``stolen``, which is that of ``since``."""
        ...


class ThreadMeter:
    """Of the thread that makes it. Other threads may read it, also behind that one's end."""

    def __init__(self) -> None:
        self.thread = threading.get_ident()
        """Whose it is."""
        self._clock = time.pthread_getcpuclockid(self.thread)
        self._last = time.clock_gettime(self._clock)
        self._stolen_last = 0.0
        self._file = NO_FILE
        with suppress(OSError):
            self._file = os.open(f"/proc/self/task/{threading.get_native_id()}/schedstat", os.O_RDONLY | os.O_CLOEXEC)
            self._closing = weakref.finalize(self, os.close, self._file)
            self._closing.atexit = False

    def close(self) -> None:
        """What is read from now on is what was read last."""
        if self._file >= 0:
            self._stolen(time.monotonic())
            self._closing()
            self._file = CLOSED

    def read(self) -> Reading:
        """See `Meter`."""
        wall, cpu = time.monotonic(), self._cpu()
        return Reading(wall, cpu, self._stolen(wall))

    def glance(self, since: Reading) -> Reading:
        """As `read`, but that nothing is known to have been stolen since then: it is not asked for, which would let
        other threads have the interpreter.
        """
        return Reading(time.monotonic(), self._cpu(), since.stolen)

    def _cpu(self) -> float:
        try:
            self._last = time.clock_gettime(self._clock)
        except OSError:  # the thread has ended
            pass
        return self._last

    def _stolen(self, wall: float) -> float:
        """Linux says it in nanoseconds, behind the time that the thread has computed (proc(5), schedstat). A kernel
        that does not leaves nothing better than to take for stolen whatever the thread did not compute.
        """
        if self._file == NO_FILE:
            return wall - self._last
        try:
            self._stolen_last = int(os.pread(self._file, 100, 0).split()[1]) / 1e9
        except OSError:  # the thread has ended, or this is closed
            pass
        return self._stolen_last


__all__ = ["Meter", "Reading", "ThreadMeter"]
