"""The clock a device sees. The same interface serves the virtual and the wall clock of a VM, and a test's own."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Protocol

Key = tuple[int, str, str, int]
"""The order of timers whose deadlines are equal: those with an owner and a name by these, others behind them, as they
were asked for.
"""


class Timer:
    """A deadline that its owner sets and clears; at most one at a time. When it has come, the owner is called."""

    __slots__ = ("_queue", "callback", "deadline_ns", "key", "setting")

    def __init__(self, queue: TimerQueue, key: Key, callback: Callable[[], None]) -> None:
        self._queue = queue
        self.key = key
        self.callback = callback
        self.deadline_ns: int | None = None
        """What it is set to, in nanoseconds of the clock; None while it is not."""
        self.setting = 0
        """The number of the setting that counts: earlier ones are still in the queue."""

    @property
    def owner(self) -> str:
        """Whose it is: the name of a device."""
        return self.key[1]

    @property
    def name(self) -> str:
        """Which of its owner's timers it is."""
        return self.key[2]

    def set(self, deadline_ns: int) -> None:
        """Call the owner once at ``deadline_ns``, instead of at any earlier wish; at once, if that is over."""
        if deadline_ns != self.deadline_ns:
            self.deadline_ns = deadline_ns
            self._queue.push(self)

    @property
    def due(self) -> int:
        """The deadline as a state has it: -1 while it is not set."""
        return -1 if self.deadline_ns is None else self.deadline_ns

    def put_back(self, due: int) -> None:
        """Set it, or clear it, as `due` said."""
        if due < 0:
            self.clear()
        else:
            self.set(due)

    def clear(self) -> None:
        """Forget the deadline. Clearing twice, or after it fired, is harmless."""
        self.deadline_ns = None

    cancel = clear


class Clock(Protocol):
    """A VM's time, in integer nanoseconds since its power-on."""

    @property
    def now_ns(self) -> int:
        """Time since power-on, in nanoseconds."""
        ...

    def timer(self, owner: str, name: str, callback: Callable[[], None]) -> Timer:
        """A timer, not set yet, that calls ``callback``. ``owner`` is the device's name, which with ``name`` says among
        equal deadlines which comes first: so a machine goes on in the same order wherever its state is put back.
        """
        ...

    def call_at(self, deadline_ns: int, callback: Callable[[], None]) -> Timer:
        """Call ``callback`` once when `now_ns` has reached ``deadline_ns`` (at once, if it has). Such a timer has no
        name, so it is part of no state: it is for what watches a machine, not for what is in it.
        """
        ...


_SWEEP_MINIMUM = 64
"""Timers in a queue below which nobody looks for those that are not set any more."""


class TimerQueue:
    """Timers in order of deadline, equal deadlines in that of their keys, whoever asked first.

    ``changed`` is called when a deadline was set that comes before all others.
    """

    def __init__(self, changed: Callable[[], None] = lambda: None) -> None:
        self._changed = changed
        self._heap: list[tuple[int, Key, int, Timer]] = []
        self._settings = 0
        self._sweep_at = _SWEEP_MINIMUM
        self.earliest_ns: int | None = None
        """What `next_ns` said last, or an earlier deadline that was set since. Other threads may read it, and nothing
        else: they would change the queue."""

    def timer(self, owner: str, name: str, callback: Callable[[], None]) -> Timer:
        """See `Clock.timer`."""
        return Timer(self, (0, owner, name, 0), callback)

    def add(self, deadline_ns: int, callback: Callable[[], None]) -> Timer:
        """See `Clock.call_at`."""
        timer = Timer(self, (1, "", "", self._settings), callback)
        timer.set(deadline_ns)
        return timer

    def push(self, timer: Timer) -> None:
        """A timer was set."""
        deadline_ns = timer.deadline_ns
        assert deadline_ns is not None
        self._settings += 1
        timer.setting = self._settings
        heapq.heappush(self._heap, (deadline_ns, timer.key, self._settings, timer))
        if len(self._heap) > self._sweep_at:
            # A guest that programs a far deadline again and again leaves old settings behind: sweep them out.
            self._heap = [entry for entry in self._heap if _counts(entry)]
            heapq.heapify(self._heap)
            self._sweep_at = max(_SWEEP_MINIMUM, 2 * len(self._heap))
        if self.earliest_ns is None or deadline_ns < self.earliest_ns:
            self.earliest_ns = deadline_ns
            self._changed()

    def pending(self) -> list[Timer]:
        """The timers that are set, in the order in which they will fire."""
        return [entry[3] for entry in sorted(self._heap) if _counts(entry)]

    def next_ns(self) -> int | None:
        """The earliest deadline, or None when nothing is due ever."""
        heap = self._heap
        while heap:
            deadline_ns, _, setting, timer = heap[0]
            if deadline_ns == timer.deadline_ns and setting == timer.setting:  # `_counts`, in each turn of a vCPU
                self.earliest_ns = deadline_ns
                return deadline_ns
            heapq.heappop(heap)
        self.earliest_ns = None
        return None

    def run_due(self, now_ns: int) -> int:
        """Fire every timer whose deadline is at or before ``now_ns``; returns how many fired."""
        fired = 0
        if self.earliest_ns is None or now_ns < self.earliest_ns:
            return 0
        while (deadline := self.next_ns()) is not None and deadline <= now_ns:
            timer = heapq.heappop(self._heap)[3]
            timer.deadline_ns = None
            timer.callback()
            fired += 1
        return fired


def _counts(entry: tuple[int, Key, int, Timer]) -> bool:
    """Whether this is what its timer is set to."""
    return entry[0] == entry[3].deadline_ns and entry[2] == entry[3].setting


class ManualClock:
    """A clock that a test turns by hand."""

    def __init__(self) -> None:
        self._now = 0
        self._timers = TimerQueue()

    @property
    def now_ns(self) -> int:
        """Time since power-on, in nanoseconds."""
        return self._now

    @property
    def pending(self) -> list[Timer]:
        """The timers that are set, in the order in which they will fire."""
        return self._timers.pending()

    def timer(self, owner: str, name: str, callback: Callable[[], None]) -> Timer:
        """See `Clock.timer`; fires during `advance`."""
        return self._timers.timer(owner, name, callback)

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
