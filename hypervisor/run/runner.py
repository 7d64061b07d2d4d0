"""What runs a guest on a pCPU and serves its exits, until something ends that.

The loop is: fire due timers, wait if the guest sleeps, let the engine run to the next exit or deadline, serve the exit.
A run has parts that know one thing each: how exits are served (`serving.exit_server.ExitServer`), what ends it
(`ending.run_end.RunEnd`), and what becomes of a guest that has nothing to do (`rest.Rest`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from hypervisor.arch.exits import FIRST_ENGINE
from hypervisor.arch.exits import ExitKind as K
from hypervisor.engine.shared_words.scheduling import LOOK_NS
from hypervisor.outcome.result import Reason, RunResult
from hypervisor.run.ending.conditions import Condition
from hypervisor.run.ending.ends import End
from hypervisor.run.ending.run_end import RunEnd
from hypervisor.run.machine import NOBODY
from hypervisor.run.rest import Rest
from hypervisor.run.serving.exit_server import ExitServer
from hypervisor.run.serving.raised import busy_in
from hypervisor.run.sharing.hold import NEVER, Hold
from hypervisor.run.sharing.task import Task
from hypervisor.run.threads.foresight import Foresight
from hypervisor.run.threads.interrupting import Overdue
from hypervisor.units import FOREVER_NS

if TYPE_CHECKING:
    from hypervisor.engine.pcpu import PCpu
    from hypervisor.run.machine import Machine
    from hypervisor.vcpu.processor import Processor

_WINDOW, _DEADLINE = int(K.INTERRUPT_WINDOW), int(K.DEADLINE)


class Runner(Task):
    """What runs a guest on a pCPU, from exit to exit, and what may end that: a whole run (`GuestRun`), or `Steps`."""

    def __init__(self, vm: Machine, until: Condition | None, timeout: float | None, limit: int) -> None:
        """``timeout`` in host seconds, ``limit`` in virtual nanoseconds since the VM's power-on."""
        super().__init__(vm, vm.place)
        self.vm = vm
        self._until = until
        self._limit = limit
        self.ending = RunEnd(vm, timeout, self.busy_in, self._kick)
        self._rest = Rest(vm, self.ending, until, limit, self._waits_no_longer)
        self.exits = ExitServer(vm, self.ending, self._rest)
        self._exact = True
        """Whether the guest stands where its own progress, and not a kick, has brought it."""
        self._asked = self._announced = False
        self._came = not vm.clock.wall
        """Whether virtual time may end the run: that of the wall clock passes, too, while the VM waits for a pCPU, and
        a run in which the guest came to nothing would be the same again the next time.
        """
        self._paced = False
        """Whether it rests because it has run as far as it may."""
        self._foresight = Foresight()
        self._pause = False
        """Whether the guest is left soon, for something that needs no pCPU."""
        self._thread = 0
        self._lost = 0
        """How many pages the host had lost when the run looked for them in its VM."""

    # --- what others want of it ---------------------------------------------------------------------------------------

    def finish(self, reason: Reason, message: str, status: int | None = None) -> None:
        """End the run; the first reason counts. Called on the VM's own thread."""
        self.ending.finish(reason, message, status)

    def finish_from_outside(self, reason: Reason, message: str) -> None:
        """End the run from any thread, at the guest's next block."""
        self.ending.outside = End(reason, message)
        self.look()

    def refuse(self, text: str) -> None:
        """See `Task`."""
        self.ending.outside = End(Reason.HOST_ERROR, text)

    def look(self) -> None:
        """Make the run look at what came from outside; from any thread."""
        self._announced = True
        self._wake()

    def _wake(self) -> None:
        """Have the run look around: at the guest's next block, in the queue for a pCPU, or in its sleep."""
        self._kick()
        self._rest.bell.ring()
        self.vm.host.queue.wake(self.vm.place)

    def ask(self) -> None:
        """Ask the run's condition at the guest's next block. On the VM's own thread, while it runs."""
        self._asked = True
        self._kick()

    def _kick(self) -> None:
        pcpu = self.vm.place.pcpu
        if pcpu is not None:
            pcpu.kick()

    @property
    def here(self) -> bool:
        """Whether this thread executes it: a handler, a device, a condition, or the debugger."""
        return self._thread == threading.get_ident()

    @property
    def stop_requested(self) -> bool:
        """Whether another thread wants the run to end: whoever holds the guest lets it go."""
        return self.ending.outside is not None

    @property
    def finished(self) -> bool:
        """Whether something has ended the run."""
        return self.ending.finished

    def busy_in(self) -> str:
        """Whose code the run executes at the moment, other than the guest's and ours; from any thread."""
        return busy_in(self.vm, self._thread)

    def traps_changed(self) -> None:
        """Handlers have come or gone, in code that the run calls: they hold from the guest's next instruction on."""
        pcpu = self.vm.place.pcpu
        if pcpu is not None:  # else as soon as it is on one
            self.exits.traps_changed(pcpu)

    def alarm_changed(self) -> None:
        """A timer of the wall clock was asked for."""
        self._rest.alarm_changed()

    def hurry(self) -> float:
        """See `Task` and `Term.hurry`."""
        return self.ending.term.hurry(stands=self.stands_still, look=self.look)

    def ask_to_end(self, error: BaseException) -> None:
        """See `Task`."""
        self.end_soon(f"{type(error).__name__} while the guest ran", type(error))

    def end_soon(self, text: str, kind: type[BaseException] = Overdue) -> None:
        """End the run from any thread: the first time this asks, and waits for what holds it up; the second time that
        is ended by an exception of this kind, as it is after a while.
        """
        self.ending.term.ask(kind)
        self._stop(text)

    def end_now(self, text: str) -> None:
        """End the run, and what holds it up, from any thread; it goes on being ended by who waits for the run."""
        self.ending.term.press()
        self._stop(text)
        self.hurry()

    def _stop(self, text: str) -> None:
        if self.ending.outside is None:
            self.finish_from_outside(Reason.STOPPED, text)
        else:
            self.look()

    @property
    def stands_still(self) -> bool:
        """Whether no guest code runs, and no time passes, because of a pause or a debugger."""
        return False

    @property
    def stands(self) -> bool:
        """See `Task`."""
        return False

    @property
    def called_off(self) -> bool:
        """See `Task`."""
        return self.ending.outside is not None

    # --- running ------------------------------------------------------------------------------------------------------

    @contextmanager
    def _executing(self) -> Iterator[None]:
        """The block is executed for the run, by this thread; what does not return in it can be interrupted."""
        vm = self.vm
        self._thread = threading.get_ident()
        vm.in_thread(self._thread)
        try:
            with self.ending.term.guard:
                yield
        except BaseException as error:
            if not self.ending.term.guard.caught(error):
                raise
            self.ending.fail(error)  # that had just returned
        finally:
            vm.in_thread(NOBODY)
            vm.turns.inside = False
            self._thread = 0

    def give_up(self) -> None:
        """Let go of the VM, which others may run then."""
        self._rest.close()
        if self.vm.claimed_by(self):
            self.vm.running(False)
            self.vm.release(self)

    def _reset(self) -> None:
        try:
            self.vm.reset_now()
        except BaseException as error:  # a device's or a plugin's
            self.ending.fail(error)

    def _look_outside(self) -> None:
        self.ending.look_outside(stands_still=self.stands_still)

    def _waits_no_longer(self) -> bool:
        """Whether a run that rests has something else to do."""
        self._look_outside()
        return self.called_off or (self.vm.reset_pending and not self._paced)

    def _turn(self, hold: Hold, pcpu: PCpu) -> None:
        """Run on this pCPU until the run ends or sleeps, or the slice is over that another VM waits for."""
        vm, report, timers, turns = self.vm, pcpu.report, self.vm.clock.timers, self.vm.turns
        ending, exits, rest = self.ending, self.exits, self._rest
        until, virtual, limit = self._until, not self.vm.clock.wall, self._limit
        ask = until is not None and until.after_each_exit
        end_at = ending.term.end_at
        inbox, points, pace = vm.inbox, vm.inbox.points, vm.pace
        by_engine = turns.several and turns.by_engine and pace is None and not points
        by_engine = by_engine and not (until is not None and until.looks_at_guest)
        report.kick = 0
        vm.host.queue.begin(hold)
        room = vm.host.memory
        scarce = room.runs_short
        if scarce:
            room.expect_room()
        while True:
            if scarce:
                self._look_at_memory(pcpu)
            while points and self._arrive(early=True):
                pass
            between = not pcpu.in_block  # else what comes from outside, timers too, comes at the block's end
            if between:
                turns.advance(pcpu)
            else:
                turns.current.position = report.now
            if pace is not None and between and report.now >= pace.horizon_ns and not pace.come(report.now):
                if self._ends_or_pauses() or self._leaves_for_others(hold):
                    return
                continue
            now = turns.time if virtual else vm.clock.hold_back(pcpu)
            try:
                if between:
                    timers.run_due(now)
                    if virtual and turns.time > now:  # a reset: those who lay behind wait to be started
                        continue
                inbox.early = False
                if points and self._arrive(early=False):
                    continue
                if until is not None and self._exact and (between or ask) and self._may_hold(until) and until.holds():
                    ending.finish(Reason.UNTIL, until.text)
                if between and (self._exact or self._announced):
                    self._announced = False
                    # Behind the condition, which may be a script that sends something
                    if inbox.arrived and inbox.enter():
                        if virtual and report.now == vm.clock.now_ns:
                            rest.look_at_spin(report.now)  # as where it is known before, and is a turn's end
                        continue
                    for watch in vm.watchers:
                        watch()
            except BaseException as error:
                ending.fail(error)
            shown = max(now, turns.floor) if virtual else now  # of several vCPUs, as the furthest one has come to
            if shown >= limit and between and self._came and ending.outside is None:
                ending.come(self._virtual_end())
            if ending.outside is not None or (end_at is not None and time.monotonic() >= end_at):
                self._look_outside()
            if ending.end is not None or self._pause:
                return
            if vm.reset_pending:
                self._reset()
                continue
            horizon = FOREVER_NS
            if virtual:
                horizon = (turns.time // LOOK_NS + 1) * LOOK_NS
                earliest = timers.next_ns()
                if earliest is not None and earliest < horizon:
                    horizon = earliest
                turns.leave_at = limit if until is None else min(limit, until.deadline_ns)
            else:
                rest.follow_timers(pcpu, now)
            vcpu = turns.choose(horizon) if between else exits.vcpu
            if vcpu is None:
                self._exact = self._came = True
                rest.sleep(pcpu)
                if rest.leaves(hold):
                    return
                continue
            if vcpu is not exits.vcpu:
                exits.switch(pcpu, vcpu)
            if vcpu.task_gate is not None:
                exits.pass_task_gate(pcpu, vcpu.task_gate)
                continue
            if vcpu.nmi_pending and between and not vcpu.registers.nmi_blocked:
                exits.take_nmi(pcpu)
                continue
            turns.begin(pcpu)
            if not between:
                report.next = report.deadline = report.now
            rest.short = bool(points) and self._cut_short(pcpu)
            if pace is not None and self._cut_at(pcpu, pace.horizon_ns):
                rest.short = True
            turns.look_at = horizon if virtual else turns.time + LOOK_NS
            if hold.wanted or hold.look_at < NEVER:
                self._end_before_long(hold, pcpu)
            if not virtual:
                report.deadline = 0  # the engine looks for timers by the host's clock
            turns.in_engine = by_engine and between
            turns.inside = inbox.early = True
            stood = -1 if self._came else report.now  # a look at it takes a fortieth of an exit
            while True:  # exits that change nothing here go straight back to the guest
                kind = pcpu.run()
                if by_engine:
                    exits.follow(pcpu)
                    vcpu = exits.vcpu
                exits.serve(pcpu, kind)
                if ending.end is not None or vcpu.halted or vm.reset_pending or ask or turns.end == 0:
                    break
                if kind >= FIRST_ENGINE and kind != _WINDOW:  # what was due came before this turn
                    break
                if points and pcpu.in_block and inbox.here:  # where no deadline stops it
                    break
            further = pcpu.complete_deferred()
            if further:
                exits.serve(pcpu, further)
            turns.inside = False
            in_block = pcpu.in_block
            if stood >= 0:
                self._came = kind != _DEADLINE or report.now != stood
            self._exact = kind != _DEADLINE or (
                not in_block and (self._asked or not virtual or report.now >= min(turns.end, turns.leave_at))
            )
            self._asked = self._asked and in_block
            if (rest.asleep or hold.spent) and rest.leaves(hold):
                return

    def _may_hold(self, until: Condition) -> bool:
        """Whether a condition is to be asked: one of time not before it may end the run."""
        return self._came or until.deadline_ns == FOREVER_NS

    def _look_at_memory(self, pcpu: PCpu) -> None:
        """Make room in the host's memory, if there is little; a VM that has lost pages runs no further."""
        room = self.vm.host.memory
        if room.lost != self._lost:
            self._lost = room.lost
            self.ending.look_at_memory()
        room.make_room(0, self.vm.memory, pcpu)

    def _arrive(self, *, early: bool) -> bool:
        """Do what came at once where the guest stands, in a run that is recorded; whether anything did."""
        try:
            return self.vm.inbox.arrive(early=early)
        except BaseException as error:
            self.ending.fail(error)
            return False

    def _cut_short(self, pcpu: PCpu) -> bool:
        """Leave the present turn before its end, if something came at once there; whether it did."""
        point = self.vm.inbox.next_point()
        return point is not None and self._cut_at(pcpu, point)

    @staticmethod
    def _cut_at(pcpu: PCpu, time: int) -> bool:
        """Leave the present turn at this time, without ending it; whether that is before its end."""
        report = pcpu.report
        if time >= report.next:
            return False
        report.next = report.deadline = time
        return True

    def _end_before_long(self, hold: Hold, pcpu: PCpu) -> None:
        """Leave the guest where its slice is over, or somebody may want its pCPU, about: of several vCPUs at the end of
        a turn.
        """
        if time.monotonic() >= hold.look_at:
            self.vm.host.queue.look(hold)  # it is kicked then, if it is to leave
        end = hold.cpu_end if hold.wanted else NEVER
        leave_at = self._foresight.leave_at(hold.began.cpu, end, hold.look_at, pcpu.report.now)
        if not self.vm.turns.several:
            self._cut_at(pcpu, leave_at)
        elif leave_at < self.vm.turns.look_at:
            self.vm.turns.look_at = leave_at

    def _ends_or_pauses(self) -> bool:
        """Whether a guest that has run as far as it may leaves its pCPU for another reason."""
        self._look_outside()
        return self.ending.finished or self._pause

    def _leaves_for_others(self, hold: Hold) -> bool:
        """Rest until other machines have come as far as this one needs; whether it leaves its pCPU. The guest stands as
        behind a kick, and whatever it has asked for waits, too.
        """
        self._paced = self._rest.asleep = True
        try:
            return self._rest.leaves(hold)
        finally:
            self._paced = False

    # --- results and steps --------------------------------------------------------------------------------------------

    def _virtual_end(self) -> End:
        """What it means that `limit` has come."""
        return End(Reason.VIRTUAL_TIMEOUT, "")

    def _result(self, wall_s: float, virtual_s: float) -> RunResult:
        return self.ending.result(wall_s, virtual_s, "" if self._until is None else self._until.text)

    def may_step(self, vcpu: Processor) -> bool:
        """Whether nothing keeps a vCPU from executing an instruction."""
        pace = self.vm.pace
        paced = pace is not None and self.vm.clock.now_ns >= pace.horizon_ns
        return not (self.ending.end or self.ending.outside or paced) and vcpu.activity == "running"

    def steps(self, hold: Hold, count: int, vcpu: Processor) -> int:
        """Steps on a pCPU until the slice is over that another VM waits for; how many."""
        vm, pcpu, done = self.vm, hold.pcpu, 0
        assert pcpu is not None
        if vcpu is not self.exits.vcpu:
            vm.turns.advance(pcpu)
            self.exits.switch(pcpu, vcpu)
        self.exits.on(pcpu)
        vm.host.queue.begin(hold)
        while done < count and not hold.spent and self.may_step(vcpu):
            self._look_at_memory(pcpu)
            if not pcpu.in_block:
                vm.clock.timers.run_due(vm.clock.now_ns)
            done += self._step(pcpu)
            if vm.reset_pending:
                self._reset()
        return done

    def _step(self, pcpu: PCpu) -> int:
        """One instruction, or what comes instead of it; 0 if the engine only looked in."""
        pcpu.report.kick = 0
        pcpu.report.next = FOREVER_NS
        kind = pcpu.step()
        rip = self.exits.vcpu.rip
        self.exits.serve(pcpu, kind)
        self.exits.serve(pcpu, pcpu.complete_deferred())
        waits = kind == K.EXECUTE and self.exits.vcpu.rip == rip  # its handlers were asked; the instruction comes next
        return int(kind != K.DEADLINE and not waits)


__all__ = ["Runner"]
