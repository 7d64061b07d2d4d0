"""A wish for a pCPU, from the asking to the giving back."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from hypervisor.run.threads.thread_meter import Meter, Reading

if TYPE_CHECKING:
    from hypervisor.engine.pcpu import PCpu
    from hypervisor.run.sharing.scheduler import Scheduler
    from hypervisor.run.sharing.share import Allowance
    from hypervisor.run.sharing.task import Task
    from hypervisor.run.sharing.usage import Usage

NEVER = float("inf")


class Customer(Protocol):
    """A VM, as far as the queue knows one (`hypervisor.run.sharing.placing.Place`)."""

    name: str
    last: PCpu | None
    """The pCPU that ran it last."""
    used_s: float
    """Host seconds for which its tasks have held up pCPUs: what a scheduler is told."""
    had_s: float
    """The same, to be compared among those that want pCPUs (`hypervisor.run.sharing.policies.at_home`)."""
    usage: Usage
    """Where its time has gone."""
    allowance: Allowance
    """What it may use, if it has a cap."""


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
        asked: float = 0.0,
    ) -> None:
        self.vm = vm
        self.task = task
        """What is to be executed on the pCPU's own thread; None for a visit."""
        self.asked = asked
        """Since when it waits, of time.monotonic."""
        self.not_before = 0.0
        """When it may have one: it has used what its cap allows. 0 for now."""
        self.pcpu: PCpu | None = None
        """None while it waits, and when it was called off."""
        self.over = False
        """Whether the slice is over, and somebody waits."""
        self.since = 0.0
        """When it got its pCPU, of time.monotonic."""
        self.until = 0.0
        """When it gave it back: what the accounts say of the VM, and of the next one, begins there."""
        self.seconds = 0.0
        """How long the slice is, in host seconds."""
        self.firm = False
        """Whether it ends though nobody waits."""
        self.capped = False
        """Whether its VM has a cap, which this slice is charged to."""
        self.wanted = False
        """Whether it is to leave at the end of its slice."""
        self.chosen_by: Scheduler | None = None
        """Who gave it its pCPU."""
        self.meter: Meter | None = None
        """Of the thread that executes the task, as soon as one does."""
        self.got = Reading(0.0, 0.0, 0.0)
        """What it said when the pCPU began to work for this."""
        self.began = self.got
        """What it said when the slice began."""
        self.begun = False
        """Whether the guest has run."""
        self.reached = 0.0
        """Where on the CPU clock of that thread it did first."""
        self.guest_knows = 0.0
        """Of which length of the slice the guest knows where it is to be left: `NEVER` if it runs without an end, 0
        before it runs."""
        self.look_at = NEVER
        """When, of time.monotonic, its thread is to have the queue look for who may want its pCPU."""
        self.cpu_left = self.left_at = NEVER
        """Where the guest was left behind that, and when (of time.monotonic); what follows is the way to another."""
        self.before = 0.0
        """Host seconds for which it had held up its pCPU when the slice began, which it slept before."""
        self.slept = self.slept_before = 0.0
        """Host seconds that it slept on its pCPU; and that it had when the slice began."""
        self.rouse: Callable[[], None] | None = None
        """Wakes a holder that sleeps, and whose pCPU is anybody's who wants one."""
        self.asleep_since = 0.0
        """When it fell asleep there, of time.monotonic."""
        self.thread = 0 if task is not None else threading.get_ident()
        """Who executes what the pCPU is for."""
        self.called_off = called_off
        self.end_at = end_at
        self.arrived = self.ended = False
        self._gate = threading.Lock()
        self._gate.acquire()

    @property
    def waits(self) -> bool:
        """Whether it waits for a pCPU, and may have one."""
        return self.pcpu is None and not self.not_before and not (self.task is not None and self.task.wants_apart)

    @property
    def waiters(self) -> set[int]:
        """The threads that cannot go on before this has come to its end, or a visit to its beginning."""
        if self.task is not None:
            return self.task.waiters
        return {self.thread} if self.pcpu is None else set()

    # --- slices -------------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Its slice begins."""
        self.over, self.guest_knows = False, 0.0
        if self.meter is None:
            self.since = time.monotonic()
        else:
            self.began = self.meter.glance(self.got)
            if not self.begun:
                self.reached, self.begun = self.began.cpu, True

    def goes(self, look_at: float) -> None:
        """Its guest is about to run, as far as the slice goes."""
        self.look_at = look_at
        self.guest_knows = self.seconds if self.wanted else NEVER

    @property
    def cpu_end(self) -> float:
        """Where on the CPU clock of that thread the slice ends."""
        return self.began.cpu + self.seconds if self.begun else NEVER

    @property
    def spent(self) -> bool:
        """Whether it is to leave its pCPU. On the thread that executes it, between two blocks of the guest."""
        if not self.over and not (self.wanted and time.thread_time() >= self.cpu_end):
            self.cpu_left = self.left_at = NEVER
            return False
        self.cpu_left, self.left_at = time.thread_time(), time.monotonic()
        return True

    def left(self, now: float) -> float:
        """How much of the slice there is, in host seconds; from any thread."""
        if self.rouse is not None:
            return 0.0
        if self.meter is None:
            return self.since + self.seconds - now
        if not self.begun:
            return self.seconds
        return self.seconds - held_up(self.began, self.meter.read(), self.slept - self.slept_before)

    def held_up(self, now: Reading) -> float:
        """For how many host seconds it has held up its pCPU, from when the guest began to run until it was left: what
        it takes to get there, and to leave for another one, is the host's doing, and counts for more in short slices.
        """
        if not self.begun:
            return 0.0
        if self.cpu_left < now.cpu:
            now = now._replace(cpu=max(self.cpu_left, self.began.cpu), wall=min(now.wall, self.left_at))
        return self.before + held_up(self.began, now, self.slept - self.slept_before)

    def ways(self, now: Reading) -> float:
        """How long its pCPU's thread computed to get to the guest and away from it. What it waited there for the
        interpreter, or for the queue, is nobody's: it is others who had that, or a processor of the host's.
        """
        if not self.begun:
            return now.cpu - self.got.cpu
        return self.reached - self.got.cpu + max(now.cpu - self.cpu_left, 0.0)

    def so_far(self) -> float:
        """The same up to now, from any thread: what it will be charged with, as far as that is known."""
        return 0.0 if self.meter is None else self.held_up(self.meter.read())

    def awakes(self) -> None:
        """It has slept on its pCPU, and begins another slice unless somebody waits."""
        self.rouse = None
        self.slept += time.monotonic() - self.asleep_since
        if self.meter is not None:
            self.before = self.held_up(now := self.meter.read())
            self.began, self.slept_before = now, self.slept

    def slept_until(self, now: float) -> float:
        """For how long it has slept on its pCPU until now."""
        return self.slept + (now - self.asleep_since if self.rouse is not None else 0.0)

    # --- waiting ------------------------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Let `sleep` return, now or when it is called. With the queue's lock only."""
        if self._gate.locked():
            self._gate.release()

    def sleep(self, seconds: float) -> None:
        """Until `wake`, or so many seconds if they are not negative."""
        self._gate.acquire(timeout=seconds)


def held_up(since: Reading, now: Reading, slept: float = 0.0) -> float:
    """For how many seconds a thread has held up its pCPU: it computed, or a handler slept. Not what others did to it:
    neither the host's kernel, nor whoever had the interpreter when it came back from its guest.
    """
    cpu = now.cpu - since.cpu
    idle = now.wall - since.wall - slept - cpu - (now.stolen - since.stolen)
    return cpu + max(idle - FORGIVEN_S, 0.0)


FORGIVEN_S = 0.005
"""Host seconds of each slice for which a thread may wait for the interpreter at the cost of nobody: CPython's switch
interval, which is how long it takes to get it from a thread that computes in Python. (Where that one loses its
processor it takes longer, and costs the VM: to the kernel it is a sleep, as a handler's is.)
"""


__all__ = ["FORGIVEN_S", "NEVER", "Customer", "Hold", "held_up"]
