"""Somebody at a stream: what comes from now on, read when it is convenient, and what is typed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypervisor.errors import ConfigError

if TYPE_CHECKING:
    from hypervisor.console.streams import Stream

AT_ONCE = 64 << 10
"""Bytes that a reader gets at once unless it asks for others."""


class Attachment:
    """A place in a stream, read and moved on from any thread; the guest never waits for it. Use it as a context
    manager, or `detach` it.
    """

    def __init__(self, stream: Stream, before: int) -> None:
        """It begins ``before`` bytes back, or at the first one that is kept."""
        self.stream = stream
        self.position = max(len(stream) - before, stream.dropped)
        """The byte of the stream, from the first one ever written, that is read next."""
        self.lost = 0
        """Bytes that were not kept until they would have been read."""
        self._attached = True

    def read(self, most: int = AT_ONCE) -> bytes:
        """What has come since the last time, at most so many bytes; the rest comes next time. Raises `ConfigError`
        when it is detached.
        """
        if not self._attached:
            raise ConfigError(f"{self.stream.name}: this reader is detached; attach another one.")
        if self.position > len(self.stream):  # the machine went back
            self.position = len(self.stream)
        start, data = self.stream.kept_from(self.position, most)
        self.lost += start - self.position
        self.position = start + len(data)
        return data

    def skip(self, left: int = 0) -> int:
        """Leave out what has not been read, but for the last ``left`` bytes; how many."""
        skipped = max(len(self.stream) - left - self.position, 0)
        self.position += skipped
        return skipped

    def send(self, data: bytes | str) -> None:
        """Type; raises `DeviceError` at a stream that takes no input."""
        self.stream.send(data)

    def detach(self) -> None:
        """Leave; twice is harmless."""
        self._attached = False
        self.stream.left(self)

    def __enter__(self) -> Attachment:
        return self

    def __exit__(self, *exc: object) -> None:
        self.detach()


__all__ = ["Attachment"]
