"""The clock a device sees. The same interface serves the virtual and the wall clock of a VM, and a test's own."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Protocol


class Timer:
    """A deadline that was asked for; `cancel` it and it never fires."""

    __slots__ = ("callback", "deadline_ns", "sequence")

    def __init__(self, deadline_ns: int, sequence: int, callback: Callable[[], None]) -> None:
        self.deadline_ns = deadline_ns
        self.sequence = sequence
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        """Forget the callback. Cancelling twice, or after it fired, is harmless."""
        self.callback = None

    def __lt__(self, other: Timer) -> bool:
        return (self.deadline_ns, self.sequence) < (other.deadline_ns, other.sequence)


class Clock(Protocol):
    """A VM's time, in integer nanoseconds since its power-on."""

    @property
    def now_ns(self) -> int:
        """Time since power-on, in nanoseconds."""
        ...

    def call_at(self, deadline_ns: int, callback: Callable[[], None]) -> Timer:
        """Call ``callback`` once when `now_ns` has reached ``deadline_ns`` (at once, if it has)."""
        ...


_SWEEP_MINIMUM = 64
"""Timers in a queue below which nobody looks for cancelled ones."""


class TimerQueue:
    """Timers in order of deadline; equal deadlines fire in the order they were asked for."""

    def __init__(self) -> None:
        self._heap: list[Timer] = []
        self._sequence = 0
        self._sweep_at = _SWEEP_MINIMUM
        self.earliest_ns: int | None = None
        """What `next_ns` said last, or an earlier deadline that was asked for since. Other threads may read it, and
        nothing else: they would change the queue."""

    def add(self, deadline_ns: int, callback: Callable[[], None]) -> Timer:
        """A new timer, in nanoseconds of the owner's clock."""
        self._sequence += 1
        timer = Timer(deadline_ns, self._sequence, callback)
        heapq.heappush(self._heap, timer)
        if self.earliest_ns is None or deadline_ns < self.earliest_ns:
            self.earliest_ns = deadline_ns
        if len(self._heap) > self._sweep_at:
            # A guest that programs a far deadline again and again leaves cancelled timers behind: sweep them out.
            self._heap = [one for one in self._heap if one.callback is not None]
            heapq.heapify(self._heap)
            self._sweep_at = max(_SWEEP_MINIMUM, 2 * len(self._heap))
        return timer

    def next_ns(self) -> int | None:
        """The earliest deadline, or None when nothing is due ever."""
        while self._heap and self._heap[0].callback is None:
            heapq.heappop(self._heap)
        self.earliest_ns = self._heap[0].deadline_ns if self._heap else None
        return self.earliest_ns

    def run_due(self, now_ns: int) -> int:
        """Fire every timer whose deadline is at or before ``now_ns``; returns how many fired."""
        fired = 0
        while (deadline := self.next_ns()) is not None and deadline <= now_ns:
            callback = heapq.heappop(self._heap).callback
            if callback is not None:
                callback()
                fired += 1
        return fired


class ManualClock:
    """A clock that a test turns by hand."""

    def __init__(self) -> None:
        self._now = 0
        self._timers = TimerQueue()

    @property
    def now_ns(self) -> int:
        """Time since power-on, in nanoseconds."""
        return self._now

    def call_at(self, deadline_ns: int, callback: Callable[[], None]) -> Timer:
        """See `Clock.call_at`; fires during `advance`."""
        return self._timers.add(deadline_ns, callback)

    def advance(self, ns: int) -> None:
        """Turn the clock forward, firing timers at their own time on the way."""
        target = self._now + ns
        while (deadline := self._timers.next_ns()) is not None and deadline <= target:
            self._now = max(self._now, deadline)
            self._timers.run_due(self._now)
        self._now = target
