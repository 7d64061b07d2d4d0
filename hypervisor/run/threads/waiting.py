"""Waiting for what a VM does on its pCPU: whoever waits stays free for signals, and sees that it ends in time.

A signal's handler runs on the main thread, at whatever Python code comes next, and may raise there (Ctrl-C does). On a
thread that serves the guest's accesses that would be in the middle of an instruction; here it ends the run at the
guest's next block, and is then raised. It may come at any call, so all that is done here is a loop that can be entered
again, and nothing leaves it but the task's end.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from hypervisor.run.threads import interrupting

if TYPE_CHECKING:
    from hypervisor.run.sharing.runqueue import RunQueue
    from hypervisor.run.sharing.task import Task
    from hypervisor.run.threads.watch import Watch

AGAIN_S = 0.02
"""How soon a task that was asked to end is looked at again, in host seconds."""

AWAKE_S = 0.5
"""Longest wait, in host seconds, before what other threads raise here is looked at: only signals end a wait."""


class Wait:
    """One thread's wait for a task."""

    def __init__(self, task: Task, queue: RunQueue) -> None:
        self._task, self._queue = task, queue
        self._taken_on = False
        self._began = 0.0
        """When the wait did, of time.monotonic."""
        self._caught: BaseException | None = None
        """What was raised here, and has not been served."""
        self._raised: BaseException | None = None
        """The first that was raised here."""
        self._pressed_at: float | None = None
        self._left = False
        """Whether there is nothing more to wait for."""

    @contextmanager
    def joined(self) -> Iterator[None]:
        """The block waits for a task that others have begun. Raises `ConfigError` where it would do so for ever."""
        self._task.waiters.add(threading.get_ident())
        try:
            self._queue.check_hope(self._task.place)
            yield
        finally:
            self.leave()

    def some_time(self, end_at: float | None = None, longest: float = AWAKE_S) -> None:
        """Wait for a while, until the task is over, or until ``end_at`` (of time.monotonic)."""
        seconds = self._task.hurry()
        seconds = longest if seconds < 0 else min(seconds, longest)
        self._task.wait(seconds if end_at is None else max(min(seconds, end_at - time.monotonic()), 0.0))

    def for_task(self, begin: Callable[[], None], *, only_begin: bool = False) -> None:
        """Have the task taken on by ``begin()``, wait until it is over, and raise what it raised; with ``only_begin``
        wait only where something is raised here meanwhile. What ``begin`` raises leaves nothing behind.

        What a signal raises comes before what the task did. An interrupt asks the task to end, the next one ends what
        holds it up, and if that does not return, one more is not waited with.
        """
        self._task.waiters.add(threading.get_ident())
        while not self._left:  # signals strike at calls and jumps: the outer one is for those of the inner loop
            try:
                while not self._left:
                    try:
                        self._go_on(begin, only_begin)
                    except BaseException as error:
                        self._caught = error
            except BaseException as error:
                self._caught = error
        self.leave()
        problem = self._raised or self._task.error
        if problem is not None:
            raise problem

    @property
    def quiet(self) -> bool:
        """Whether nothing has been raised here."""
        return self._caught is None and self._raised is None

    def leave(self) -> None:
        """Do not wait for it."""
        self._task.waiters.discard(threading.get_ident())

    def _go_on(self, begin: Callable[[], None], only_begin: bool) -> None:
        """Serve what was raised here; else take the next step. Interrupted anywhere, it is called again."""
        error = self._caught
        if error is not None:
            if not self._taken_on and not self._queue.knows(self._task):
                self._task.withdraw()
                self._raised, self._left = error, True
                return
            self._taken_on = True
            self._caught = None
            self._interrupted(error)
        elif not self._taken_on:
            begin()
            self._taken_on = True
            if not only_begin:
                self._began = self._queue.patience.begin(self._task.mark)
        elif self._task.over or (only_begin and self._raised is None):
            self._left = True
            if not only_begin:
                self._queue.patience.end(self._began)
        else:
            self.some_time(longest=AWAKE_S if self._raised is None else AGAIN_S)
            if self._raised is not None:
                self._queue.wake(self._task.place)  # the interrupt may have come in the middle of that

    def _interrupted(self, error: BaseException) -> None:
        if self._raised is None:
            self._raised = error
        elif self._pressed_at is None:
            self._pressed_at = time.monotonic()
        elif time.monotonic() > self._pressed_at + interrupting.GRACE_S:
            self._left = True
        self._task.ask_to_end(self._raised)


class Overseer:
    """Sees that a task for which nobody waits ends in time, by the host's watch."""

    def __init__(self, task: Task, watch: Watch) -> None:
        self._task = task
        self._alarm = watch.alarm(self.look)
        task.when_over.append(self._alarm.close)

    def look(self) -> None:
        """Do what is due, now and when something more is."""
        if self._task.over:
            self._alarm.close()
            return
        seconds = self._task.hurry()
        if seconds >= 0:
            self._alarm.set(time.monotonic() + seconds)


__all__ = ["Overseer", "Wait"]
