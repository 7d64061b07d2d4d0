"""Runs a scheduler with simulated VMs on simulated pCPUs. What hands out pCPUs is the same code as of a real host."""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

from hypervisor.errors import ConfigError, InternalError
from hypervisor.run.sharing.allotment import Allotment
from hypervisor.run.sharing.hold import Hold
from hypervisor.run.sharing.policies import by_name
from hypervisor.run.sharing.scheduler import Scheduler
from hypervisor.run.sharing.share import Allowance, Share
from hypervisor.run.sharing.task import Next, Task
from hypervisor.run.sharing.usage import Usage
from hypervisor.run.threads.thread_meter import Reading
from hypervisor.testing.simulation.schedule import ASLEEP, CAPPED, READY, SECOND_NS, Row, Schedule
from hypervisor.testing.simulation.workloads import FOREVER_S, Job, Workload

NEVER = 1 << 62


class SimulatedPCpu:
    """What an allotment knows of a pCPU."""

    def __init__(self) -> None:
        self.owner: object = None

    def kick(self) -> None:
        """Whoever is to leave has been told so."""


class SimulatedVm:
    """What a scheduler and an allotment know of a VM."""

    def __init__(self, name: str, workload: Workload, share: Share | None = None) -> None:
        self.name, self.workload = name, workload
        self.share = share or Share()
        self.last: Any = None
        self.used_s = self.had_s = 0.0
        self.usage, self.allowance = Usage(), Allowance()


class _Work(Task):
    """A task of a simulated VM: its jobs, which nobody executes. Times are virtual nanoseconds."""

    def __init__(self, vm: SimulatedVm, row: Row, now: Callable[[], int]) -> None:
        super().__init__(vm, vm)
        self.vm, self.row, self._now = vm, row, now
        self.jobs = vm.workload.jobs()
        self.left: deque[tuple[int, int]] = deque()
        """Of the jobs that have begun: how much there is to do, and by when."""
        self.cpu = 0
        """How long it has had pCPUs."""
        self.hold: Hold | None = None
        """With which it has one."""
        self.leaves_at = NEVER
        """When it gives that back, having been told to."""
        self.refused = ""

    def read(self) -> Reading:
        """See `Meter`: its own time stands for that of the thread that would execute it."""
        return Reading(self._now() / SECOND_NS, self.cpu / SECOND_NS, 0.0)

    def glance(self, since: Reading) -> Reading:
        """See `Meter`."""
        return self.read()

    def refuse(self, text: str) -> None:
        """See `Task`."""
        self.refused = text

    called_off = stands = False

    def slice(self, hold: Hold) -> Next:
        """Nobody asks."""
        raise InternalError("a simulated task")

    def apart(self) -> Next:
        """Nobody asks."""
        raise InternalError("a simulated task")

    def hurry(self) -> float:
        """Nobody waits for it."""
        return -1.0

    def ask_to_end(self, error: BaseException) -> None:
        """Nobody waits for it."""

    def give_up(self) -> None:
        """It has nothing."""


class Simulation:
    """Of one host. ``run`` goes on from where the last one ended; `schedule` is what has come of it."""

    def __init__(
        self, scheduler: str | Scheduler, vms: Sequence[SimulatedVm], pcpus: int = 1, patience: float = 0.0
    ) -> None:
        """``patience`` is how long a VM takes to leave when it is told to, in seconds: the way to its guest's next
        block. Raises `ConfigError` for shares that the scheduler cannot give.
        """
        self._now = 0
        self._patience = round(patience * SECOND_NS)
        self._pcpus: list[Any] = [SimulatedPCpu() for _ in range(pcpus)]
        chooses = by_name.scheduler(scheduler)
        for number, vm in enumerate(vms):
            by_name.check(chooses, [other.share for other in vms[:number]], vm.share, pcpus)
        if len({vm.name for vm in vms}) < len(vms):
            raise ConfigError("Two simulated VMs have the same name.")
        self.schedule = Schedule([vm.name for vm in vms], pcpus)
        self._allotment = Allotment(self._pcpus, chooses, self._refused, lambda: self._now / SECOND_NS)
        self._works = [_Work(vm, self.schedule.rows[vm.name], lambda: self._now) for vm in vms]
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._order = count()
        for work in self._works:
            self._expect(work)

    def at(self, seconds: float, action: Callable[[Simulation], None]) -> None:
        """Have this done at a time: a share changes, another scheduler comes."""
        self._event(round(seconds * SECOND_NS), lambda: action(self))

    def switch(self, scheduler: str | Scheduler) -> None:
        """Have another one choose from now on."""
        self._allotment.switch(by_name.scheduler(scheduler))

    def share(self, vm: SimulatedVm, share: Share) -> None:
        """Give a VM another share."""
        vm.share = share
        self._allotment.share_changed()

    def run(self, seconds: float) -> Schedule:
        """Let so much virtual time pass."""
        end = self._now + round(seconds * SECOND_NS)
        while self._now < end:
            while self._events and self._events[0][0] <= self._now:
                heapq.heappop(self._events)[2]()
            following = self._settle()
            if self._events:
                following = min(following, self._events[0][0])
            self._pass(min(max(following, self._now + 1), end))
        self.schedule.end = self._now
        return self.schedule

    # --- time ---------------------------------------------------------------------------------------------------------

    def _event(self, at: int, action: Callable[[], None]) -> None:
        heapq.heappush(self._events, (at, next(self._order), action))

    def _expect(self, work: _Work) -> None:
        """The next job of a VM."""
        job = next(work.jobs, None)
        if job is not None:
            self._event(round(job.begin * SECOND_NS), lambda: self._begins(work, job))

    def _begins(self, work: _Work, job: Job) -> None:
        asleep = not work.left
        amount = NEVER if job.work == FOREVER_S else round(job.work * SECOND_NS)
        work.left.append((amount, NEVER if job.deadline == FOREVER_S else round(job.deadline * SECOND_NS)))
        if asleep:
            work.row.becomes(self._now, READY)
            self._allotment.enqueue(work, self._now / SECOND_NS)
        self._expect(work)

    def _settle(self) -> int:
        """Let those leave that are to, and give pCPUs to who is next, until nothing more happens at this time; when
        something does by itself.
        """
        while True:
            for work in self._works:
                if work.hold is not None and work.leaves_at <= self._now:
                    self._leave(work, goes_on=True)
            self._allotment.hand_out()
            for hold in self._allotment.holds:
                if hold.pcpu is not None and hold.meter is None:
                    self._enter(hold)
                elif hold.pcpu is None and isinstance(hold.task, _Work):
                    hold.task.row.becomes(self._now, CAPPED if hold.not_before else READY)
            again = self._allotment.press()
            following = NEVER if math.isinf(again) else math.ceil(again * SECOND_NS - 1e-3)
            left = False
            for work in self._works:
                if work.hold is None:
                    continue
                if work.hold.over and work.leaves_at == NEVER:
                    work.leaves_at = self._now + self._patience
                    left = left or not self._patience
                following = min(following, work.leaves_at, self._now + work.left[0][0])
            if not left:
                return following

    def _pass(self, until: int) -> None:
        """It is ``until`` now."""
        passed, self._now = until - self._now, until
        for work in self._works:
            if work.hold is None:
                continue
            work.cpu += passed
            amount, deadline = work.left[0]
            work.left[0] = amount - passed, deadline
            if amount == passed:
                work.left.popleft()
                work.row.done += 1
                work.row.late += self._now > deadline
                if not work.left:
                    self._leave(work, goes_on=False)

    # --- pCPUs --------------------------------------------------------------------------------------------------------

    def _enter(self, hold: Hold) -> None:
        work = hold.task
        if not isinstance(work, _Work) or hold.pcpu is None:
            raise InternalError("a hold of nobody's")
        work.hold, hold.meter = hold, work
        hold.got = work.read()
        hold.begin()
        work.row.becomes(self._now, self._pcpus.index(hold.pcpu))

    def _leave(self, work: _Work, *, goes_on: bool) -> None:
        hold, work.hold, work.leaves_at = work.hold, None, NEVER
        if hold is None:
            raise InternalError("nobody's leaving")
        work.vm.last, hold.until = hold.pcpu, self._now / SECOND_NS
        self._allotment.holds.remove(hold)
        work.row.becomes(self._now, READY if goes_on else ASLEEP)
        seconds = work.cpu / SECOND_NS - hold.got.cpu
        self._allotment.leaves(hold, work, seconds, seconds, goes_on=goes_on)

    def _refused(self, task: Task) -> None:
        raise ConfigError(task.refused if isinstance(task, _Work) else "")


__all__ = ["SimulatedPCpu", "SimulatedVm", "Simulation"]
