"""A VM's time: virtual (it follows the guest's own progress) or wall (it follows the host)."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from hypervisor.bus.clock import Timer, TimerQueue
from hypervisor.engine import block as b

if TYPE_CHECKING:
    from hypervisor.core.vm import VM

_NOW = b.NOW >> 3


class VmClock:
    """What devices and handlers see as time, in integer nanoseconds since power-on.

    Under the virtual clock a run is reproducible: time advances by 1 ns for each byte of code that retires and by fixed
    costs (`hypervisor.engine.block`), and jumps to the next timer when the guest sleeps. Under the wall clock it is the
    host's monotonic clock. The TSC counts at 1 GHz, so it counts nanoseconds of either.
    """

    def __init__(self, vm: VM, wall: bool) -> None:
        self._vm = vm
        self.wall = wall
        self.timers = TimerQueue()
        self.base_ns = time.monotonic_ns()
        self._stopped_ns: int | None = None

    @property
    def now_ns(self) -> int:
        """Time since power-on, in nanoseconds."""
        if self.wall:
            return time.monotonic_ns() - self.base_ns if self._stopped_ns is None else self._stopped_ns
        place, turns = self._vm.place, self._vm.turns
        pcpu = place.last
        progress = pcpu.words[_NOW] if pcpu is not None and pcpu.owner is place else turns.current.position
        return max(progress, turns.floor)

    @property
    def passed_ns(self) -> int:
        """The time that every vCPU has come to: all that happens before has happened. `now_ns` may be ahead of it."""
        return self.now_ns if self.wall else self._vm.turns.time

    def stop(self) -> None:
        """Stand still while a debugger looks. (The virtual clock does so by itself.)"""
        if self.wall and self._stopped_ns is None:
            self._stopped_ns = self.now_ns

    def go(self) -> None:
        """Go on from where `stop` was called."""
        if self._stopped_ns is not None:
            self.base_ns = time.monotonic_ns() - self._stopped_ns
            self._stopped_ns = None
            self._vm.tables.wall_base = self.base_ns
            self._vm.tables.bound_to = None  # the engine has a copy

    def call_at(self, deadline_ns: int, callback: Callable[[], None]) -> Timer:
        """Call ``callback`` once when `now_ns` has reached ``deadline_ns``."""
        timer = self.timers.add(deadline_ns, callback)
        self._vm.deadline_changed()
        return timer
