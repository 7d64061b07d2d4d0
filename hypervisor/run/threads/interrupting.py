"""Ending a handler, a device or a condition that does not return: by an exception in its thread."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from types import TracebackType

from hypervisor.run.threads.thread_frames import frame_of

GRACE_S = 1.0
"""How long a handler may go on when its run was to end, in host seconds."""

AGAIN_S = 0.05
"""How soon it is interrupted again if it does not end, in host seconds: it may have caught it."""


class Overdue(BaseException):
    """Raised in a handler or device that goes on when its run was to end."""


class Guard:
    """What may be interrupted by `interrupt`; reentrant neither in one thread nor in several, but may be used again.

    ``busy()`` says whose code the thread executes, or nothing while that is not a user's.
    """

    def __init__(self, busy: Callable[[], str]) -> None:
        self._busy = busy
        self._raising = threading.Lock()
        self._thread = 0
        self._sent: set[type[BaseException]] = set()
        self.ended = ""
        """Whose code was interrupted, if any."""

    def caught(self, error: BaseException) -> bool:
        """Whether this is what was raised here."""
        return type(error) in self._sent

    def interrupt(self, kind: type[BaseException]) -> None:
        """Raise an exception in what is executed in the guard, if that is a user's code; from another thread."""
        with self._raising:
            busy = self._busy() if self._thread else ""
            if busy and not starts_a_thread(self._thread):
                self.ended = busy
                self._sent.add(kind)
                _raise_in(self._thread, kind)

    def __enter__(self) -> Guard:
        self._thread = threading.get_ident()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        thread, taken = threading.get_ident(), False
        while True:
            try:
                with self._raising:  # nothing is raised behind this
                    self._thread = 0
                if not self._sent or taken:
                    return
                # What may be on its way is taken here. To call it back would not do: until one is taken, CPython looks
                # for it at every jump and call of every thread.
                taken = True
                _raise_in(thread, Overdue)
                while True:
                    pass
            except BaseException as other:
                if not (isinstance(other, Overdue) or self.caught(other)):
                    raise


def starts_a_thread(thread: int) -> bool:
    """Whether a thread is about to start another one. To CPython that has the number of the first for a moment: an
    exception would hit the new one before it says that it has started, for which the first would wait for ever.
    """
    frame = frame_of(thread)
    while frame is not None:
        if frame.f_code is threading.Thread.start.__code__:
            return True
        frame = frame.f_back
    return False


def _raise_in(thread: int, kind: type[BaseException]) -> None:
    """Raise an exception at the next line of Python that a thread executes."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(kind))


__all__ = ["AGAIN_S", "GRACE_S", "Guard", "Overdue", "starts_a_thread"]
