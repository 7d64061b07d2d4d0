"""How much host memory a range of the host's frames takes."""

from __future__ import annotations

import ctypes
import mmap

from hypervisor.units import PAGE_SIZE


def resident_bytes(memory: mmap.mmap, start: int, size: int) -> int:
    """Bytes of ``memory[start:start + size]`` that are backed by real memory (mincore(2))."""
    pages = size // PAGE_SIZE
    vector = (ctypes.c_ubyte * pages)()
    base = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mincore(ctypes.c_void_p(base + start), ctypes.c_size_t(size), vector):
        return size
    return sum(byte & 1 for byte in vector) * PAGE_SIZE
