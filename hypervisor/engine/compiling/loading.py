"""Machine code that was linked before (`linking`), in this process."""

from __future__ import annotations

import ctypes
import mmap
import struct
from collections.abc import Mapping, Sequence
from contextlib import suppress

_WORD = struct.Struct("<Q")
_UNWINDER = "libgcc_s.so.1"


class LoadedCode:
    """A piece of machine code, as long as the process lives."""

    def __init__(
        self, content: bytes, own: Sequence[int], outside: Mapping[str, Sequence[int]], unwinding: int
    ) -> None:
        """See `linking.Linked`."""
        memory = mmap.mmap(-1, len(content), prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        memory[:] = content
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(memory))  # threads may be in it when the interpreter has ended
        self.address = address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        """Where it begins."""
        page = memoryview(memory)
        for at in own:
            _WORD.pack_into(page, at, _WORD.unpack_from(page, at)[0] + address)
        for name, places in outside.items():
            word = _WORD.pack(_address_of(name))
            for at in places:
                page[at : at + 8] = word
        with suppress(OSError, AttributeError):  # without it nobody sees what called a kernel
            ctypes.CDLL(_UNWINDER).__register_frame(ctypes.c_void_p(address + unwinding))


def _address_of(name: str) -> int:
    """Of what the process knows by a name. Kernels call only what tells of an exception, and raise none: so what numba
    alone has, which is not loaded, is ``abort``.
    """
    process = ctypes.pythonapi
    function = getattr(process, name, None) or process.abort
    return ctypes.cast(function, ctypes.c_void_p).value or 0


__all__ = ["LoadedCode"]
