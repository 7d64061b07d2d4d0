"""The window through which Unicorn asks for device memory: addresses behind the guest's, an area for each watch."""

from __future__ import annotations

import ctypes
from typing import Any

from hypervisor.engine import block as b
from hypervisor.engine import layout
from hypervisor.errors import EngineError, InternalError

_SIZE = (1 + b.SEATS) << b.SEAT


def map_device_window(library: Any, handle: Any, block: int, read: int, write: int) -> None:
    """Have an instance call the functions at ``read`` and ``write``, with its block, for accesses to the window."""
    error = library.uc_mmio_map(
        handle,
        ctypes.c_uint64(b.MMIO_BASE),
        ctypes.c_size_t(_SIZE),
        ctypes.c_void_p(read),
        ctypes.c_void_p(block),
        ctypes.c_void_p(write),
        ctypes.c_void_p(block),
    )
    if error:
        raise InternalError(f"Unicorn refused the device window (error {error}). Please report this.")
    _widen(library, handle, read)


def _widen(library: Any, handle: Any, read: int) -> None:
    """Have accesses of 8 bytes made at once: Unicorn makes two of 4 unless told."""

    def word(at: int) -> int:
        return ctypes.c_uint64.from_address(at).value

    find = library.find_memory_mapping_x86_64
    find.restype, find.argtypes = ctypes.c_void_p, (ctypes.c_void_p, ctypes.c_uint64)
    region = find(handle, b.MMIO_BASE)
    ops, record = word(region + layout.REGION_OPS), word(region + layout.REGION_OPAQUE)
    if ops != record + layout.MMIO_OPS or word(record) != read:
        raise EngineError("This build of Unicorn has the device window's operations elsewhere. Please report it.")
    ctypes.c_uint32.from_address(ops + layout.OPS_WIDEST).value = 8
