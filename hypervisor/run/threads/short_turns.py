"""How long a thread that computes keeps the interpreter from others."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

SHORT_S = 0.0005
"""Host seconds. To hand the interpreter over and back takes some 20 us."""


@contextmanager
def short_turns() -> Iterator[None]:
    """Have threads that need the interpreter for moments wait for half a millisecond in a ``with`` block, and not for
    the 5 ms of CPython: those that read a file in large pieces get on beside one that computes in Python.
    """
    before = sys.getswitchinterval()
    if before <= SHORT_S:  # and whoever made it so makes it longer again
        yield
        return
    sys.setswitchinterval(SHORT_S)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


__all__ = ["SHORT_S", "short_turns"]
