"""The thread of a pCPU: it executes the tasks that the queue gives to that."""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any

from hypervisor.run.threads.patience import Mark, Patience
from hypervisor.run.threads.starting import start
from hypervisor.run.threads.thread_gate import Gate


class PCpuThread:
    """Begins when it is woken first, and ends with its host: when that is closed, or forgotten."""

    def __init__(self, name: str, serve: Callable[[PCpuThread], bool]) -> None:
        """``serve`` is called when it was woken, until it answers that nothing is left to do."""
        self._name, self._serve = name, serve
        self._gate, self._mark = Gate(), Mark()
        self._closed = False
        self._thread: threading.Thread | None = None
        self._tracer: Any = None
        weakref.finalize(self, self._gate.open).atexit = False

    def wake(self) -> None:
        """There is something to do. By one thread at a time, which may be interrupted anywhere: if that was where it
        waited for the new thread to begin, there may be two for a while, and the older one ends.
        """
        self._mark.set()
        self._gate.open()
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(
                target=_run, args=(self._gate, self._mark, weakref.ref(self)), name=self._name, daemon=True
            )
            start(self._thread)

    def trace(self, tracer: Any) -> None:
        """Have what is executed from now on traced by this function of whoever asked for it: debuggers and coverage
        tools see handlers as if they were called there. On this thread.

        Only where it is another one than before: such a tool may have put one for this thread in its place.
        """
        if tracer is not self._tracer:
            self._tracer = tracer
            sys.settrace(tracer)

    def close(self) -> None:
        """End it, unless it is the one that asks."""
        self._closed = True
        if self._thread is not None and self._thread is not threading.current_thread():
            self._gate.open()
            self._thread.join()

    def work(self) -> bool:
        """Do what there is to do; whether to wait for more."""
        if self._thread is not threading.current_thread():
            return False
        while not self._closed and self._serve(self):
            pass
        return not self._closed


def _run(gate: Gate, mark: Mark, owner: weakref.ref[PCpuThread]) -> None:
    """The thread, which knows nothing of its host while it waits."""
    patience = Patience()
    while True:
        thread = owner()  # before it waits: it may have begun so late that another one is there by now
        if thread is None or not thread.work():
            gate.open()  # for that
            return
        del thread
        began = patience.begin(mark)
        gate.wait()
        mark.clear()
        patience.end(began)


__all__ = ["PCpuThread"]
