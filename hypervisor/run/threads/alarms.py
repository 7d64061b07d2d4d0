"""The alarm of a run by the wall clock: it has the guest stopped when the run's own time is over, or a timer is due and
the engine, which looks for that itself, has not seen it: in an instruction that takes long, or code that has become
slow.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from hypervisor.units import FOREVER_NS

if TYPE_CHECKING:
    from hypervisor.run.machine import Machine

LOOK_IN_S = 0.05
"""Longest sleep in host seconds before the run looks at timeouts and signals."""

LATE_S = 0.001
"""How much later than a timer it rings, in host seconds: the engine comes first as a rule, and the watch is not woken
for each timer then.
"""

PATIENCE_NS = 30_000
"""How long the guest may run before it is left for another timer, in host nanoseconds: else it gets nothing done where
timers are due faster than the host serves them.
"""


class WallAlarm:
    """Kicks the pCPU when a timer of a wall-clock VM is due, and now and then so that Python looks in. While the VM has
    no pCPU it is silent: timers are served when it gets one.
    """

    def __init__(self, vm: Machine, limit: int) -> None:
        """``limit`` is when the run ends, in nanoseconds of the VM's clock."""
        self._vm, self._limit = vm, limit
        self._alarm = vm.host.watch.alarm(self._ring)
        self._look_at = 0.0
        self._known: int | None = None
        """The deadline that it is set for, of the VM's clock."""
        self._silent = True

    def entered(self) -> None:
        """The VM has got a pCPU."""
        self._silent = False
        self._look_at = time.monotonic() + LOOK_IN_S
        self.wake()

    def left(self) -> None:
        """It needs none for now."""
        self._silent = True

    def wake(self) -> None:
        """Deadlines have changed."""
        if not self._silent:
            self._set()

    def follow(self) -> None:
        """The guest is about to run, and another timer may be the next one."""
        if self._vm.clock.timers.earliest_ns != self._known:
            self._set()

    def close(self) -> None:
        """The run is over."""
        self._alarm.close()

    def _set(self) -> None:
        self._known = self._vm.clock.timers.earliest_ns
        self._alarm.set(min(time.monotonic() + max(self._seconds_left(), 0.0) + LATE_S, self._look_at))

    def _seconds_left(self) -> float:
        """Host seconds until a timer is due, or the run over."""
        deadline = self._vm.clock.timers.earliest_ns
        deadline = self._limit if deadline is None else min(deadline, self._limit)
        return LOOK_IN_S if deadline == FOREVER_NS else (deadline - self._vm.clock.unseen_ns) / 1e9

    def _ring(self) -> None:
        pcpu = self._vm.place.pcpu
        if pcpu is None or self._silent:
            return
        deadline = self._vm.clock.timers.earliest_ns
        now, left = time.monotonic(), self._seconds_left()
        if left <= 0 or now >= self._look_at:
            pcpu.kick()
            self._look_at = now + LOOK_IN_S
            left = 0.0
        self._alarm.set(now + min(left + LATE_S, LOOK_IN_S))
        if self._vm.clock.timers.earliest_ns != deadline:  # its alarm may have been overwritten
            self.wake()


__all__ = ["LOOK_IN_S", "PATIENCE_NS", "WallAlarm"]
