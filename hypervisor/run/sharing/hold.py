"""A wish for a pCPU, from the asking to the giving back."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from hypervisor.engine.pcpu import PCpu
    from hypervisor.run.sharing.task import Task


class Customer(Protocol):
    """A VM, as far as the queue knows one (`hypervisor.run.sharing.placing.Place`)."""

    name: str
    last: PCpu | None
    """The pCPU that ran it last."""
    used_s: float
    """Host seconds that its tasks have had pCPUs for."""


class Hold:
    """Somebody who wants a pCPU for a VM, or has one: a task for a slice, which the pCPU's own thread then executes, or
    another thread for a visit, to which the pCPU is lent.
    """

    def __init__(
        self,
        vm: Customer,
        task: Task | None = None,
        called_off: Callable[[], bool] = lambda: False,
        end_at: float | None = None,
    ) -> None:
        self.vm = vm
        self.task = task
        """What is to be executed on the pCPU's own thread; None for a visit."""
        self.pcpu: PCpu | None = None
        """None while it waits, and when it was called off."""
        self.over = False
        """Whether the slice is over, and somebody waits."""
        self.since = 0.0
        """When it got its pCPU, and the guest began to run; of time.monotonic."""
        self.seconds = 0.0
        """How long the slice is, in host seconds."""
        self.used = 0.0
        """Host seconds that it has had the pCPU for before ``since``."""
        self.rouse: Callable[[], None] | None = None
        """Wakes a holder that sleeps, and whose pCPU is anybody's who wants one."""
        self.thread = 0 if task is not None else threading.get_ident()
        """Who executes what the pCPU is for."""
        self.called_off = called_off
        self.end_at = end_at
        self.arrived = self.ended = False
        self._gate = threading.Lock()
        self._gate.acquire()

    @property
    def waits(self) -> bool:
        """Whether it waits for a pCPU."""
        return self.pcpu is None and not (self.task is not None and self.task.wants_apart)

    @property
    def waiters(self) -> set[int]:
        """The threads that cannot go on before this has come to its end, or a visit to its beginning."""
        if self.task is not None:
            return self.task.waiters
        return {self.thread} if self.pcpu is None else set()

    def wake(self) -> None:
        """Let `sleep` return, now or when it is called. With the queue's lock only."""
        if self._gate.locked():
            self._gate.release()

    def sleep(self, seconds: float) -> None:
        """Until `wake`, or so many seconds if they are not negative."""
        self._gate.acquire(timeout=seconds)


__all__ = ["Customer", "Hold"]
