"""Which of those that want a pCPU have one: what the queue (`runqueue`) and the simulator of schedules
(`hypervisor.testing.simulation`) do in the same way, the one with threads and the other without.

All that is known are the holds, a list which changes in single steps (see `runqueue`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from hypervisor.run.sharing.affinity import Affinity
from hypervisor.run.sharing.hold import NEVER, Hold
from hypervisor.run.sharing.policies import at_home
from hypervisor.run.sharing.policy import Policy
from hypervisor.run.sharing.scheduler import Candidate, Scheduler
from hypervisor.run.sharing.share import DRIVES_SLICE_S
from hypervisor.run.sharing.slices import press

if TYPE_CHECKING:
    from hypervisor.engine.pcpu import PCpu
    from hypervisor.run.sharing.task import Task

Clock = Callable[[], float]


class Allotment:
    """The pCPUs of a host, and who wants them. A VM has one at most. Times are of ``clock``, in seconds."""

    def __init__(
        self,
        pcpus: Sequence[PCpu],
        scheduler: Scheduler,
        refused: Callable[[Task], None],
        clock: Clock = time.monotonic,
    ) -> None:
        """``refused`` is called with a task that ends because of a mistake of the scheduler's."""
        self._pcpus, self._refused, self._clock = list(pcpus), refused, clock
        self._affinity = Affinity(pcpus)
        self.holds: list[Hold] = []
        self._free: list[PCpu] = []
        """The pCPUs that are handed out."""
        self.policy = Policy(scheduler, refused, len(self._pcpus), clock, self._had, self._stays)

    @property
    def contended(self) -> bool:
        """Whether a VM waits for a pCPU."""
        return any(hold.waits for hold in self.holds)

    # --- tasks --------------------------------------------------------------------------------------------------------

    def enqueue(self, task: Task, now: float) -> None:
        """A task wants a pCPU that did not before."""
        hold = self._hold(task, now)
        at_home.wakes(task.place, [other.vm for other in self.holds if other.task is not None])
        self.holds.append(hold)
        if not hold.not_before:
            self._wakes(task)

    def leaves(self, hold: Hold, task: Task, seconds: float, whole: float, *, goes_on: bool) -> None:
        """A task has held up its pCPU for so many seconds, ``whole`` with the way to its guest; it wants another slice
        or not.
        """
        task.place.used_s += seconds
        task.place.had_s += seconds
        if hold.capped:
            task.place.allowance.charge(whole)
        known = hold.chosen_by is self.policy.scheduler
        following = self._hold(task, hold.until) if goes_on else None
        if following is not None and not following.not_before:
            if known:
                self.policy.used(task, seconds, whole)
            else:
                self._wakes(task)
        elif known:
            self.policy.blocks(task, seconds, whole)
        if following is not None:
            self.holds.append(following)

    def forget(self, hold: Hold, task: Task) -> None:
        """A task does not wait any longer."""
        now, usage = self._clock(), hold.vm.usage
        usage.add_waited(now - hold.asked, capped=bool(hold.not_before))
        task.idle_since = now
        if not hold.not_before:
            self.policy.blocks(task)

    def switch(self, scheduler: Scheduler) -> None:
        """Another one chooses from now on. Who runs leaves soon, and is new to it."""
        self.policy = Policy(scheduler, self._refused, len(self._pcpus), self._clock, self._had, self._stays)
        for hold in self.holds:
            if hold.task is None:
                continue
            if hold.pcpu is not None:
                hold.firm, hold.seconds = True, 0.0
            elif not hold.not_before:
                self.policy.wakes(hold.task, (), room=True)

    def share_changed(self) -> None:
        """A VM has another cap, or other pCPUs to run on: whoever runs where, or longer than, it may no more leaves."""
        for hold in self.holds:
            if hold.task is None or hold.pcpu is None:
                continue
            share = hold.task.candidate.share
            limited = share.cap is not None or share.limits_drives
            if limited or hold.pcpu not in self._affinity.allows(hold):
                hold.firm, hold.seconds = True, 0.0

    def _hold(self, task: Task, asked: float) -> Hold:
        hold = Hold(task.place, task, asked=asked)
        hold.not_before = self._opens(task)
        return hold

    def _opens(self, task: Task) -> float:
        return task.place.allowance.opens(task.candidate.share, self._clock())

    def _had(self, vm: Candidate) -> float:
        """For how long a VM has held up its pCPU in its slice."""
        for hold in self.holds:
            if hold.task is not None and hold.task.candidate is vm and hold.pcpu is not None:
                return hold.so_far()
        return 0.0

    def _stays(self, vm: Candidate) -> bool:
        """Whether a VM that is given one of the free pCPUs has not been on another one before."""
        for hold in self.holds:
            if hold.task is not None and hold.task.candidate is vm and hold.pcpu is None:
                return at_home.stays(hold, self._free)
        return False

    def _wakes(self, task: Task) -> None:
        running = [hold for hold in self.holds if hold.pcpu is not None]
        if not running:
            self.policy.wakes(task, running, room=True)
            return
        mine = next((hold for hold in self.holds if hold.task is task and hold.pcpu is None), None)
        allowed = self._pcpus if mine is None else self._affinity.allows(mine)
        taken = {hold.pcpu for hold in running}
        free = sum(pcpu not in taken for pcpu in allowed)
        others = sum(hold.waits for hold in self.holds if hold is not mine)
        there = [hold for hold in running if hold.task is not None and hold.pcpu in allowed]
        self.policy.wakes(task, there, room=free > others)

    # --- pCPUs --------------------------------------------------------------------------------------------------------

    def hand_out(self, since: float | None = None) -> None:
        """Give free pCPUs to those who are next. One of them has been free ``since`` then: its thread may have lost its
        processor between that and this.
        """
        waiting = [hold for hold in self.holds if hold.pcpu is None]
        if not waiting:
            return
        now = self._clock()
        for hold in waiting:
            if hold.not_before and hold.task is not None:
                hold.not_before = self._opens(hold.task)
                if not hold.not_before:
                    hold.vm.usage.add_waited(now - hold.asked, capped=True)
                    hold.asked = now
                    self._wakes(hold.task)
        running = [hold for hold in self.holds if hold.pcpu is not None]
        taken, busy = {hold.pcpu for hold in running}, {hold.vm for hold in running}
        self._free = free = [pcpu for pcpu in self._pcpus if pcpu not in taken]
        while free:
            waiting = [hold for hold in self.holds if hold.waits and hold.vm not in busy]
            able = [hold for hold in waiting if any(pcpu in free for pcpu in self._affinity.allows(hold))]
            if not able:
                for hold in self._affinity.in_the_way(waiting, running, free):
                    hold.firm, hold.seconds = True, 0.0
                break
            hold, seconds = self.policy.next(at_home.first(able, free))
            pcpu = self._affinity.best(hold, free, [other for other in waiting if other is not hold])
            free.remove(pcpu)
            busy.add(hold.vm)
            hold.since, hold.seconds = now if since is None else max(since, hold.asked), seconds
            if hold.task is not None:
                hold.chosen_by = self.policy.scheduler
                share = hold.task.candidate.share
                if share.cap is not None:
                    hold.capped = hold.firm = True
                    hold.seconds = min(seconds, hold.vm.allowance.left)
                if share.limits_drives:
                    hold.firm = True
                    hold.seconds = min(hold.seconds, DRIVES_SLICE_S)
                hold.task.woken = False
            hold.pcpu = pcpu

    def press(self) -> float:
        """Have those leave whose slice is over; when to look again, of the clock: infinite for never."""
        opens = min((hold.not_before for hold in self.holds if hold.not_before), default=NEVER)
        return min(press(self.holds, self._clock(), self._affinity.allows), opens)


__all__ = ["Allotment"]
