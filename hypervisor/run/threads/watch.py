"""A host's watch: one thread for all that must be done at some time of the host's, whatever its pCPUs do."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable

from hypervisor.run.threads.starting import start
from hypervisor.run.threads.thread_gate import Gate

NEVER = float("inf")


class Alarm:
    """Something to be done at a time, which may be set again and again.

    Any thread sets it, also in a signal's handler: that is why nothing here takes a lock.
    """

    __slots__ = ("_ring", "_watch", "when")

    def __init__(self, watch: Watch, ring: Callable[[], None]) -> None:
        self._watch, self._ring = watch, ring
        self.when = NEVER
        """Of time.monotonic, in seconds."""

    def set(self, when: float) -> None:
        """Ring then, and not at the time that it was set to before."""
        self.when = when
        self._watch.expect(when)

    def close(self) -> None:
        """It never rings again, except if it is about to just now."""
        self.when = NEVER
        self._watch.forget(self)

    def ring(self) -> None:
        """Its time has come. What is called sets it again, if it has to."""
        self.when = NEVER
        self._ring()


class Watch:
    """Has a thread as soon as an alarm is set, which ends with its host: when that is closed, or forgotten."""

    def __init__(self) -> None:
        self._alarms: set[Alarm] = set()
        self.begin()

    def begin(self) -> None:
        """Without a thread; also in a process that was forked, where the one that there was is not."""
        self._gate = Gate()
        weakref.finalize(self, self._gate.open).atexit = False
        self._wakes_at = NEVER
        """When the thread looks next; while it looks it is to be told of everything."""
        self._closed = False
        self._thread: threading.Thread | None = None

    def alarm(self, ring: Callable[[], None]) -> Alarm:
        """An alarm that is not set. ``ring`` is called on the watch's thread, and returns soon."""
        alarm = Alarm(self, ring)
        self._alarms.add(alarm)
        return alarm

    def forget(self, alarm: Alarm) -> None:
        """For `Alarm.close`."""
        self._alarms.discard(alarm)

    def expect(self, when: float) -> None:
        """Look no later than then."""
        if when < self._wakes_at:
            self._gate.open()
        if self._thread is None and when < NEVER:
            thread = threading.Thread(
                target=_serve, args=(self._gate, weakref.ref(self)), name="hypervisor-watch", daemon=True
            )
            try:
                self._thread = thread  # before it begins: of several that are started at once, this one serves
                start(thread)
            except BaseException:  # an interrupt: nobody knows whether it begins
                if self._thread is thread:
                    self._thread = None
                raise

    def serves(self) -> bool:
        """Whether this thread is the watch's, also if whoever started it was interrupted and does not know it."""
        if self._thread is None:
            self._thread = threading.current_thread()
        return self._thread is threading.current_thread()

    def close(self) -> None:
        """End the thread."""
        self._closed = True
        self._gate.open()
        if self._thread is not None:
            self._thread.join()

    def look(self) -> float | None:
        """Ring what is due; in how many seconds something is, infinite for never, None when all is over."""
        self._wakes_at = NEVER
        now, next_at = time.monotonic(), NEVER
        for alarm in list(self._alarms):
            if alarm.when <= now:
                alarm.ring()
            next_at = min(next_at, alarm.when)
        self._wakes_at = next_at
        return None if self._closed else max(next_at - time.monotonic(), 0.0)


def _serve(gate: Gate, owner: weakref.ref[Watch]) -> None:
    """The thread, which knows nothing of its host while it waits."""
    while (watch := owner()) is not None:
        left = watch.look() if watch.serves() else None
        if left is None:
            gate.open()  # for another one that may be there
            return
        del watch
        gate.wait(left)


__all__ = ["NEVER", "Alarm", "Watch"]
