"""Event delivery: exceptions, software interrupts and external interrupts, with what goes wrong on the way.

APM volume 2, chapter 8 (8.2.9 for double faults, 8.4.1 for selector error codes, 8.6 real mode, 8.7 legacy
protected mode, 8.8 virtual-8086, 8.9 long mode) and the operation of INT n in APM and SDM.
"""

from __future__ import annotations

from dataclasses import dataclass

from .event import Attempt, Event, Kind, TaskGateError
from .legacy import deliver_protected
from .linear import GuestFaultError
from .long import deliver_long
from .real import deliver_real
from .state import Memory, State
from .tasks import TaskFaultError, switch_task

DOUBLE_FAULT, PAGE_FAULT = 8, 14
CONTRIBUTORY = frozenset({0, 10, 11, 12, 13})


@dataclass(frozen=True)
class Delivered:
    """The handler's first instruction is next. ``chain`` holds every event tried, the delivered one last."""

    state: State
    chain: tuple[Event, ...]
    unsettled: frozenset[str]


@dataclass(frozen=True)
class Shutdown:
    """A fault while delivering a double fault (a *triple fault*). ``state`` has the last CR2."""

    state: State
    chain: tuple[Event, ...]
    unsettled: frozenset[str]


@dataclass(frozen=True)
class TaskGate:
    """The last event of ``chain`` meets a task gate for ``selector``; nothing but CR2 has changed."""

    state: State
    selector: int
    chain: tuple[Event, ...]
    unsettled: frozenset[str]


def deliver(
    memory: Memory,
    state: State,
    vector: int,
    error: int | None,
    kind: Kind,
    length: int = 0,
    follow_task_gates: bool = False,
) -> Delivered | Shutdown | TaskGate:
    """Deliver one event to the end: a handler, a task gate or shutdown. Changes ``memory``, never ``state``.

    ``error`` is the code of an exception that has one, else None. ``length`` is the length in bytes of the INT
    instruction, whose address is ``state.rip``. A task gate ends the delivery with `TaskGate`, unless
    ``follow_task_gates`` asks for the task switch.
    """
    state = state.copy()
    event = Event(vector, error, kind, length)
    chain = [event]
    unsettled: set[str] = set()
    while True:
        attempt = Attempt(memory, state, event, unsettled)
        try:
            try:
                after = _deliver_one(attempt)
            except TaskGateError as gate:
                if not follow_task_gates:
                    return TaskGate(state, gate.selector, tuple(chain), frozenset(unsettled))
                after = switch_task(attempt, gate.selector)
            return Delivered(after, tuple(chain), frozenset(attempt.doubts()))
        except TaskFaultError as lost:
            state, fault = lost.state, lost.fault
        except GuestFaultError as early:
            fault = early
            if attempt.linear.writes:
                unsettled.add("partial-push")
        unsettled = attempt.doubts()
        if fault.cr2 is not None:
            state.cr2 = fault.cr2
        following = escalate(event, fault)
        if following is None:
            return Shutdown(state, tuple(chain), frozenset(unsettled))
        event = following
        chain.append(event)


def escalate(first: Event, second: GuestFaultError) -> Event | None:
    """What a fault during delivery becomes: itself, a double fault, or None for shutdown (APM 2, 8.2.9).

    Only an exception has a class; an interrupt, also one of vector 8 or 14, is benign.
    """
    severe = second.vector in CONTRIBUTORY or second.vector == PAGE_FAULT
    if first.kind is Kind.EXCEPTION and severe:
        if first.vector == DOUBLE_FAULT:
            return None
        if first.vector == PAGE_FAULT or (first.vector in CONTRIBUTORY and second.vector in CONTRIBUTORY):
            return Event(DOUBLE_FAULT, 0, Kind.EXCEPTION)
    return Event(second.vector, second.error, Kind.EXCEPTION)


def _deliver_one(attempt: Attempt) -> State:
    state = attempt.state
    if not state.protected:
        return deliver_real(attempt)
    if state.v86 and attempt.event.kind is Kind.SOFTWARE_INT and state.iopl < 3:
        raise GuestFaultError(13, 0)
    return deliver_long(attempt) if state.long_mode else deliver_protected(attempt)
