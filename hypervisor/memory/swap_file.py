"""The swap file of a host: slots of 4 KiB that pages of VMs lie in when there is no frame for them.

The file has no name, so it goes with the process, however that ends. All of its room on the disk is taken when it is
made, so it is never the disk that is full later. It is written by calls, which say what went wrong, and read through
a mapping, in which slots look as frames do; there the system says it by a signal (`engine.kernels.memory.lost_slots`).
"""

from __future__ import annotations

import ctypes
import mmap
import os
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path

from hypervisor.errors import ConfigError
from hypervisor.units import MIB, PAGE_SIZE, page_up

_FIXED, _NORESERVE = 0x10, 0x4000  # MAP_FIXED, MAP_NORESERVE
_MOST = 256
"""Pages that one call writes."""
_PIECE = 1 << 20
"""Bytes that are copied at once."""


def _map(address: int, size: int, protection: int, flags: int, file: int = -1) -> None:
    """Let something else lie at a process address. Raises `OSError`."""
    libc = ctypes.CDLL(None, use_errno=True)
    call = libc.mmap
    call.restype = ctypes.c_void_p
    call.argtypes = (
        ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long,
    )  # fmt: skip
    if call(address, size, protection, flags | _FIXED, file, 0) != address:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


class SwapFile:
    """A file of ``size`` bytes in a folder, the system's for temporary files if there is none. Raises `ConfigError`
    if there is no room for it.
    """

    def __init__(self, size: int, folder: str | os.PathLike[str] | None = None) -> None:
        self.size = page_up(size)
        self._child = (-1, -1)
        """A pipe that is open while the child of a fork copies slots."""
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
        self._close = weakref.finalize(self, os.close, self._file)

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
        try:
            _map(address, self.size, mmap.PROT_READ, mmap.MAP_SHARED, self._file)
        except OSError as error:
            raise ConfigError(f"The swap file in {self.folder} cannot be mapped: {error.strerror}.") from error

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

    def _put(self, pieces: list[memoryview], offset: int) -> None:
        if os.pwritev(self._file, pieces, offset) != len(pieces) * PAGE_SIZE:
            raise OSError(0, "only a part of it was written")

    def forks(self) -> None:
        """This thread is about to fork the process, while nobody writes to slots that are in use."""
        if self._close.alive:
            self._child = os.pipe()

    def has_forked(self) -> None:
        """It has, and this is the parent: wait until the child has what is in use, or is no more."""
        (reader, writer), self._child = self._child, (-1, -1)
        if reader >= 0:
            os.close(writer)
            os.read(reader, 1)
            os.close(reader)

    def copy(self, address: int, size: int) -> list[int]:
        """This is the child: let the first ``size`` bytes of slots, which are mapped at ``address``, be memory of this
        process instead of the file, which the parent goes on with. Offsets of slots that cannot be read, which are
        zeros now.
        """
        lost: list[int] = []
        if not self._close.alive:
            return lost
        try:
            _map(address, size, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            for start in range(0, size, _PIECE):
                end = min(start + _PIECE, size)
                if not self._fetch(address, start, end - start):
                    lost += [at for at in range(start, end, PAGE_SIZE) if not self._fetch(address, at, PAGE_SIZE)]
        finally:
            for end in self._child:  # the parent goes on, whatever has become of this
                os.close(end)
            self._child = -1, -1
        return lost

    def _fetch(self, address: int, offset: int, size: int) -> bool:
        """Copy slots to where they are shown; whether all could be read."""
        try:
            data = os.pread(self._file, size, offset)
        except OSError:
            return False
        ctypes.memmove(address + offset, data, len(data))
        return len(data) == size

    def hide(self, address: int) -> None:
        """Let what `show` has put there read as zeros: nobody needs it any more, and its room on the disk is not given
        back as long as it is mapped.
        """
        if self._close.alive:
            _map(address, self.size, mmap.PROT_READ, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NORESERVE)

    def close(self) -> None:
        """Give its room back, as soon as nobody maps it. Closing twice is harmless."""
        self._close()


__all__ = ["SwapFile"]
