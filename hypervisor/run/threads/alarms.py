"""The alarms of a run: for a VM by the wall clock that waits, and for a timeout."""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hypervisor.run.machine import Machine

LOOK_IN_S = 0.05
"""Longest sleep in host seconds before the run looks at timeouts and signals."""

AGAIN_S = 0.0003
"""How soon the alarm looks again whether a timer that was due has been served, in host seconds."""


GRACE_S = 1.0
"""How long a handler may go on when the time of its run is over, in host seconds."""


class Alarm:
    """A thread that kicks the pCPU when a timer of a wall-clock VM is due, and now and then so that Python looks in."""

    def __init__(self, vm: Machine) -> None:
        self._vm = vm
        self._condition = threading.Condition()
        self._ended = self._idle = False
        self._thread = threading.Thread(target=self._watch, name=f"{vm.name}-alarm", daemon=True)

    def __enter__(self) -> Alarm:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        with self._condition:
            self._ended = True
            self._condition.notify_all()
        self._thread.join()

    def wake(self) -> None:
        """Deadlines have changed."""
        with self._condition:
            self._condition.notify_all()

    def entered(self) -> None:
        """The VM has got a pCPU."""
        if self._idle:
            self.wake()

    def _watch(self) -> None:
        look_at = time.monotonic() + LOOK_IN_S
        with self._condition:
            while not self._ended:
                deadline = self._vm.clock.timers.earliest_ns
                seconds = LOOK_IN_S if deadline is None else (deadline - self._vm.clock.unseen_ns) / 1e9
                pcpu = self._vm.place.pcpu
                if pcpu is not None and (seconds <= 0 or time.monotonic() >= look_at):
                    pcpu.kick()
                    look_at = time.monotonic() + LOOK_IN_S
                    seconds = AGAIN_S
                if pcpu is None and seconds <= 0:  # the run serves its timers when it gets one
                    self._idle = True
                    if self._vm.place.pcpu is None:
                        self._condition.wait(LOOK_IN_S)
                    self._idle = False
                else:
                    self._condition.wait(min(max(seconds, AGAIN_S), LOOK_IN_S))


class Overdue(BaseException):
    """Raised in a handler or device that goes on when the time of its run is over."""


class Deadline:
    """Has a run look at its timeout after so many host seconds, however slowly its virtual time passes; and ends a
    handler that does not return then.

    ``busy()`` says whose code the run's thread executes, or nothing while that is not a user's.
    """

    def __init__(self, look: Callable[[], None], busy: Callable[[], str], seconds: float) -> None:
        self._look, self._busy, self._seconds = look, busy, min(seconds, threading.TIMEOUT_MAX)
        self._over = threading.Event()
        self._raising = threading.Lock()
        self._run = threading.get_ident()
        self.ended = ""
        """Whose code was interrupted, if any."""
        self._thread = threading.Thread(target=self._watch, name="hypervisor-deadline", daemon=True)

    def __enter__(self) -> Deadline:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        taken = False
        while True:  # nothing is left running when a run is over
            try:
                with self._raising:  # nothing is raised behind this
                    self._over.set()
                self._thread.join()
                if not self.ended or taken:
                    return
                # What may be on its way is taken here. To call it back would not do: until one is taken, CPython looks
                # for it at every jump and call of every thread.
                taken = True
                _raise_in(self._run, Overdue)
                while True:
                    pass
            except Overdue:
                continue

    def _watch(self) -> None:
        if self._over.wait(self._seconds):
            return
        self._look()
        patience = GRACE_S
        while not self._over.wait(patience):
            with self._raising:
                busy = "" if self._over.is_set() else self._busy()
                if busy:
                    self.ended = busy
                    _raise_in(self._run, Overdue)
            patience = LOOK_IN_S  # again: it may have caught it


def _raise_in(thread: int, kind: type[BaseException]) -> None:
    """Raise an exception at the next line of Python that a thread executes."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(kind))
