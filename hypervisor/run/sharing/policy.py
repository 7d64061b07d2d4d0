"""Asking a host's scheduler, which is a user's."""

from __future__ import annotations

import signal
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from hypervisor.run.sharing import scheduler
from hypervisor.run.sharing.hold import Hold
from hypervisor.run.sharing.scheduler import RoundRobin, Scheduler
from hypervisor.run.sharing.task import Task


class Policy:
    """What is asked of a scheduler. Its mistakes end the task that it was asked about and nothing else: ``refused`` is
    called with that. What a signal's handler raises meanwhile is no mistake of its.
    """

    def __init__(self, asked: Scheduler | None, refused: Callable[[Task], None]) -> None:
        self._scheduler: Scheduler = asked or RoundRobin()
        self._refused = refused

    def next(self, waiting: Sequence[Hold]) -> tuple[Hold, float]:
        """Who of those that wait gets the next pCPU, and for how many seconds: a visit when it has waited longest."""
        first = waiting[0]
        if first.task is None:
            return first, scheduler.SLICE_S
        ready = {hold.task.candidate: hold for hold in waiting if hold.task is not None}
        answer = first, scheduler.SLICE_S
        with self._asking(first.task):
            vm, seconds = self._scheduler.choose(list(ready))
            answer = ready[vm], float(seconds)
        return answer

    def wakes(self, task: Task, holds: Sequence[Hold]) -> None:
        """A task wants a pCPU that did not before: end the slice of who is to make room for it."""
        running = {hold.task.candidate: hold for hold in holds if hold.task is not None and hold.pcpu is not None}
        with self._asking(task):
            aside = self._scheduler.wakes(task.candidate, list(running))
            if aside is not None:
                running[aside].seconds = 0.0

    def used(self, task: Task, seconds: float) -> None:
        """A task had a pCPU for so long, and wants another slice."""
        with self._asking(task):
            self._scheduler.used(task.candidate, seconds)

    def blocks(self, task: Task, seconds: float = 0.0) -> None:
        """A task had a pCPU for so long, and wants none for the present."""
        with self._asking(task):
            self._scheduler.blocks(task.candidate, seconds)

    @contextmanager
    def _asking(self, task: Task) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if _of_a_signal(error):
                raise
            what = "answered with a VM that was not among them" if isinstance(error, KeyError) else f"raised {error!r}"
            task.refuse(f"the host's scheduler, {type(self._scheduler).__name__}, {what}")
            self._refused(task)


def _of_a_signal(error: BaseException) -> bool:
    """Whether a signal's handler raised this: Python calls one in the middle of whatever the main thread executes."""
    handlers = {getattr(signal.getsignal(number), "__code__", None) for number in signal.valid_signals()}
    return any(frame.f_code in handlers for frame, _ in traceback.walk_tb(error.__traceback__))


__all__ = ["Policy"]
