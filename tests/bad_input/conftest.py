"""What is left behind is seen."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest

import hypervisor as hv


@pytest.fixture
def nothing_left() -> Iterator[None]:
    """Fails a test that leaves threads, file descriptors or child processes behind."""
    hv.run_asm("hlt")  # the threads of its host stay
    threads, files = set(threading.enumerate()), set(os.listdir("/proc/self/fd"))
    yield
    assert set(threading.enumerate()) == threads
    assert len(os.listdir("/proc/self/fd")) <= len(files)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
