"""A console: the bytes that a guest wrote, and whoever wants to hear them as they come."""

from __future__ import annotations

import builtins  # the property `bytes` hides the type of that name
from collections.abc import Callable


class Console:
    """Collects what devices write, in order. Grows with what was written and with nothing else."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._listeners: list[Callable[[builtins.bytes], object]] = []

    def write(self, data: builtins.bytes) -> None:
        """Append ``data`` and tell the listeners, in the order in which they came."""
        self._data += data
        for listener in self._listeners:
            listener(data)

    def listen(self, listener: Callable[[builtins.bytes], object]) -> Callable[[], None]:
        """Call ``listener(data)`` at each write from now on; returns a function that ends this."""
        self._listeners = [*self._listeners, listener]

        def stop() -> None:
            self._listeners = [one for one in self._listeners if one is not listener]

        return stop

    @property
    def bytes(self) -> builtins.bytes:
        """All that was written."""
        return builtins.bytes(self._data)

    @property
    def text(self) -> str:
        """All that was written, as UTF-8; bytes that are not UTF-8 show as U+FFFD."""
        return self._data.decode("utf-8", "replace")

    def find(self, data: builtins.bytes, start: int = 0) -> int:
        """The first position of ``data`` at or after ``start``, or -1; without copying what was written."""
        return self._data.find(data, start)

    def clear(self) -> None:
        """Forget what was written; listeners stay."""
        self._data.clear()

    def __len__(self) -> int:
        return len(self._data)
