"""Threads are started by whoever comes first, the main thread too, where a signal's handler may raise meanwhile."""

from __future__ import annotations

import threading


def start(thread: threading.Thread) -> None:
    """``thread.start()``. What a handler raises there arrives as it is: CPython takes it for a failure of the start,
    and the new thread may have removed already what is then to be cleaned up, which is another error.
    """
    try:
        thread.start()
    except KeyError as problem:
        raise (problem.__context__ or problem) from None


__all__ = ["start"]
