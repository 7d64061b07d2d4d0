"""Running a VM away from the main thread, because that is where Python runs the handlers of signals.

A signal that comes while the guest runs is served at the next Python code on the main thread, and its handler may
raise (Ctrl-C does). On a thread that serves the guest's accesses this would be in the middle of an instruction: before
the device was asked, or after it has answered. So the main thread only waits, and what a signal raises there ends the
run at the guest's next block.

Nothing here may be left half done wherever such an exception strikes: it can do so after any call. The hand-over to the
other thread is therefore one call, and all that follows is a loop that can be entered again.
"""

from __future__ import annotations

import contextvars
import ctypes
import os
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Generic, TypeVar

T = TypeVar("T")

AGAIN_S = 0.02
"""How soon a run that has not ended is asked again, in host seconds."""

GRACE_S = 2.0
"""How long, in host seconds, a run that was asked to end may go on before its handler is interrupted, too."""


class _Worker:
    """The thread that runs what the main thread waits for, one thing at a time."""

    def __init__(self) -> None:
        self.busy = False
        self._queue: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name="hypervisor", daemon=True)
        self.submit = self._queue.put
        _workers.append(self)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            self._queue.get()()
            self.busy = False

    def interrupt(self, kind: type[BaseException]) -> None:
        """Raise an exception of this kind in what the thread executes."""
        ident = ctypes.c_ulong(self._thread.ident or 0)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, ctypes.py_object(kind))


_workers: list[_Worker] = []
os.register_at_fork(after_in_child=_workers.clear)  # threads do not survive a fork


class _Work(Generic[T]):
    """A function, and what came of it."""

    def __init__(self, function: Callable[[], T]) -> None:
        self._function = function
        self._context = contextvars.copy_context()
        self._done = threading.Lock()
        self._done.acquire()
        self.ended = False
        self.result: T
        self.error: BaseException | None = None

    def run(self) -> None:
        """Do it, on the other thread."""
        try:
            self.result = self._context.run(self._function)
        except BaseException as error:
            self.error = error
        finally:
            self.ended = True
            self._done.release()

    def wait(self, seconds: float = -1) -> None:
        """Wait for the end, so many seconds at most if they are not negative."""
        self._done.acquire(timeout=seconds)


class _Waiter(Generic[T]):
    """The main thread's side."""

    def __init__(self, function: Callable[[], T], end: Callable[[BaseException], None], worker: _Worker) -> None:
        self._work, self._end, self._worker = _Work(function), end, worker
        self._begun = False
        self._raised: BaseException | None = None
        self._since = 0.0
        self._pressed = self._given_up = False

    def result(self) -> T:
        """Wait, and return or raise what came of it; what a signal raised comes first."""
        while not (self._work.ended or self._given_up):
            try:
                self._wait()
            except BaseException as error:  # also in the middle of serving the last one
                if not self._begun:
                    raise
                self._interrupted(error)
        problem = self._raised or self._work.error
        if problem is not None:
            raise problem
        return self._work.result

    def _wait(self) -> None:
        if not self._begun:
            submit, run = self._worker.submit, self._work.run
            self._begun = self._worker.busy = True
            submit(run)
        while not (self._work.ended or self._given_up):
            try:
                if self._raised is None:
                    self._work.wait()
                    continue
                self._end(self._raised)  # again and again: it may not have begun when it was told first
                self._work.wait(AGAIN_S)
                if not (self._work.ended or self._pressed) and time.monotonic() > self._since + GRACE_S:
                    self._pressed = True
                    self._worker.interrupt(type(self._raised))
            except BaseException as error:
                self._interrupted(error)

    def _interrupted(self, error: BaseException) -> None:
        if self._raised is None:
            self._raised, self._since = error, time.monotonic()
        elif self._pressed and time.monotonic() > self._since + 2 * GRACE_S:  # a handler does not come back
            self._given_up = True


def away_from_signals(function: Callable[[], T], end: Callable[[BaseException], None]) -> T:
    """What ``function`` returns or raises; from the main thread it runs on another one, with the caller's context
    variables.

    ``end`` is called with what a signal's handler raised meanwhile, and is to make ``function`` return soon; that
    exception is then raised here. After `GRACE_S` an exception of the same kind is raised in ``function``, too; if a
    handler does not come back even so, the next signal's exception is raised without waiting any longer.
    """
    if threading.current_thread() is not threading.main_thread():
        return function()
    idle = [worker for worker in _workers if not worker.busy]
    return _Waiter(function, end, idle[0] if idle else _Worker()).result()


__all__ = ["GRACE_S", "away_from_signals"]
