"""Input that a person gives: one thing after the other, no faster than hands are and than the guest takes it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from hypervisor.units import NS_PER_S

if TYPE_CHECKING:
    from hypervisor.run.machine import Machine


class Paced:
    """Events for a device, in the VM's time. They may be added from any thread, and wait for the guest.

    An event happens when the time after the one before is over and ``idle()`` says that the guest has taken all that
    came before; call `go` when that changes. Nothing is scheduled while the guest does not listen, so a guest that
    waits for nothing else is idle, however much was typed.
    """

    def __init__(self, vm: Machine, name: str, idle: Callable[[], bool]) -> None:
        """``name`` is that of the timer."""
        self._vm = vm
        self._idle = idle
        self._events: deque[tuple[Callable[[], object], int]] = deque()
        self._not_before = 0
        self._timer = vm.clock.timer("console", name, self.go)

    def add(self, event: Callable[[], object], then_s: float) -> None:
        """Queue ``event``; the next one comes ``then_s`` seconds of the VM's time after it, or later."""
        self._vm.check_open()
        self._events.append((event, int(then_s * NS_PER_S)))
        if self.go not in self._vm.inputs:
            self._vm.inputs.append(self.go)
        self._vm.look()

    @property
    def pending(self) -> int:
        """Events that have not happened yet."""
        return len(self._events)

    def go(self) -> None:
        """Let the next event happen, if it may. On the VM's thread only."""
        if not self._events or self._timer.deadline_ns is not None or not self._idle():
            return
        now = self._vm.clock.now_ns
        if now < self._not_before:
            self._timer.set(self._not_before)
            return
        event, then_ns = self._events.popleft()
        self._not_before = now + then_ns
        event()
