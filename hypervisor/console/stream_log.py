"""What comes on a stream, in files of bounded size: one, and the one before it, have at most the limit together."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable

from hypervisor.errors import ConfigError
from hypervisor.units import KIB, parse_size

LIMIT, LEAST = "16M", 8 * KIB
AT_ONCE = 4096
"""Bytes that wait for the end of their line at most."""


def check_limit(limit: str | int) -> int:
    """A log's limit in bytes. Raises `ConfigError`."""
    size = parse_size(limit)
    if size < LEAST:
        raise ConfigError(f"limit={limit!r}: a log has {LEAST // KIB} KiB at least.")
    return size


class StreamLog:
    """Writes lines when they end, on the thread that runs the VM, into the host's cache. When it cannot write it says
    so in ``failure``, and leaves the guest alone.
    """

    def __init__(self, path: str | os.PathLike[str], limit: str | int = LIMIT) -> None:
        """Raises `ConfigError` for a file that cannot be written, and for a limit below 8 KiB."""
        self.path = os.path.abspath(path)
        self.before = f"{self.path}.1"
        """The file that has what came before, if there was so much."""
        self.limit = check_limit(limit)
        self.failure = ""
        """A sentence, empty as long as all is well."""
        self.stop: Callable[[], None] = lambda: None
        """Ends that the stream tells it."""
        self._waiting = bytearray()
        self._size = 0
        try:
            self._fd = self._open()
        except OSError as error:
            raise ConfigError(f"{self.path} cannot be written: {error.strerror}.") from error
        if not stat.S_ISREG(os.fstat(self._fd).st_mode):  # renaming /dev/null would be remembered
            os.close(self._fd)
            raise ConfigError(f"{self.path} is no ordinary file, and a log has two that take turns; give a file.")

    def _open(self) -> int:
        return os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NONBLOCK, 0o644)

    def written(self, data: bytes) -> None:
        """This has come."""
        self._waiting += data
        if b"\n" in data or len(self._waiting) >= AT_ONCE:
            self.flush()

    def flush(self) -> None:
        """Write what waits."""
        data, self._waiting = bytes(self._waiting), bytearray()
        if self.failure:
            return
        try:
            for at in range(0, len(data), self.limit // 2):
                self._write(data[at : at + self.limit // 2])
        except OSError as error:
            self.failure = f"{self.path} cannot be written: {error.strerror}; the log ends here."

    def _write(self, data: bytes) -> None:
        if self._size + len(data) > self.limit // 2:
            os.close(self._fd)
            self._fd = -1
            os.replace(self.path, self.before)
            self._fd, self._size = self._open(), 0
        while data:
            done = os.write(self._fd, data)
            self._size += done
            data = data[done:]

    def close(self) -> None:
        """Finish the file. Closing twice is harmless."""
        self.stop()
        self.flush()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            self.failure = self.failure or "the log is closed."

    def __enter__(self) -> StreamLog:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


__all__ = ["LIMIT", "StreamLog", "check_limit"]
