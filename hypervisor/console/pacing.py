"""Input that a person gives: one thing after the other, no faster than hands are and than the guest takes it."""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from hypervisor.state import deadline, number, numbers, record, several, time_ns
from hypervisor.units import nanoseconds

if TYPE_CHECKING:
    from hypervisor.run.machine import Machine

MAX_VALUES, MAX_VALUE = 16, 1 << 20
MAX_EVENTS = 1 << 20


@record
class EventState:
    """What a device is told, as numbers, and how long the next event waits behind it."""

    values: list[int] = numbers(MAX_VALUES, -MAX_VALUE, MAX_VALUE)
    then_ns: int = number(0, 1 << 62)


@record
class PacedState:
    """The events that wait; the next one comes at ``not_before`` or later; ``due`` is when that is looked at."""

    events: list[EventState] = several(EventState, MAX_EVENTS)
    not_before: int = time_ns()
    due: int = deadline()


class Paced:
    """Events for a device, in the VM's time. They may be added from any thread, and wait for the guest.

    An event is some numbers, which ``tell`` tells the device. It happens when the time after the one before is over and
    ``idle()`` says that the guest has taken all that came before; call `go` when that changes. Nothing is scheduled
    while the guest does not listen, so a guest that waits for nothing else is idle, however much was typed.
    """

    def __init__(
        self, vm: Machine, name: str, idle: Callable[[], bool], tell: Callable[[Sequence[int]], object]
    ) -> None:
        """``name`` is that of the timer, and of what comes through the machine's inbox."""
        self._vm, self._name = vm, name
        self._idle, self._tell = idle, tell
        self._events: deque[tuple[Sequence[int], int]] = deque()
        self._not_before = 0
        self._timer = vm.clock.timer("console", name, self.go)
        vm.inbox.connect(name, self._came)
        vm.on_reset.append(self.go)

    def add(self, values: Sequence[int], then_s: float) -> None:
        """Queue an event; the next one comes ``then_s`` seconds of the VM's time after it, or later."""
        self._vm.check_open()
        self._vm.inbox.put(self._name, struct.pack(f"<{1 + len(values)}q", nanoseconds(then_s), *values))

    def _came(self, content: bytes) -> None:
        then_ns, *values = struct.unpack(f"<{len(content) // 8}q", content)
        self._events.append((values, then_ns))
        self.go()

    @property
    def pending(self) -> int:
        """Events that have not happened yet."""
        return len(self._events) + len(self._vm.inbox.waiting(self._name))

    def go(self) -> None:
        """Let the next event happen, if it may. On the VM's thread only."""
        if not self._events or self._timer.deadline_ns is not None or not self._idle():
            return
        now = self._vm.clock.now_ns
        if now < self._not_before:
            self._timer.set(self._not_before)
            return
        values, then_ns = self._events.popleft()
        self._not_before = now + then_ns
        self._tell(values)

    def state(self) -> PacedState:
        """All that it remembers."""
        events = [EventState(list(values), then_ns) for values, then_ns in self._events]
        return PacedState(events, self._not_before, self._timer.due)

    def restore(self, state: PacedState) -> None:
        """Go on from ``state``."""
        self._events = deque((list(event.values), event.then_ns) for event in state.events)
        self._not_before = state.not_before
        self._timer.put_back(state.due)
