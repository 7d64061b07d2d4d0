"""A VM's time: virtual (it follows the guest's own progress) or wall (it follows the host)."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from hypervisor.bus.clock import Timer, TimerQueue
from hypervisor.units import FOREVER_NS

if TYPE_CHECKING:
    from hypervisor.engine.pcpu import PCpu
    from hypervisor.engine.tables import GuestTables
    from hypervisor.run.sharing.turns import Turns


LATE_NS = 1_000_000
"""How late a timer of the wall clock may be before the clock is held back, in nanoseconds."""


class Whereabouts(Protocol):
    """Which pCPU has the VM's progress (`hypervisor.run.sharing.placing.Place`)."""

    last: PCpu | None

    @property
    def loaded(self) -> PCpu | None:
        """The pCPU that holds the VM's state, None while it is saved."""
        ...


class VmClock:
    """What devices and handlers see as time, in integer nanoseconds since power-on.

    Under the virtual clock a run is reproducible: time advances by 1 ns for each byte of code that retires and by fixed
    costs (`hypervisor.engine.block`), and jumps to the next timer when the guest sleeps. Under the wall clock it is the
    host's monotonic clock, less what `hold_back` hides. The TSC counts at 1 GHz, so it counts nanoseconds of either.
    """

    def __init__(
        self, wall: bool, tables: GuestTables, place: Whereabouts, turns: Turns, deadline_changed: Callable[[], None]
    ) -> None:
        """``deadline_changed`` is called when a timer was set that comes before all others."""
        self._tables, self._place, self._turns = tables, place, turns
        self.wall = wall
        self.timers = TimerQueue(deadline_changed)
        self.base_ns = time.monotonic_ns()
        self.lag_ns = 0
        """How far the wall clock is behind the host's, by `hold_back`."""
        self._stopped_ns: int | None = None
        self._shown = 0

    @property
    def now_ns(self) -> int:
        """Time since power-on, in nanoseconds."""
        if self.wall:
            now = self.unseen_ns
            due = self.timers.earliest_ns
            if due is not None and now > due + LATE_NS:
                pcpu = self._place.loaded
                now = max(due + LATE_NS, self._shown, 0 if pcpu is None else pcpu.report.shown)
            self._shown = now
            return now
        place, turns = self._place, self._turns  # as `progress_ns`, which would be a call more at each look
        pcpu = place.last
        progress: int = pcpu.report.now if pcpu is not None and pcpu.owner is place else turns.current.position
        return progress if progress > turns.floor else turns.floor

    @property
    def progress_ns(self) -> int:
        """How far the vCPU has come whose turn it is."""
        place = self._place
        pcpu = place.last
        return pcpu.report.now if pcpu is not None and pcpu.owner is place else self._turns.current.position

    @property
    def unseen_ns(self) -> int:
        """The wall clock for who does not tell the guest, so that it can still be held back."""
        return time.monotonic_ns() - self.base_ns if self._stopped_ns is None else self._stopped_ns

    def due_changed(self, pcpu: PCpu, not_before_ns: int = 0) -> None:
        """Let the engine know when a timer of the wall clock is due, for which it leaves the guest, though not before
        it is ``not_before_ns``; and the latest time to be shown before that timer has fired.
        """
        due, report = self.timers.earliest_ns, pcpu.report
        if due is None:
            report.due = report.timer = FOREVER_NS
        else:
            report.due = due + LATE_NS
            report.timer = due if due > not_before_ns else not_before_ns

    def hold_back(self, pcpu: PCpu) -> int:
        """The wall clock's time, as `now_ns`. If a timer was due and the guest did not run, because the host was busy,
        for the guest that time has not been.

        Otherwise ticks are lost and the time between them is not, and a guest that compares the two, as Linux does when
        it boots, may not trust its timer. Never back to before what the guest has read. On the VM's own thread, before
        timers fire.
        """
        due = self.timers.next_ns()
        now = self.unseen_ns
        if due is not None and now > due + LATE_NS and self._stopped_ns is None:
            late = min(now - due - LATE_NS, now - max(self._shown, pcpu.report.shown))
            if late > 0:
                self._move(late, pcpu)
                now -= late
        self._shown = now
        return now

    def make_up(self, left_ns: int, pcpu: PCpu | None) -> None:
        """The guest is about to sleep for so long: half as long will do, until the clock is the host's again."""
        ns = min(self.lag_ns, left_ns // 2)
        if ns > 0:
            self._move(-ns, pcpu)

    def _move(self, back_ns: int, pcpu: PCpu | None) -> None:
        self.base_ns += back_ns
        self.lag_ns += back_ns
        self._tables.wall_base = self.base_ns
        if pcpu is not None:
            pcpu.report.wall_base = self.base_ns

    def entered(self, pcpu: PCpu) -> None:
        """The VM comes to a pCPU where another one may have read its own clock."""
        pcpu.report.shown = 0
        self.due_changed(pcpu)

    def left(self, pcpu: PCpu) -> None:
        """The VM leaves a pCPU: what the guest has read there stays read."""
        self._shown = max(self._shown, pcpu.report.shown)

    @property
    def passed_ns(self) -> int:
        """The time that every vCPU has come to: all that happens before has happened. `now_ns` may be ahead of it."""
        return self.now_ns if self.wall else self._turns.time

    def stop(self) -> None:
        """Stand still while a debugger looks. (The virtual clock does so by itself.)"""
        if self.wall and self._stopped_ns is None:
            self._stopped_ns = self.now_ns

    def go(self) -> None:
        """Go on from where `stop` was called."""
        if self._stopped_ns is not None:
            self.base_ns = time.monotonic_ns() - self._stopped_ns
            self._stopped_ns = None
            self._tables.wall_base = self.base_ns
            self._tables.bound_to = None  # the engine has a copy

    def go_on_at(self, now_ns: int) -> None:
        """By the wall clock, it is ``now_ns`` now; one that stands still stands still there. While the VM is set
        down.
        """
        self.base_ns = time.monotonic_ns() - now_ns
        self.lag_ns, self._shown = 0, now_ns
        self._stopped_ns = None if self._stopped_ns is None else now_ns
        self._tables.wall_base = self.base_ns
        self._tables.bound_to = None  # the engine has a copy

    def timer(self, owner: str, name: str, callback: Callable[[], None]) -> Timer:
        """See `hypervisor.bus.Clock.timer`."""
        return self.timers.timer(owner, name, callback)

    def call_at(self, deadline_ns: int, callback: Callable[[], None]) -> Timer:
        """See `hypervisor.bus.Clock.call_at`."""
        return self.timers.add(deadline_ns, callback)
