"""The ring of keys at 0040:001E, as guests that read it themselves know it.

Source: IBM PS/2 and PC BIOS Interface Technical Reference, section 3, "BIOS data area".
"""

from __future__ import annotations

from hypervisor.firmware.bios import bda
from hypervisor.firmware.bios.input.typeahead import KeyQueue

START = bda.KEY_BUFFER - 0x400
SIZE = 32


class KeyRing:
    """The ring, and behind it the ``queue`` of keys from the host, which fills it as room allows."""

    def __init__(self, area: bda.Bda, queue: KeyQueue) -> None:
        self._area = area
        self._queue = queue

    def oldest(self, *, remove: bool) -> int | None:
        """The oldest key, or None; with ``remove``, the guest has it now."""
        while not self._full() and (typed := self._queue.pop()) is not None:
            self.append(typed)
        head, tail, _ = self._bounds()
        if head == tail:
            return self.oldest(remove=remove) if self._queue.wanted(waiting=remove) else None
        if remove:
            self._area.set_word(bda.KEY_HEAD, self._after(head))
        return self._area.word(0x400 + head)

    def append(self, key: int) -> bool:
        """Put a key behind the others; whether there was room."""
        if self._full():
            return False
        _, tail, _ = self._bounds()
        self._area.set_word(0x400 + tail, key)
        self._area.set_word(bda.KEY_TAIL, self._after(tail))
        return True

    def typed(self, key: int) -> None:
        """A key was pressed. One that finds the ring full waits outside, where a PC would beep and forget it."""
        if not self.append(key):
            self._queue.press(key)

    def clear(self) -> None:
        """Forget all keys."""
        self._area.set_word(bda.KEY_HEAD, self._area.word(bda.KEY_TAIL))

    def _full(self) -> bool:
        head, tail, _ = self._bounds()
        return self._after(tail) == head

    def _after(self, offset: int) -> int:
        _, _, (start, end) = self._bounds()
        return offset + 2 if offset + 2 < end else start

    def _bounds(self) -> tuple[int, int, tuple[int, int]]:
        """Head, tail and bounds, as offsets in segment 40h; a ring that the guest has made senseless is emptied."""
        area = self._area
        head, tail = area.word(bda.KEY_HEAD), area.word(bda.KEY_TAIL)
        start, end = area.word(bda.KEY_BUFFER_START), area.word(bda.KEY_BUFFER_END)
        if not (start + 4 <= end and start <= head < end and start <= tail < end):
            start = head = tail = START
            end = start + SIZE
            for field, value in (
                (bda.KEY_HEAD, head),
                (bda.KEY_TAIL, tail),
                (bda.KEY_BUFFER_START, start),
                (bda.KEY_BUFFER_END, end),
            ):
                area.set_word(field, value)
        return head, tail, (start, end)
