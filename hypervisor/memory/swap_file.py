"""The swap file of a host: slots of 4 KiB that pages of VMs lie in when there is no frame for them.

The file has no name, so it goes with the process, however that ends. All of its room on the disk is taken when it is
made, so it is never the disk that is full later. It is written by calls, which say what went wrong, and read through
a mapping, in which slots look as frames do.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from hypervisor.errors import ConfigError
from hypervisor.units import MIB, PAGE_SIZE, page_up

_FIXED = 0x10  # MAP_FIXED
_MOST = 256
"""Pages that one call writes."""


class SwapFile:
    """A file of ``size`` bytes in a folder, the system's for temporary files if there is none. Raises `ConfigError`
    if there is no room for it.
    """

    def __init__(self, size: int, folder: str | os.PathLike[str] | None = None) -> None:
        self.size = page_up(size)
        self.folder = Path(tempfile.gettempdir() if folder is None else folder)
        if not hasattr(os, "posix_fallocate") or not hasattr(os, "O_TMPFILE"):
            raise ConfigError("swap=: swapping needs Linux.")
        try:
            self._file = self._open()
        except OSError as error:
            raise ConfigError(
                f"A swap file of {self.size // MIB} MiB cannot be made in {self.folder}: {error.strerror}. Give a "
                "folder with as much room (swap_folder=), or a smaller size."
            ) from error

    def _open(self) -> int:
        try:
            file = os.open(self.folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError:  # there are file systems without such files
            file, name = tempfile.mkstemp(prefix="hypervisor-swap-", dir=self.folder)
            os.unlink(name)
        try:
            os.posix_fallocate(file, 0, self.size)
        except OSError:
            os.close(file)
            raise
        return file

    def show(self, address: int) -> None:
        """Let the slots be read from a process address on, where there is a mapping of that size."""
        libc = ctypes.CDLL(None, use_errno=True)
        call = libc.mmap
        call.restype, call.argtypes = (
            ctypes.c_void_p,
            [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long],
        )
        if call(address, self.size, mmap.PROT_READ, mmap.MAP_SHARED | _FIXED, self._file, 0) != address:
            raise ConfigError(f"The swap file in {self.folder} cannot be mapped: {os.strerror(ctypes.get_errno())}.")

    def write(self, pages: Sequence[tuple[int, memoryview]]) -> None:
        """Write pages at offsets, and wait until they are on the disk: what is lost behind that is lost by the disk.
        Raises `OSError`.
        """
        start = 0
        for n in range(1, len(pages) + 1):
            together = n < len(pages) and n - start < _MOST and pages[n][0] == pages[n - 1][0] + PAGE_SIZE
            if not together:
                self._put([data for _, data in pages[start:n]], pages[start][0])
                start = n
        os.fdatasync(self._file)
        os.posix_fadvise(self._file, 0, 0, os.POSIX_FADV_DONTNEED)

    def _put(self, pieces: list[memoryview], offset: int) -> None:
        if os.pwritev(self._file, pieces, offset) != len(pieces) * PAGE_SIZE:
            raise OSError(0, "only a part of it was written")

    def close(self) -> None:
        """Give its room back. What is mapped stays until nobody maps it. Closing twice is harmless."""
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)


__all__ = ["SwapFile"]
