"""Memory of the system behind frames that are about to be filled, asked for while something else goes on."""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from hypervisor.units import MIB, PAGE_SIZE

if TYPE_CHECKING:
    from hypervisor.memory.frames import HostMemory

_MADV_POPULATE_WRITE = 23  # of Linux 5.14; older ones refuse it, and nothing is lost
_PIECE = 8 * MIB


@contextmanager
def backed(memory: HostMemory, pages: int) -> Iterator[None]:
    """Have the system put memory behind the frames that the next ``pages`` of VMs get, in a thread of its own during a
    ``with`` block. Else it does so page by page, when each is stored to, which takes the one who stores twice as long
    as storing. What the frames hold does not change.
    """
    places = memory.next_frames(pages * PAGE_SIZE)
    if not places or sys.platform != "linux":
        yield
        return
    advise, ended = ctypes.CDLL(None).madvise, threading.Event()

    def back() -> None:
        for place in places[::_PIECE]:
            size = min(_PIECE, places.stop - place)
            if ended.is_set() or advise(ctypes.c_void_p(place), ctypes.c_size_t(size), _MADV_POPULATE_WRITE):
                return

    thread = threading.Thread(target=back, name="hypervisor-backing", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


__all__ = ["backed"]
