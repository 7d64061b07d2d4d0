"""An image that several machines read: what is in the drives of a machine is in those of all that go on from it."""

from __future__ import annotations

import weakref

from hypervisor.backends.image_source import Source


class SharedSource:
    """One holder's hold of a source that nobody writes. The last one who closes his gives the host's file back."""

    writable = False

    def __init__(self, below: Source) -> None:
        self.name = below.name
        self.size = below.size
        self._below = below
        self._holders: weakref.WeakSet[SharedSource] = weakref.WeakSet((self,))

    def again(self) -> SharedSource:
        """The same for another holder."""
        other = SharedSource(self._below)
        other._holders = self._holders
        self._holders.add(other)
        return other

    def read(self, offset: int, size: int) -> bytes:
        """See `Source.read`."""
        return self._below.read(offset, size)

    def write(self, offset: int, data: bytes) -> None:
        """Never: an overlay keeps what a guest writes."""
        raise PermissionError(f"{self.name} is not written")

    def flush(self) -> None:
        """There is nothing to flush."""

    def close(self) -> None:
        """See `Source.close`."""
        if self in self._holders:
            self._holders.discard(self)
            if not self._holders:
                self._below.close()
