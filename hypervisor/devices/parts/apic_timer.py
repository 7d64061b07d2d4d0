"""The local APIC's timer: a 32-bit counter that is only arithmetic on the clock.

Source: Intel SDM volume 3A, 10.5.4 "APIC Timer". One-shot and periodic modes; TSC-deadline mode is not offered.
"""

from __future__ import annotations

from collections.abc import Callable

from hypervisor.arch.apic_page import ApicPage
from hypervisor.arch.apic_registers import DIVIDE_SHIFTS
from hypervisor.bus import Clock

BUS_HZ = 1_000_000_000
"""Ticks per second before the divider, of the VM's clock: one tick is one nanosecond. CPUID leaf 40000010h says so."""

MIN_PERIOD_NS = 1_000
"""A periodic timer interrupts at most this often: a guest that asks for less gets each interrupt that has passed as
one, as on a processor that could not keep up. The count that it reads is not affected."""


class ApicTimer:
    """The counter over a page's fields. ``expired`` is called each time it is at zero while somebody wants to know."""

    def __init__(self, page: ApicPage, clock: Clock, owner: str, expired: Callable[[], None]) -> None:
        self._page = page
        self._clock = clock
        self._expired = expired
        self._alarm = clock.timer(owner, "zero", self._fire)

    def adopt(self) -> None:
        """Go on from what the page holds now."""
        if self._page.timer_armed:
            self._alarm.set(self._page.timer_due_ns)
        else:
            self._alarm.clear()

    def start(self, count: int, periodic: bool, wanted: bool) -> None:
        """The initial count is written; ``wanted``: its interrupt is not masked."""
        s = self._page
        s.timer_initial = count
        s.timer_periodic = periodic
        s.timer_start_ns = self._clock.now_ns
        s.timer_over = False
        s.timer_armed = count != 0
        self.want(wanted)

    def divide(self, value: int) -> None:
        """The divide configuration is written: the present count goes on at another speed."""
        s = self._page
        if value == s.timer_divide:
            return
        left = self.count()
        s.timer_divide = value
        s.timer_start_ns = self._clock.now_ns - (s.timer_initial - left << DIVIDE_SHIFTS[value])
        self.want(s.timer_armed)

    def mode(self, periodic: bool, wanted: bool) -> None:
        """The LVT entry is written."""
        s = self._page
        if periodic != s.timer_periodic:
            left = self.count()
            s.timer_over = left == 0
            s.timer_periodic = periodic
            s.timer_start_ns = self._clock.now_ns - (s.timer_initial - left << DIVIDE_SHIFTS[s.timer_divide])
        self.want(wanted)

    def count(self) -> int:
        """The current count."""
        s = self._page
        if s.timer_initial == 0 or s.timer_over:
            return 0
        gone = self._clock.now_ns - s.timer_start_ns >> DIVIDE_SHIFTS[s.timer_divide]
        if s.timer_periodic:
            return s.timer_initial - gone % s.timer_initial
        return max(s.timer_initial - gone, 0)

    def want(self, wanted: bool) -> None:
        """Whether anybody hears the next zero.

        Nobody is called for one that was over when nobody wanted it; one that is still to be told is told, however
        late it has become meanwhile.
        """
        s = self._page
        s.timer_armed = wanted and s.timer_initial != 0 and (self._next(self._clock.now_ns) or s.timer_armed)
        if s.timer_armed:
            self._alarm.set(s.timer_due_ns)
        else:
            self._alarm.clear()

    def _next(self, now: int) -> bool:
        """Find the next zero after ``now``; False when the last one is over."""
        s = self._page
        if s.timer_over:
            return False
        period = s.timer_initial << DIVIDE_SHIFTS[s.timer_divide]
        if not s.timer_periodic:
            s.timer_due_ns = s.timer_start_ns + period
            return s.timer_due_ns > now
        elapsed = now - s.timer_start_ns
        s.timer_due_ns = s.timer_start_ns + (elapsed // period + 1) * period
        if period < MIN_PERIOD_NS:
            s.timer_due_ns += -(-(MIN_PERIOD_NS - period) // period) * period
        return True

    def _fire(self) -> None:
        s = self._page
        s.timer_armed = False
        if s.timer_periodic and s.timer_initial:
            self.want(True)
        self._expired()
