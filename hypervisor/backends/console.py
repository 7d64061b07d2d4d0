"""A console: the bytes that a guest wrote, and whoever wants to hear them as they come."""

from __future__ import annotations

import builtins  # the property `bytes` hides the type of that name
from collections.abc import Callable
from typing import NamedTuple

from hypervisor.errors import ConfigError
from hypervisor.units import KIB, parse_size

KEPT = 16 << 20
"""Bytes of output that a console keeps at least unless it is told otherwise."""
LEAST_KEPT = 4 * KIB
CHUNK = 16 * KIB
"""What is forgotten at once: a guest that writes more costs the host no more than two of these beyond what is kept."""


def check_kept(size: str | int) -> int:
    """How much a console keeps, in bytes. Raises `ConfigError`."""
    kept = parse_size(size)
    if not LEAST_KEPT <= kept <= KEPT:
        raise ConfigError(f"{size!r}: a console keeps {LEAST_KEPT >> 10} KiB to {KEPT >> 20} MiB.")
    return kept


class Kept(NamedTuple):
    """What was written and is kept, from position ``start`` on. The tail grows; the rest, and which tail it is, does
    not change, so that who has one can read while another thread writes.
    """

    start: int
    chunks: list[bytes]
    """Of `CHUNK` bytes each."""
    tail: bytearray

    @property
    def size(self) -> int:
        """In bytes."""
        return len(self.chunks) * CHUNK + len(self.tail)

    def part(self, first: int, end: int) -> bytes:
        """Bytes from ``first`` up to ``end``, counted from ``start``."""
        chunks, tail = self.chunks, len(self.chunks) * CHUNK
        found = b"".join(chunks[first // CHUNK : -(-end // CHUNK)])[first % CHUNK :] if first < tail else b""
        if end <= tail:
            return found[: end - first]
        # In one step: what has a view of the tail keeps it from growing.
        return found + bytes(self.tail[max(first - tail, 0) : end - tail])


class Console:
    """Collects what devices write, in order, and keeps the last ``kept`` bytes of it. Anybody may read meanwhile.

    Positions (`find`, ``len``) count from the first byte ever written, whether it is kept or not.
    """

    def __init__(self) -> None:
        self._kept = Kept(0, [], bytearray())
        self.kept = KEPT
        """How many bytes are kept at least; see `keep`."""
        self._listeners: list[Callable[[builtins.bytes], object]] = []
        self._like: tuple[Kept, builtins.bytes] | None = None
        """What is kept, and what it was found to be equal to as far as that goes."""

    def write(self, data: builtins.bytes) -> None:
        """Append ``data`` and tell the listeners, in the order in which they came."""
        tail = self._kept.tail
        tail += data
        if len(tail) >= CHUNK:
            self._cut()
        for listener in self._listeners:
            listener(data)

    def listen(self, listener: Callable[[builtins.bytes], object]) -> Callable[[], None]:
        """Call ``listener(data)`` at each write from now on; returns a function that ends this."""
        self._listeners = [*self._listeners, listener]

        def stop() -> None:
            self._listeners = [one for one in self._listeners if one is not listener]

        return stop

    def keep(self, size: str | int) -> None:
        """Keep so many bytes at least from now on, 4 KiB to `KEPT`, and forget what is more. While the machine does not
        run. Raises `ConfigError`.
        """
        self.kept = check_kept(size)
        self._cut()

    def _cut(self) -> None:
        """Make chunks of what is in the tail, and forget those that are not kept."""
        start, chunks, tail = self._kept
        whole = len(tail) // CHUNK
        chunks = [*chunks, *(bytes(tail[CHUNK * n : CHUNK * (n + 1)]) for n in range(whole))]
        tail = tail[CHUNK * whole :]
        drop = min(max(len(chunks) * CHUNK + len(tail) - self.kept, 0) // CHUNK, len(chunks))
        self._kept = Kept(start + drop * CHUNK, chunks[drop:], tail)

    def put_back(self, content: builtins.bytes, dropped: int) -> None:
        """Be what another console was, which had lost ``dropped`` bytes before ``content``. Nobody hears it."""
        self._kept = Kept(dropped, [], bytearray(content))
        if len(content) >= CHUNK:
            self._cut()

    def is_what(self, content: builtins.bytes, dropped: int) -> bool:
        """Whether it is what `put_back` would make of it."""
        kept = self._kept
        if kept.start != dropped or kept.size != len(content):
            return False
        if self._like is None or self._like[0] is not kept or self._like[1] is not content:  # else it has been compared
            if kept.part(0, kept.size) != content:
                return False
            self._like = kept, content
        return True

    @property
    def dropped(self) -> int:
        """Bytes at the beginning that are not kept any more."""
        return self._kept.start

    @property
    def bytes(self) -> builtins.bytes:
        """All that was written and is kept."""
        kept = self._kept
        return kept.part(0, kept.size)

    @property
    def text(self) -> str:
        """`bytes` as UTF-8; bytes that are not UTF-8 show as U+FFFD."""
        return self.bytes.decode("utf-8", "replace")

    def find(self, data: builtins.bytes, start: int = 0) -> int:
        """The first position of ``data`` at or after ``start``, or -1."""
        begin, content = self.kept_from(start)
        found = content.find(data)
        return found if found < 0 else found + begin

    def since(self, position: int) -> builtins.bytes:
        """What was written at or after ``position`` and is kept."""
        return self.kept_from(position)[1]

    def kept_from(self, position: int, most: int | None = None) -> tuple[int, builtins.bytes]:
        """What was written at or after ``position`` and is kept, at most so many bytes of it, and where that begins."""
        kept = self._kept
        first, end = max(position - kept.start, 0), kept.size
        if most is not None:
            end = min(end, first + most)
        return kept.start + first, kept.part(first, max(end, first))

    def clear(self) -> None:
        """Forget what was written; listeners stay."""
        self._kept = Kept(len(self), [], bytearray())

    def __len__(self) -> int:
        kept = self._kept
        return kept.start + kept.size
