"""A console: the bytes that a guest wrote, and whoever wants to hear them as they come."""

from __future__ import annotations

import builtins  # the property `bytes` hides the type of that name
from collections.abc import Callable

KEPT = 16 << 20
"""Bytes of output that a console keeps at least; a guest that writes more costs the host no more than twice that."""


class Console:
    """Collects what devices write, in order, and keeps the last `KEPT` bytes of it.

    Positions (`find`, ``len``) count from the first byte ever written, whether it is kept or not.
    """

    def __init__(self) -> None:
        self._data = bytearray()
        self._dropped = 0
        self._listeners: list[Callable[[builtins.bytes], object]] = []

    def write(self, data: builtins.bytes) -> None:
        """Append ``data`` and tell the listeners, in the order in which they came."""
        self._data += data
        if len(self._data) > 2 * KEPT:
            self._drop(len(self._data) - KEPT)
        for listener in self._listeners:
            listener(data)

    def listen(self, listener: Callable[[builtins.bytes], object]) -> Callable[[], None]:
        """Call ``listener(data)`` at each write from now on; returns a function that ends this."""
        self._listeners = [*self._listeners, listener]

        def stop() -> None:
            self._listeners = [one for one in self._listeners if one is not listener]

        return stop

    def _drop(self, count: int) -> None:
        del self._data[:count]
        self._dropped += count

    def put_back(self, content: builtins.bytes, dropped: int) -> None:
        """Be what another console was, which had lost ``dropped`` bytes before ``content``. Nobody hears it."""
        self._data, self._dropped = bytearray(content), dropped

    @property
    def dropped(self) -> int:
        """Bytes at the beginning that are not kept any more."""
        return self._dropped

    @property
    def bytes(self) -> builtins.bytes:
        """All that was written and is kept."""
        return builtins.bytes(self._data)

    @property
    def text(self) -> str:
        """`bytes` as UTF-8; bytes that are not UTF-8 show as U+FFFD."""
        return self._data.decode("utf-8", "replace")

    def find(self, data: builtins.bytes, start: int = 0) -> int:
        """The first position of ``data`` at or after ``start``, or -1; without copying what was written."""
        found = self._data.find(data, max(start - self._dropped, 0))
        return found if found < 0 else found + self._dropped

    def since(self, position: int) -> builtins.bytes:
        """What was written at or after ``position`` and is kept."""
        return builtins.bytes(memoryview(self._data)[max(position - self._dropped, 0) :])

    def clear(self) -> None:
        """Forget what was written; listeners stay."""
        self._drop(len(self._data))

    def __len__(self) -> int:
        return self._dropped + len(self._data)
