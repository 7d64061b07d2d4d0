"""Where an image's bytes come from: a file on the host, read when they are asked for, or bytes in memory."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import weakref
from pathlib import Path
from typing import Protocol

from hypervisor.errors import ConfigError, ImageError

ImageLike = str | os.PathLike[str] | bytes
"""What a user gives for an image: a path, or the contents."""


class Source(Protocol):
    """Bytes by offset. What lies beyond the end reads as zeros."""

    name: str
    size: int
    """In bytes."""
    writable: bool

    def read(self, offset: int, size: int) -> bytes:
        """``size`` bytes at ``offset``. Raises `OSError` if the host cannot read them."""
        ...

    def write(self, offset: int, data: bytes) -> None:
        """Store ``data`` at ``offset``. Raises `OSError` if it cannot be stored."""
        ...

    def flush(self) -> None:
        """Have what was written reach the host's storage."""
        ...

    def close(self) -> None:
        """Give the host's file back. Closing twice is harmless."""
        ...


class BytesSource:
    """An image in memory, which is never changed."""

    writable = False

    def __init__(self, data: bytes, name: str = "image") -> None:
        self.name = name
        self.size = len(data)
        self._data = data

    def read(self, offset: int, size: int) -> bytes:
        """See `Source.read`."""
        return self._data[offset : offset + size].ljust(size, b"\0")

    def write(self, offset: int, data: bytes) -> None:
        """Never: an overlay keeps what a guest writes."""
        raise PermissionError(f"{self.name} is not written")

    def flush(self) -> None:
        """There is nothing to flush."""

    def close(self) -> None:
        """There is nothing to close."""


class Window:
    """Some of another source's bytes: a boot image inside a CD, say."""

    writable = False

    def __init__(self, below: Source, offset: int, size: int) -> None:
        self.name = below.name
        self.size = size
        self._below = below
        self._offset = offset

    def read(self, offset: int, size: int) -> bytes:
        """See `Source.read`."""
        inside = max(min(size, self.size - offset), 0)
        return self._below.read(self._offset + offset, inside).ljust(size, b"\0")

    def write(self, offset: int, data: bytes) -> None:
        """Never."""
        raise PermissionError(f"{self.name} is not written")

    def flush(self) -> None:
        """There is nothing to flush."""

    def close(self) -> None:
        """Whoever opened the source below closes it."""


class FileSource:
    """A file or a block device of the host. It is opened for writing only if ``writable``, and then it is the only
    source of that file, on this host: who reads what another one writes finds a file system in pieces.
    """

    def __init__(self, path: Path, what: str, *, writable: bool = False, locked: bool = True) -> None:
        """Raises `ImageError`, which calls the file ``what``, if it cannot be opened. One that is not ``locked`` reads
        also what another one writes.
        """
        self.name = str(path)
        self.writable = writable
        _refuse_what_is_no_file(path, what)
        try:
            self._fd = os.open(path, (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC)
        except OSError as error:
            hint = " for writing; use mode=overlay" if writable else "; check its permissions"
            raise ImageError(f"{path} cannot be opened{hint} ({error.strerror}).") from error
        self._close = weakref.finalize(self, os.close, self._fd)
        if locked:
            self._lock(what)
        try:
            self.size = os.lseek(self._fd, 0, os.SEEK_END)
        except OSError as error:  # parts of /proc
            self._close()
            raise ImageError(f"{path} has no size ({error.strerror}), as the {what} must have; give a file.") from error

    def _lock(self, what: str) -> None:
        try:
            fcntl.flock(self._fd, (fcntl.LOCK_EX if self.writable else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno != errno.EWOULDBLOCK:
                return  # a file system without locks: nothing can be known
            self._close()
            use = "is in use" if self.writable else "is being written"
            raise ImageError(
                f"{self.name} {use}, by another drive or another VM; end that one, or give the {what} a copy."
            ) from error

    @property
    def touched(self) -> tuple[int, int, int, int]:
        """What is different as soon as somebody has changed the file, or put another one in its place: its device and
        number, and when its contents and anything else of it changed last, in nanoseconds.
        """
        at = os.fstat(self._fd)
        return at.st_dev, at.st_ino, at.st_mtime_ns, at.st_ctime_ns

    def read(self, offset: int, size: int) -> bytes:
        """See `Source.read`."""
        return os.pread(self._fd, size, offset).ljust(size, b"\0")

    def write(self, offset: int, data: bytes) -> None:
        """See `Source.write`. Writing beyond the end makes the file longer."""
        if os.pwrite(self._fd, data, offset) != len(data):
            raise OSError(errno.ENOSPC, f"{self.name}: the host's disk is full")

    def flush(self) -> None:
        """See `Source.flush`."""
        if self.writable:
            os.fdatasync(self._fd)

    def close(self) -> None:
        """See `Source.close`."""
        self._close()


def open_source(image: ImageLike, what: str, *, writable: bool = False) -> Source:
    """The source behind ``image``, which errors call ``what``.

    Raises `ImageError` for a file that cannot be used and `ConfigError` for a value that is no image.
    """
    if isinstance(image, (bytes, bytearray, memoryview)):
        if writable:
            raise ConfigError(f"the {what} is bytes, which cannot be written: give a file for mode=write.")
        return BytesSource(bytes(image), what)
    if not isinstance(image, (str, os.PathLike)):
        raise ConfigError(f"{what}={image!r}: give a path, or the contents as bytes.")
    if not os.fspath(image):
        raise ConfigError(f"{what}={image!r}: that is no path; name a file.")
    return FileSource(Path(image), what, writable=writable)


def _refuse_what_is_no_file(path: Path, what: str) -> None:
    """A FIFO would block when it is opened, and a character device has no end."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        raise ImageError(f"{path}: there is no such file; check the path of the {what}.") from error
    except (OSError, ValueError) as error:
        raise ImageError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}.") from error
    if stat.S_ISDIR(mode):
        raise ImageError(f"{path} is a directory; give a file.")
    if stat.S_ISCHR(mode):
        raise ImageError(f"{path} is a device without an end; give a file.")
    if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
        raise ImageError(f"{path} is a pipe or a socket, which has no sectors; give a file.")
