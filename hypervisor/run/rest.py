"""A guest that has nothing to do: none of its vCPUs is awake, or they all only jump to themselves. Time passes without
it, its run waits for the host, or it is over.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from hypervisor.engine.shared_words.scheduling import LOOK_NS
from hypervisor.run.ending import ends
from hypervisor.run.ending.idling import idles
from hypervisor.run.pace import Pace, Sleep
from hypervisor.run.threads.alarms import LOOK_IN_S, PATIENCE_NS, WallAlarm
from hypervisor.run.threads.sleeping import Bell
from hypervisor.units import FOREVER_NS

if TYPE_CHECKING:
    from hypervisor.engine.pcpu import PCpu
    from hypervisor.run.ending.conditions import Condition
    from hypervisor.run.ending.run_end import RunEnd
    from hypervisor.run.machine import Machine
    from hypervisor.run.sharing.hold import Hold


class Rest:
    """When one run rests, and until when."""

    def __init__(
        self, vm: Machine, ending: RunEnd, until: Condition | None, limit: int, look: Callable[[], bool]
    ) -> None:
        """``limit`` is the run's, in virtual nanoseconds. ``look()`` has it look at the host and its time, and says
        whether it has something else to do than to wait.
        """
        self._vm, self._ending, self._until, self._limit, self._look = vm, ending, until, limit, look
        self._alarm = WallAlarm(vm, limit) if vm.clock.wall else None
        self.bell = Bell()
        """Wakes it."""
        self.asleep = False
        """Whether the run waits for the host, and needs no pCPU."""
        self.short = False
        """Whether the present turn is left before its end, for what came at once there in a run that is recorded."""

    # --- the alarm of the wall clock ----------------------------------------------------------------------------------

    def entered(self) -> None:
        """The run has got a pCPU."""
        if self._alarm is not None:
            self._alarm.entered()

    def follow_timers(self, pcpu: PCpu, now_ns: int) -> None:
        """The guest is about to run by the wall clock, and another timer may be the next one."""
        self._vm.clock.due_changed(pcpu, now_ns + PATIENCE_NS)
        if self._alarm is not None:
            self._alarm.follow()

    def alarm_changed(self) -> None:
        """A timer of the wall clock was asked for."""
        if self._alarm is not None:
            self._alarm.wake()

    def close(self) -> None:
        """The run is over."""
        if self._alarm is not None:
            self._alarm.close()
            self._alarm = None

    # --- what the engine tells ----------------------------------------------------------------------------------------

    def looked_in(self, pcpu: PCpu) -> int:
        """The guest was left because a turn is over, or kicked."""
        vm, report = self._vm, pcpu.report
        report.kick = 0
        end = vm.turns.end  # a turn that is left in its middle goes on
        if not vm.turns.several:
            end = min(end, vm.turns.leave_at)
        if (vm.clock.wall or report.now >= end) and not (vm.reset_pending or self.short):
            self.look_at_spin(report.now)
        return 0

    def look_at_spin(self, now: int) -> None:
        """End the run of a guest that spins for ever; not often."""
        vm = self._vm
        if vm.turns.several or vm.clock.wall:
            if now < vm.current.looked_at + LOOK_NS:
                return  # turns, or the times between two timers, are shorter than what this is worth
            vm.current.looked_at = now
        end = ends.of_spin(vm)
        if end is not None:
            self._ending.come(end)

    def idle(self, pcpu: PCpu) -> int:
        """By the wall clock, the vCPU does nothing until an event comes: rest, unless another one has work."""
        turns = self._vm.turns
        end = ends.of_spin(self._vm)
        if end is not None:
            self._ending.come(end)
        elif turns.rest():
            self.asleep = True
        else:
            turns.skip(pcpu)
        return 0

    def spun(self, pcpu: PCpu) -> int:
        """Several PAUSEs: another vCPU's turn. By the wall clock, rest once all are in loops that do nothing else."""
        turns = self._vm.turns
        turns.give_way(pcpu)
        if self._alarm is not None and turns.all_spin and idles(turns.current):
            self.asleep = turns.rest()
        return 0

    # --- sleeping -----------------------------------------------------------------------------------------------------

    def sleep(self, pcpu: PCpu) -> None:
        """No vCPU is awake: move the time to when one may be, leave the pCPU until then, or end the run."""
        vm = self._vm
        end = ends.of_sleep(vm)
        if end is not None:
            self._ending.come(end)
            return
        earliest = vm.clock.timers.next_ns()
        if vm.clock.wall or (earliest is None and vm.pace is None):  # only the host can wake it
            self.asleep = True
            return
        target = self._limit if earliest is None else min(earliest, self._limit)
        if self._until is not None:
            target = min(target, self._until.deadline_ns)
        if vm.pace is None or self._passes(vm.pace, target):
            vm.turns.sleep_until(pcpu, target)

    def _passes(self, pace: Pace, target: int) -> bool:
        """Whether the time until ``target`` passes for a guest that is paced."""
        vm = self._vm
        answer = pace.sleep(vm.clock.now_ns, target)
        if answer is Sleep.LASTS and not vm.input_open:
            self._ending.come(ends.of_silence(vm))
        elif answer in (Sleep.WAITS, Sleep.LASTS):
            self.asleep = True
        return answer is Sleep.PASSES

    def leaves(self, hold: Hold) -> bool:
        """Whether the run is to leave its pCPU: another VM wants that. One that is asleep stays until somebody does."""
        if self.asleep and self._on_pcpu(hold):
            self.asleep = False
        return self.asleep or hold.spent

    def _on_pcpu(self, hold: Hold) -> bool:
        """Sleep on the pCPU, which nobody else wants; False when somebody does, or comes."""
        queue = self._vm.host.queue
        if not queue.rest(hold, self.bell.ring):
            return False
        if self._alarm is not None:
            self._alarm.left()  # it wakes at that time by itself
        assert hold.pcpu is not None
        hold.pcpu.let_go()
        try:
            self.wait_for_host(hold)
        finally:
            keeps = queue.resume(hold)
        self.entered()
        return keeps

    def wait_for_host(self, hold: Hold) -> None:
        """Sleep on the pCPU until a timer of the wall clock is due, something comes, or ``hold`` is over."""
        wake_at, term = self.due_at(), self._ending.term
        about_host = self._until is not None and self._until.after_each_exit
        while not (self._look() or self._ending.finished or hold.over):
            now, seconds = time.monotonic(), LOOK_IN_S
            if self._vm.clock.wall and wake_at is not None:
                if wake_at <= now:
                    return
                seconds = min(seconds, wake_at - now)
            if term.end_at is not None:
                seconds = min(seconds, term.end_at - now)
            if self.bell.sleep(seconds) or about_host:
                return

    def due_at(self) -> float | None:
        """When a run that waits for the host has something to do by itself, of time.monotonic; None for never."""
        clock, until = self._vm.clock, self._until
        about_host = until is not None and until.after_each_exit  # a user's function, which may be about anything
        left = LOOK_IN_S if about_host else None
        if clock.wall:
            due = clock.timers.next_ns()
            asked_at = self._limit if until is None else min(self._limit, until.deadline_ns)
            if due is not None:
                clock.make_up(min(asked_at, due) - clock.unseen_ns, self._vm.place.loaded)
            first = min(asked_at, FOREVER_NS if due is None else due)
            if first < FOREVER_NS:
                until_due = (first - clock.unseen_ns) / 1e9
                left = until_due if left is None else min(left, until_due)
        return None if left is None else time.monotonic() + left


__all__ = ["Rest"]
