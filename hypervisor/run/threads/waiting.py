"""Waiting for what a VM does on its pCPU: whoever waits stays free for signals, and sees that it ends in time.

A signal's handler runs on the main thread, at whatever Python code comes next, and may raise there (Ctrl-C does). On a
thread that serves the guest's accesses that would be in the middle of an instruction; here it ends the run at the
guest's next block, and is then raised. It may come after any call, so all that follows the one call that has the task
taken on is a loop, which can be entered again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from hypervisor.run.threads import interrupting

if TYPE_CHECKING:
    from hypervisor.run.sharing.runqueue import RunQueue
    from hypervisor.run.sharing.task import Task

AGAIN_S = 0.02
"""How soon a task that was asked to end is looked at again, in host seconds."""

AWAKE_S = 0.5
"""Longest wait, in host seconds, before what other threads raise here is looked at: only signals end a wait."""


class Wait:
    """One thread's wait for a task."""

    def __init__(self, task: Task, queue: RunQueue) -> None:
        self._task, self._queue = task, queue
        self._raised: BaseException | None = None
        self._pressed_at: float | None = None
        self._given_up = False

    def begin(self, begin: Callable[[], None]) -> None:
        """Have the task taken on by ``begin()``; what that raises leaves nothing behind."""
        self._task.waiter = threading.get_ident()
        try:
            begin()
        except BaseException as error:
            if not self._queue.knows(self._task):
                self._task.give_up()
                raise
            self._interrupted(error)

    def to_the_end(self) -> None:
        """Wait until the task is over, and raise what it raised; what a signal raised comes first. An interrupt asks
        the task to end, the next one ends what holds it up, and if that does not return, one more is not waited with.
        """
        self._task.waiter = threading.get_ident()
        while not (self._task.over or self._given_up):
            try:
                self._wait()
            except BaseException as error:  # also in the middle of serving the last one
                self._interrupted(error)
        self._task.waiter = 0
        problem = self._raised or self._task.error
        if problem is not None:
            raise problem

    def _wait(self) -> None:
        task = self._task
        while not (task.over or self._given_up):
            seconds = task.hurry()
            longest = AWAKE_S if self._raised is None else AGAIN_S
            task.wait(longest if seconds < 0 else min(seconds, longest))
            if self._raised is not None:
                self._queue.wake(task.place)  # the interrupt may have come in the middle of that

    def _interrupted(self, error: BaseException) -> None:
        now = time.monotonic()
        if self._raised is None:
            self._raised = error
        elif self._pressed_at is None:
            self._pressed_at = now
        elif now > self._pressed_at + interrupting.GRACE_S:
            self._given_up = True
        self._task.ask_to_end(self._raised)


__all__ = ["Wait"]
