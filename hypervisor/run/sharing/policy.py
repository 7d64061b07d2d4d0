"""Asking a host's scheduler, which is a user's."""

from __future__ import annotations

import signal
import traceback
from collections.abc import Callable, Sequence

from hypervisor.run.sharing import scheduler as policies
from hypervisor.run.sharing.hold import Hold
from hypervisor.run.sharing.scheduler import Candidate, Charging, Hosted, Placing, Scheduler, Slice, Watching
from hypervisor.run.sharing.task import Task

LEAST_SLICE_S = 1e-6
"""What a slice is at least, in host seconds, whatever a scheduler says: else nobody comes any further."""


class Policy:
    """What is asked of a scheduler. Its mistakes end the task that it was asked about and nothing else: ``refused`` is
    called with that. What a signal's handler raises meanwhile is no mistake of its.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        refused: Callable[[Task], None],
        pcpus: int,
        clock: Callable[[], float],
        had: Callable[[Candidate], float],
        stays: Callable[[Candidate], bool],
    ) -> None:
        self.scheduler = scheduler
        self._refused = refused
        self._charging = scheduler if isinstance(scheduler, Charging) else None
        if isinstance(scheduler, Hosted):
            scheduler.begin(pcpus, clock)
        if isinstance(scheduler, Watching):
            scheduler.watch(had)
        if isinstance(scheduler, Placing):
            scheduler.place(stays)

    def next(self, waiting: Sequence[Hold]) -> tuple[Hold, float]:
        """Who of those that wait gets the next pCPU, and for how many seconds: a visit when it has waited longest."""
        first = waiting[0]
        if first.task is None:
            return first, policies.SLICE_S
        ready = {hold.task.candidate: hold for hold in waiting if hold.task is not None}
        answer = first, policies.SLICE_S
        with self._asking(first.task):
            vm, seconds = self.scheduler.choose(list(ready))
            answer = _among(ready, vm), seconds if seconds > LEAST_SLICE_S else LEAST_SLICE_S
        return answer

    def wakes(self, task: Task, holds: Sequence[Hold], *, room: bool) -> None:
        """A task wants a pCPU that did not before: end the slice of who of these that run is to make room for it,
        unless there is.
        """
        running = {
            hold.task.candidate: hold
            for hold in holds
            if hold.task is not None and hold.pcpu is not None and hold.chosen_by is self.scheduler
        }
        with self._asking(task):
            aside = self.scheduler.wakes(task.candidate, list(running))
            if aside is not None:
                vm, seconds = aside if isinstance(aside, Slice) else (aside, 0.0)
                end = _among(running, vm)
                if not room:
                    end.seconds = min(end.seconds, seconds)

    def used(self, task: Task, seconds: float, whole: float) -> None:
        """A task had a pCPU for so long, ``whole`` with the ways to its guest and back, and wants another slice."""
        with self._asking(task):
            if self._charging is not None:
                self._charging.held(task.candidate, whole)
            self.scheduler.used(task.candidate, seconds)

    def blocks(self, task: Task, seconds: float = 0.0, whole: float = 0.0) -> None:
        """A task had a pCPU for so long, and wants none for the present."""
        with self._asking(task):
            if self._charging is not None:
                self._charging.held(task.candidate, whole)
            self.scheduler.blocks(task.candidate, seconds)

    def _asking(self, task: Task) -> _Asking:
        return _Asking(self, task)

    def mistaken(self, task: Task, error: Exception) -> None:
        """The scheduler raised this when it was asked about a task."""
        what = "answered with a VM that was not among them" if isinstance(error, _Stranger) else f"raised {error!r}"
        task.refuse(f"the host's scheduler, {type(self.scheduler).__name__}, {what}")
        self._refused(task)


class _Asking:
    """A block that asks a scheduler about a task. (A generator for this takes longer than what is asked.)"""

    __slots__ = ("_policy", "_task")

    def __init__(self, policy: Policy, task: Task) -> None:
        self._policy, self._task = policy, task

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if not isinstance(error, Exception) or _of_a_signal(error):
            return False
        self._policy.mistaken(self._task, error)
        return True


class _Stranger(Exception):
    """An answer that is not among the VMs that were asked about."""


def _among(holds: dict[Candidate, Hold], vm: Candidate) -> Hold:
    if vm not in holds:
        raise _Stranger
    return holds[vm]


def _of_a_signal(error: BaseException) -> bool:
    """Whether a signal's handler raised this: Python calls one in the middle of whatever the main thread executes."""
    handlers = {getattr(signal.getsignal(number), "__code__", None) for number in signal.valid_signals()}
    return any(frame.f_code in handlers for frame, _ in traceback.walk_tb(error.__traceback__))


__all__ = ["Policy"]
