"""What another thread executes at the moment.

Up to CPython 3.11 ``sys._current_frames`` makes objects while it has the lock of the list of threads, so the collector
may run there, and a finalizer may let go of the interpreter lock. Whoever starts a thread then has that one and waits
for the other: no thread of the process ever runs again (CPython's issue 106883). So nothing is collected meanwhile.
From 3.12 on the collector runs between two instructions only.
"""

from __future__ import annotations

import gc
import os
import sys
import threading
from types import FrameType

_COLLECTS_INSIDE = sys.version_info < (3, 12)
_one_at_a_time = threading.RLock()
"""Else the first one that returns would have the collector run inside the second one's call."""


def frame_of(thread: int) -> FrameType | None:
    """The innermost frame of a thread of Python's, None if there is no such thread."""
    if not _COLLECTS_INSIDE:
        return sys._current_frames().get(thread)
    with _one_at_a_time:
        collects = gc.isenabled()
        try:
            gc.disable()
            return sys._current_frames().get(thread)
        finally:
            if collects:
                gc.enable()


def _forked() -> None:
    """Another thread may have had it, which is not there any more, and may have kept the collector from running."""
    global _one_at_a_time
    _one_at_a_time = threading.RLock()


os.register_at_fork(after_in_child=_forked)

__all__ = ["frame_of"]
