"""What runs a guest on a pCPU and serves its exits, until something ends that.

The loop is: fire due timers, wait if the guest sleeps, let the engine run to the next exit or deadline, serve the exit.
What an exit means is decided by handlers (`dispatch`), what their verdict does to the processor by `completion`, and
whether a guest that sleeps or spins can ever go on by `ends`.

The file is long because a run has one state: what ends it, what comes from outside and where the guest stands are
looked at together, between two exits and nowhere else.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from hypervisor.arch.exits import FIRST_ENGINE, INTERCEPT_BIT
from hypervisor.arch.exits import ExitKind as K
from hypervisor.arch.flags import DR7_ENABLES
from hypervisor.arch.vectors import NMI
from hypervisor.engine.report import OUT_OF_FRAMES
from hypervisor.engine.scheduling import LOOK_NS
from hypervisor.engine.state import GPR
from hypervisor.errors import InternalError
from hypervisor.outcome.result import Reason, RunResult
from hypervisor.run.ending import ends
from hypervisor.run.ending.conditions import Condition
from hypervisor.run.ending.ends import End
from hypervisor.run.ending.idling import idles
from hypervisor.run.ending.outcome_of import result_of
from hypervisor.run.ending.term import Term
from hypervisor.run.machine import NOBODY
from hypervisor.run.serving import completion
from hypervisor.run.serving.accesses import InPlace
from hypervisor.run.serving.interception import apply
from hypervisor.run.serving.raised import busy_in, tell
from hypervisor.run.serving.records import fill
from hypervisor.run.sharing.hold import Hold
from hypervisor.run.sharing.task import Task
from hypervisor.run.threads.alarms import LOOK_IN_S, WallAlarm
from hypervisor.run.threads.interrupting import Overdue
from hypervisor.run.threads.sleeping import Bell
from hypervisor.traps.verdicts import PASS, Stop
from hypervisor.units import FOREVER_NS
from hypervisor.vcpu.breakpoints import NONE
from hypervisor.vcpu.operands import OperandFault

if TYPE_CHECKING:
    from hypervisor.engine.pcpu import PCpu
    from hypervisor.run.machine import Machine
    from hypervisor.vcpu.processor import Processor

_MEMORY, _DR_WRITE, _WINDOW, _DEADLINE = int(K.MEMORY), int(K.DR_WRITE), int(K.INTERRUPT_WINDOW), int(K.DEADLINE)
_INTERRUPT = K.INTERRUPT


class Runner(Task):
    """What runs a guest on a pCPU, from exit to exit, and what may end that: a whole run (`GuestRun`), or `Steps`."""

    def __init__(self, vm: Machine, until: Condition | None, timeout: float | None, limit: int) -> None:
        """``timeout`` in host seconds, ``limit`` in virtual nanoseconds since the VM's power-on."""
        super().__init__(vm, vm.place)
        self.vm = vm
        self._traps = vm.traps
        self.vcpu = vm.current
        self._until = until
        self._limit = limit
        self._term = Term(timeout, self.busy_in)
        self._end: End | None = None
        self._outside: End | None = None
        self._error: BaseException | None = None
        self.access = InPlace(vm, self, self.vcpu)
        self._alarm = WallAlarm(vm) if vm.clock.wall else None
        self._bell = Bell()
        self._asleep = False
        """Whether it waits for the host, and needs no pCPU."""
        self._exact = True
        """Whether the guest stands where its own progress, and not a kick, has brought it."""
        self._asked = self._announced = False
        self._pause = False
        """Whether the guest is left soon, for something that needs no pCPU."""
        self._thread = 0
        self._handlers: dict[int, Callable[[PCpu], None]] = {
            K.DEADLINE: self._looked_in,
            K.INTERRUPT_WINDOW: self._interrupt,
            K.SHUTDOWN: self._shutdown,
            K.TASK_GATE: self._task_gate,
            K.VERDICT: self._in_place_verdict,
            K.FAILED: self._failed,
            K.STEPPED: lambda pcpu: None,
            K.TURN_OVER: lambda pcpu: None,
            K.SPINNING: self._spun,
            K.RAISED: self._raised,
            K.IDLING: self._idle,
        }

    # --- ending -------------------------------------------------------------------------------------------------------

    def finish(self, reason: Reason, message: str, status: int | None = None) -> None:
        """End the run; the first reason counts. Called on the VM's own thread."""
        self._finish(End(reason, message, status))

    def _finish(self, end: End) -> None:
        if self._end is None:
            self._end = end
            self._kick()

    def stop(self, verdict: Stop) -> None:
        """End the run as a handler wants it."""
        self.finish(Reason.CRASHED if verdict.crashed else Reason.STOPPED, verdict.reason)

    def finish_from_outside(self, reason: Reason, message: str) -> None:
        """End the run from any thread, at the guest's next block."""
        self._outside = End(reason, message)
        self.look()

    def refuse(self, text: str) -> None:
        """See `Task`."""
        self._outside = End(Reason.HOST_ERROR, text)

    def look(self) -> None:
        """Make the run look at what came from outside; from any thread."""
        self._announced = True
        self._wake()

    def _wake(self) -> None:
        """Have the run look around: at the guest's next block, in the queue for a pCPU, or in its sleep."""
        self._kick()
        self._bell.ring()
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
        return self._outside is not None

    @property
    def finished(self) -> bool:
        """Whether something has ended the run."""
        return self._end is not None

    def fail(self, error: BaseException) -> None:
        """A handler or a device raised."""
        if self._term.guard.caught(error):
            self._finish(self._term.held_up(self._outside or self._term.end()))
            return
        if self._error is None:
            if isinstance(error, MemoryError):
                self._error = error
                self.finish(Reason.HOST_ERROR, "the host has no memory left for what the guest asked for.")
                return
            text = tell(self.vm, error)  # which fails where the stack is at its end
            self._error = error
            self.finish(Reason.HOST_ERROR, text)

    def busy_in(self) -> str:
        """Whose code the run executes at the moment, other than the guest's and ours; from any thread."""
        return busy_in(self.vm, self._thread)

    def alarm_changed(self) -> None:
        """A timer of the wall clock was asked for."""
        if self._alarm is not None:
            self._alarm.wake()

    def hurry(self) -> float:
        """See `Task` and `Term.hurry`."""
        return self._term.hurry(stands=self.stands_still, look=self.look)

    def ask_to_end(self, error: BaseException) -> None:
        """See `Task`."""
        self.end_soon(f"{type(error).__name__} while the guest ran", type(error))

    def end_soon(self, text: str, kind: type[BaseException] = Overdue) -> None:
        """End the run from any thread: the first time this asks, and waits for what holds it up; the second time that
        is ended by an exception of this kind, as it is after a while.
        """
        self._term.ask(kind)
        self._stop(text)

    def end_now(self, text: str) -> None:
        """End the run, and what holds it up, from any thread; it goes on being ended by who waits for the run."""
        self._term.press()
        self._stop(text)
        self.hurry()

    def _stop(self, text: str) -> None:
        if self._outside is None:
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
        return self._outside is not None

    # --- running ------------------------------------------------------------------------------------------------------

    @contextmanager
    def _executing(self) -> Iterator[None]:
        """The block is executed for the run, by this thread; what does not return in it can be interrupted."""
        vm = self.vm
        self._thread = threading.get_ident()
        vm.in_thread(self._thread)
        try:
            with self._term.guard:
                yield
        except BaseException as error:
            if not self._term.guard.caught(error):
                raise
            self.fail(error)  # that had just returned
        finally:
            vm.in_thread(NOBODY)
            vm.turns.inside = False
            self._thread = 0

    def give_up(self) -> None:
        """Let go of the VM, which others may run then."""
        if self._alarm is not None:
            self._alarm.close()
            self._alarm = None
        if self.vm.claimed_by(self):
            self.vm.running(False)
            self.vm.release(self)

    def _reset(self) -> None:
        try:
            self.vm.reset_now()
        except BaseException as error:  # a device's or a plugin's
            self.fail(error)

    def _look_outside(self) -> None:
        """End the run if the host wants it, or the time is over."""
        if self._outside is not None and self._end is None:
            self._end = self._outside
        if self._term.over and not self.stands_still:
            self._finish(self._term.end())

    def _turn(self, hold: Hold, pcpu: PCpu) -> None:
        """Run on this pCPU until the run ends or sleeps, or the slice is over that another VM waits for."""
        vm, report, timers, turns = self.vm, pcpu.report, self.vm.clock.timers, self.vm.turns
        until, virtual, limit = self._until, not self.vm.clock.wall, self._limit
        ask = until is not None and until.after_each_exit
        end_at = self._term.end_at
        by_engine = turns.several and turns.by_engine and not (until is not None and until.looks_at_guest)
        report.kick = 0
        vm.host.queue.begin(hold)
        while True:
            between = not pcpu.in_block  # else what comes from outside, timers too, comes at the block's end
            if between:
                turns.advance(pcpu)
            else:
                turns.current.position = report.now
            now = turns.time if virtual else vm.clock.hold_back(pcpu)
            try:
                if between:
                    timers.run_due(now)
                if until is not None and self._exact and (between or ask) and until.holds():
                    self.finish(Reason.UNTIL, until.text)
                if between and (self._exact or self._announced):
                    self._announced = False
                    if vm.inbox.enter():  # behind the condition, which may be a script that sends something
                        continue
                    for watch in vm.watchers:
                        watch()
            except BaseException as error:
                self.fail(error)
            if now >= limit and between and self._outside is None:
                self._finish(self._virtual_end())
            if self._outside is not None or (end_at is not None and time.monotonic() >= end_at):
                self._look_outside()
            if self._end is not None or self._pause:
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
                if limit < horizon:
                    horizon = limit
                if until is not None and until.deadline_ns < horizon:
                    horizon = until.deadline_ns
            else:
                vm.clock.due_changed(pcpu)
                if self._alarm is not None:
                    self._alarm.follow()
            vcpu = turns.choose(horizon) if between else self.vcpu
            if vcpu is None:
                self._exact = True
                self._sleep(pcpu, limit)
                if self._asleep and self._rests(hold):
                    self._asleep = False
                if self._asleep or hold.over:
                    return
                continue
            if vcpu is not self.vcpu:
                self._switch(pcpu, vcpu)
            if vcpu.task_gate is not None:
                report.w_vector, report.w_error, report.w_level = vcpu.task_gate
                vcpu.task_gate = None
                self.serve(pcpu, int(K.TASK_GATE))
                continue
            if vcpu.nmi_pending and between and not vcpu.registers.nmi_blocked:
                if vcpu.registers.interrupt_shadow:
                    self._leave_shadow(pcpu)
                else:
                    self._take_nmi(pcpu)
                continue
            turns.begin(pcpu)
            if not between:
                report.next = report.deadline = report.now
            turns.look_at = horizon if virtual else turns.time + LOOK_NS
            turns.in_engine = by_engine and between
            turns.inside = True
            while True:  # exits that change nothing here go straight back to the guest
                kind = pcpu.run()
                if by_engine:
                    self.follow(pcpu)
                    vcpu = self.vcpu
                self.serve(pcpu, kind)
                if self._end is not None or vcpu.halted or vm.reset_pending or ask:
                    break
                if kind >= FIRST_ENGINE and kind != _WINDOW:  # what was due came before this turn
                    break
            self.serve(pcpu, pcpu.complete_deferred())
            turns.inside = False
            in_block = pcpu.in_block
            self._exact = kind != _DEADLINE or (
                not in_block and (self._asked or not virtual or report.now >= turns.end)
            )
            self._asked = self._asked and in_block
            if self._asleep and self._rests(hold):
                self._asleep = False
            if self._asleep or hold.over:
                return

    def follow(self, pcpu: PCpu) -> None:
        """The engine may have given turns: serve the vCPU whose turn it is now."""
        vcpu = self.vm.turns.follow(pcpu)
        if vcpu is not self.vcpu:
            self.vcpu = vcpu
            self.access.select(vcpu)

    def _switch(self, pcpu: PCpu, vcpu: Processor) -> None:
        """Another vCPU has its turn."""
        self.vm.turns.enter(pcpu, vcpu)
        self.vcpu = vcpu
        self.access.select(vcpu)
        if self.vm.breakpoints is not NONE or vcpu.registers.get("dr7") & DR7_ENABLES:
            apply(self.vm, pcpu)

    def serve(self, pcpu: PCpu, kind: int) -> None:
        """Serve an exit, and whatever serving it causes."""
        while kind:
            try:
                handler = self._handlers.get(kind)
                if handler is not None:
                    handler(pcpu)
                    return
                kind = self._exit(pcpu, kind)
            except BaseException as error:  # whatever a handler raises ends this VM, and only this VM
                self.fail(error)
                return

    def _exit(self, pcpu: PCpu, kind: int) -> int:
        """An exit that handlers may decide; the kind of a further exit, or 0."""
        vcpu, dispatch = self.vcpu, self._traps.dispatch
        try:
            exit = fill(vcpu, pcpu, kind)
            verdict = dispatch.decide(vcpu, exit)
            if isinstance(verdict, Stop):
                self.stop(verdict)
            elif kind in dispatch.shown:
                dispatch.decided(vcpu, exit)
            if kind == _MEMORY:
                return self.access.finish_fetch(pcpu, verdict)
            further = completion.finish(pcpu, vcpu, exit, verdict)
        except OperandFault as fault:
            vcpu.set("cr2", fault.address)
            return pcpu.exception(fault.vector, fault.error)
        if kind == _DR_WRITE:
            apply(self.vm, pcpu)  # a breakpoint may have been armed
        return further

    # --- engine exits -------------------------------------------------------------------------------------------------

    def _looked_in(self, pcpu: PCpu) -> None:
        report = pcpu.report
        report.kick = 0
        if not (self.vm.clock.wall or report.now >= report.next) or self.vm.reset_pending:
            return
        if self.vm.turns.several and report.now < self.vcpu.looked_at + LOOK_NS:
            return  # turns are shorter than what this is worth
        self.vcpu.looked_at = report.now
        end = ends.of_spin(self.vm)
        if end is not None:
            self._finish(end)

    def _idle(self, pcpu: PCpu) -> None:
        """By the wall clock, the vCPU does nothing until an event comes: rest, unless another one has work."""
        end = ends.of_spin(self.vm)
        if end is not None:
            self._finish(end)
        elif self.vm.turns.rest():
            self._asleep = True
        else:
            self.vm.turns.skip(pcpu)

    def _spun(self, pcpu: PCpu) -> None:
        """Several PAUSEs: another vCPU's turn. By the wall clock, rest once all are in loops that do nothing else."""
        turns = self.vm.turns
        turns.give_way(pcpu)
        if self._alarm is not None and turns.all_spin and idles(self.vcpu):
            self._asleep = turns.rest()

    def _interrupt(self, pcpu: PCpu) -> None:
        if not self.vcpu.intr.level:  # the guest took it back with interrupts off, and the engine noticed only the rise
            return
        vcpu = self.vcpu
        controller = vcpu.interrupt_controller
        if controller is None:
            vcpu.intr.lower()
            return
        vector = controller.acknowledge()
        pcpu.happened(_INTERRUPT)
        exit = vcpu.exit = vcpu.exits[_INTERRUPT]
        exit.rip, exit.known_length, exit.vector = vcpu.registers.rip, 0, vector
        dispatch = self._traps.dispatch
        verdict = dispatch.decide(vcpu, exit)
        if isinstance(verdict, Stop):
            self.stop(verdict)
            verdict = PASS  # it has been acknowledged, so it is delivered before the run ends
        dispatch.decided(vcpu, exit)
        self.serve(pcpu, completion.finish(pcpu, vcpu, exit, verdict))

    def _leave_shadow(self, pcpu: PCpu) -> None:
        """Run the instruction behind STI or a load of SS, which an NMI waits for as other interrupts do: between SS and
        SP there is no stack (APM volume 3, MOV and POP; SDM volume 3A, 6.8.3; behind STI it may, as AMD has it, wait).
        """
        turns = self.vm.turns
        turns.begin(pcpu)
        turns.inside = True
        self.serve(pcpu, pcpu.step())
        self.serve(pcpu, pcpu.complete_deferred())
        turns.inside = False

    def _take_nmi(self, pcpu: PCpu) -> None:
        """Deliver an NMI; further ones wait until IRET, which is trapped for that (APM volume 2, 8.2.3)."""
        self.vcpu.nmi_pending = False
        self.vcpu.halted = False
        self.vcpu.registers.nmi_blocked = True
        self.vm.tell("int", "NMI", self.vcpu)
        pcpu.trapping.intercept(INTERCEPT_BIT[K.IRET], True)
        self.serve(pcpu, completion.deliver(pcpu, self.vcpu, NMI, None))

    def _shutdown(self, pcpu: PCpu) -> None:
        self._finish(ends.of_shutdown(self.vm, pcpu))

    def _task_gate(self, pcpu: PCpu) -> None:
        """Switch to another task, as an event's task gate or an instruction asks for.

        The switch may end in another event with a task gate, and so on for ever, without an instruction in between:
        that one waits for the next turn, so that the run looks at its end before each.
        """
        from hypervisor.engine.task_switch import perform

        report = pcpu.report
        further = perform(pcpu, report.w_vector, report.w_error, report.w_level)
        if further == K.TASK_GATE:
            self.vcpu.task_gate = report.w_vector, report.w_error, report.w_level
        else:
            self.serve(pcpu, further)

    def _in_place_verdict(self, pcpu: PCpu) -> None:
        self.serve(pcpu, self.access.finish(pcpu))

    def _raised(self, pcpu: PCpu) -> None:
        """A compiled handler raised an exception: find out which."""
        report = pcpu.report
        number, first, second, value = report.info_0, report.info_1, report.info_2, report.info_3
        handler = self.vm.traps.compiled()[number - 1]
        assert handler.compiled is not None
        handler.compiled.again([self.vcpu.get(name) for name in GPR], first, second, value)

    def _failed(self, pcpu: PCpu) -> None:
        code = pcpu.report.info_0
        if code == OUT_OF_FRAMES:
            self.finish(Reason.STOPPED, "the host has no frame left for what the guest stores; close a VM")
            return
        if code < 0:
            self._finish(ends.of_impossible_state(self.vm))
            return
        raise InternalError(
            f"the CPU emulator gave up at RIP {self.vcpu.rip:#x} (code {code}). "
            "Please report this with the guest's image."
        )

    # --- sleeping -----------------------------------------------------------------------------------------------------

    def _sleep(self, pcpu: PCpu, limit: int) -> None:
        """No vCPU is awake: move the time to when one may be, leave the pCPU until then, or end the run."""
        vm = self.vm
        end = ends.of_sleep(vm)
        if end is not None:
            self._finish(end)
            return
        earliest = vm.clock.timers.next_ns()
        if vm.clock.wall or earliest is None:  # only the host can wake it
            self._asleep = True
            return
        target = min(earliest, limit)
        if self._until is not None:
            target = min(target, self._until.deadline_ns)
        vm.turns.sleep_until(pcpu, target)

    def _rests(self, hold: Hold) -> bool:
        """Sleep on the pCPU, which nobody else wants; False when somebody does, or comes."""
        queue = self.vm.host.queue
        if not queue.rest(hold, self._bell.ring):
            return False
        if self._alarm is not None:
            self._alarm.left()  # it wakes at that time by itself
        try:
            self._wait_for_host(hold)
        finally:
            keeps = queue.resume(hold)
        if self._alarm is not None:
            self._alarm.entered()
        return keeps

    def _wait_for_host(self, hold: Hold) -> None:
        """Sleep on the pCPU until a timer of the wall clock is due, something comes, or ``hold`` is over."""
        wake_at = self._due_at()
        about_host = self._until is not None and self._until.after_each_exit
        while not (self._end or self.called_off or self.vm.reset_pending or hold.over):
            now, seconds = time.monotonic(), LOOK_IN_S
            if self.vm.clock.wall and wake_at is not None:
                if wake_at <= now:
                    return
                seconds = min(seconds, wake_at - now)
            if self._term.end_at is not None:
                seconds = min(seconds, self._term.end_at - now)
            if self._bell.sleep(seconds) or about_host:
                return
            self._look_outside()

    def _due_at(self) -> float | None:
        """When a run that waits for the host has something to do by itself, of time.monotonic; None for never."""
        clock, until = self.vm.clock, self._until
        about_host = until is not None and until.after_each_exit  # a user's function, which may be about anything
        left = LOOK_IN_S if about_host else None
        if clock.wall:
            due = clock.timers.next_ns()
            asked_at = FOREVER_NS if until is None else until.deadline_ns
            if due is not None:
                clock.make_up(min(asked_at, due) - clock.unseen_ns, self.vm.place.loaded)
            first = min(asked_at, FOREVER_NS if due is None else due)
            if first < FOREVER_NS:
                until_due = (first - clock.unseen_ns) / 1e9
                left = until_due if left is None else min(left, until_due)
        return None if left is None else time.monotonic() + left

    # --- results and steps --------------------------------------------------------------------------------------------

    def _virtual_end(self) -> End:
        """What it means that `limit` has come."""
        return End(Reason.VIRTUAL_TIMEOUT, "")

    def _result(self, wall_s: float, virtual_s: float) -> RunResult:
        end = self._end or End(Reason.STOPPED, "")
        until = "" if self._until is None else self._until.text
        return result_of(self.vm, end, self._error, wall_s, virtual_s, until)

    def may_step(self, vcpu: Processor) -> bool:
        """Whether nothing keeps a vCPU from executing an instruction."""
        return not (self._end or self._outside) and vcpu.activity == "running"

    def steps(self, hold: Hold, count: int, vcpu: Processor) -> int:
        """Steps on a pCPU until the slice is over that another VM waits for; how many."""
        vm, pcpu, done = self.vm, hold.pcpu, 0
        assert pcpu is not None
        if vcpu is not self.vcpu:
            vm.turns.advance(pcpu)
            self._switch(pcpu, vcpu)
        apply(vm, pcpu)
        pcpu.on_access(self.access)
        vm.host.queue.begin(hold)
        while done < count and not hold.over and self.may_step(vcpu):
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
        rip = self.vcpu.rip
        self.serve(pcpu, kind)
        self.serve(pcpu, pcpu.complete_deferred())
        waits = kind == K.EXECUTE and self.vcpu.rip == rip  # its handlers were asked; the instruction comes next
        return int(kind != K.DEADLINE and not waits)


__all__ = ["Runner"]
