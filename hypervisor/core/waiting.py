"""The alarms of a run: for a VM by the wall clock that waits, and for a timeout."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hypervisor.core.vm import VM

LOOK_IN_S = 0.05
"""Longest sleep in host seconds before the run looks at timeouts and signals."""

AGAIN_S = 0.0003
"""How soon the alarm looks again whether a timer that was due has been served, in host seconds."""


class Alarm:
    """A thread that kicks the pCPU when a timer of a wall-clock VM is due, and now and then so that Python looks in."""

    def __init__(self, vm: VM) -> None:
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


@contextmanager
def looking_after(vm: VM, seconds: float) -> Iterator[None]:
    """Have the run look at its timeout after so many host seconds, however slowly its virtual time passes."""
    timer = threading.Timer(min(seconds, threading.TIMEOUT_MAX), vm.look)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()  # nothing is left running when a run is over
