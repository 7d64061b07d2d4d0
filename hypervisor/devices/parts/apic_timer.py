"""The local APIC's timer: a 32-bit counter that is only arithmetic on the clock.

Source: Intel SDM volume 3A, 10.5.4 "APIC Timer". One-shot and periodic modes; TSC-deadline mode is not offered.
"""

from __future__ import annotations

from collections.abc import Callable

from hypervisor.bus import Clock
from hypervisor.devices.parts.apic_registers import DIVIDE_SHIFTS
from hypervisor.state import flag, number, record, time_ns

BUS_HZ = 1_000_000_000
"""Ticks per second before the divider, of the VM's clock: one tick is one nanosecond. CPUID leaf 40000010h says so."""

MIN_PERIOD_NS = 1_000
"""A periodic timer interrupts at most this often: a guest that asks for less gets each interrupt that has passed as
one, as on a processor that could not keep up. The count that it reads is not affected."""


@record
class TimerState:
    """The counter: it was ``initial`` at ``start_ns``."""

    initial: int = number(0, 0xFFFF_FFFF)
    divide: int = number(0, 0xB)
    start_ns: int = time_ns()
    periodic: bool = flag()
    over: bool = flag()
    """It had counted to zero once when it became periodic: it stays there until an initial count is written."""
    armed: bool = flag()
    """An interrupt is to come: the entry is not masked, and a one-shot has not run out yet."""
    due_ns: int = time_ns()


class ApicTimer:
    """The counter over its state. ``expired`` is called each time it reaches zero while somebody wants to know."""

    def __init__(self, clock: Clock, owner: str, expired: Callable[[], None]) -> None:
        self._clock = clock
        self._expired = expired
        self._alarm = clock.timer(owner, "zero", self._fire)
        self.state = TimerState()

    def adopt(self, state: TimerState) -> None:
        """Go on from ``state``."""
        self.state = state
        if state.armed:
            self._alarm.set(state.due_ns)
        else:
            self._alarm.clear()

    def start(self, count: int, periodic: bool, wanted: bool) -> None:
        """The initial count is written; ``wanted``: its interrupt is not masked."""
        s = self.state
        s.initial = count
        s.periodic = periodic
        s.start_ns = self._clock.now_ns
        s.over = False
        s.armed = count != 0
        self.want(wanted)

    def divide(self, value: int) -> None:
        """The divide configuration is written: the present count goes on at another speed."""
        s = self.state
        if value == s.divide:
            return
        left = self.count()
        s.divide = value
        s.start_ns = self._clock.now_ns - (s.initial - left << DIVIDE_SHIFTS[value])
        self.want(s.armed)

    def mode(self, periodic: bool, wanted: bool) -> None:
        """The LVT entry is written."""
        s = self.state
        if periodic != s.periodic:
            left = self.count()
            s.over = left == 0
            s.periodic = periodic
            s.start_ns = self._clock.now_ns - (s.initial - left << DIVIDE_SHIFTS[s.divide])
        self.want(wanted)

    def count(self) -> int:
        """The current count."""
        s = self.state
        if s.initial == 0 or s.over:
            return 0
        gone = self._clock.now_ns - s.start_ns >> DIVIDE_SHIFTS[s.divide]
        if s.periodic:
            return s.initial - gone % s.initial
        return max(s.initial - gone, 0)

    def want(self, wanted: bool) -> None:
        """Whether anybody hears the next zero.

        Nobody is called for one that was over when nobody wanted it; one that is still to be told is told, however
        late it has become meanwhile.
        """
        s = self.state
        s.armed = wanted and s.initial != 0 and (self._next(self._clock.now_ns) or s.armed)
        if s.armed:
            self._alarm.set(s.due_ns)
        else:
            self._alarm.clear()

    def _next(self, now: int) -> bool:
        """Find the next zero after ``now``; False when the last one is over."""
        s = self.state
        if s.over:
            return False
        period = s.initial << DIVIDE_SHIFTS[s.divide]
        if not s.periodic:
            s.due_ns = s.start_ns + period
            return s.due_ns > now
        elapsed = now - s.start_ns
        s.due_ns = s.start_ns + (elapsed // period + 1) * period
        if period < MIN_PERIOD_NS:
            s.due_ns += -(-(MIN_PERIOD_NS - period) // period) * period
        return True

    def _fire(self) -> None:
        s = self.state
        s.armed = False
        if s.periodic and s.initial:
            self.want(True)
        self._expired()
