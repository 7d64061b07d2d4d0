"""The thread of a pCPU: it executes the tasks that the queue gives to that."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any


class PCpuThread:
    """Begins when it is woken first, and ends with its host."""

    def __init__(self, name: str, serve: Callable[[PCpuThread], bool]) -> None:
        """``serve`` is called when it was woken, until it answers that nothing is left to do."""
        self._name, self._serve = name, serve
        self._gate = threading.Lock()
        self._gate.acquire()
        self._closed = False
        self._thread: threading.Thread | None = None
        self._tracer: Any = None

    def wake(self) -> None:
        """There is something to do. By one thread at a time."""
        if self._gate.locked():
            self._gate.release()
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()

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
            if self._gate.locked():
                self._gate.release()
            self._thread.join()

    def _run(self) -> None:
        while not self._closed:
            self._gate.acquire()
            while not self._closed and self._serve(self):
                pass


__all__ = ["PCpuThread"]
