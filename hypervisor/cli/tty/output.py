"""Standard output, which may be slow, full or gone."""

from __future__ import annotations

import os
import select
from collections.abc import Callable


class Output:
    """Writes to a file descriptor. It never raises: once writing has failed, ``failure`` says why, and nothing more is
    written.
    """

    def __init__(self, fd: int, on_failure: Callable[[str], object]) -> None:
        self.fd = fd
        self.failure = ""
        """A sentence without its full stop, empty as long as all is well."""
        self.at_line_start = True
        self._on_failure = on_failure

    def write(self, data: bytes) -> None:
        """Write all of ``data``, however long that takes."""
        if self.failure or not data:
            return
        self.at_line_start = data.endswith(b"\n")
        try:
            while data:
                try:
                    data = data[os.write(self.fd, data) :]
                except BlockingIOError:  # somebody made our stdout non-blocking
                    select.select([], [self.fd], [])
        except OSError as error:
            self.failure = f"standard output failed: {error.strerror}"
            self._on_failure(self.failure)
