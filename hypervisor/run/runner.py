"""One run of a VM: place it on a pCPU, run the guest, serve its exits, until something ends it.

The loop is: fire due timers, wait if the guest sleeps, let the engine run to the next exit or deadline, serve the exit.
What an exit means is decided by handlers (`dispatch`), what their verdict does to the processor by `completion`, and
whether a guest that sleeps or spins can ever go on by `ends`.

The file is long because a run has one state: what ends it, what comes from outside and where the guest stands are
looked at together, between two exits and nowhere else.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING

from hypervisor.arch.exits import FIRST_ENGINE, INTERCEPT_BIT
from hypervisor.arch.exits import ExitKind as K
from hypervisor.arch.flags import DR7_ENABLES
from hypervisor.arch.vectors import NMI
from hypervisor.engine.state import GPR
from hypervisor.errors import InternalError
from hypervisor.outcome.result import Reason, RunResult
from hypervisor.run.ending import ends
from hypervisor.run.ending.conditions import Condition
from hypervisor.run.ending.ends import End
from hypervisor.run.ending.idling import idles
from hypervisor.run.ending.outcome_of import result_of
from hypervisor.run.serving import completion
from hypervisor.run.serving.accesses import InPlace
from hypervisor.run.serving.interception import apply
from hypervisor.run.serving.raised import busy_in, tell
from hypervisor.run.serving.records import fill
from hypervisor.run.sharing.runqueue import Hold
from hypervisor.run.threads.alarms import LOOK_IN_S, Alarm, Deadline, Overdue
from hypervisor.run.threads.sleeping import Bell
from hypervisor.traps.verdicts import PASS, Stop
from hypervisor.units import FOREVER_NS, nanoseconds
from hypervisor.vcpu.breakpoints import NONE
from hypervisor.vcpu.operands import OperandFault

if TYPE_CHECKING:
    from hypervisor.engine.pcpu import PCpu
    from hypervisor.run.machine import Machine
    from hypervisor.vcpu.processor import Processor

LOOK_NS = 20_000_000
"""Virtual time after which Python looks in, whatever the guest does: for timeouts, signals and other VMs."""

_MEMORY, _DR_WRITE, _WINDOW = int(K.MEMORY), int(K.DR_WRITE), int(K.INTERRUPT_WINDOW)


class Runner:
    """The state of one call of `VM.run`."""

    def __init__(
        self, vm: Machine, until: Condition | None, timeout: float | None, virtual_timeout: float | None
    ) -> None:
        self.vm = vm
        self._traps = vm.traps
        self.vcpu = vm.current
        self._until = until
        self._timeout = timeout
        self._virtual_timeout = virtual_timeout
        self._end: End | None = None
        self._outside: End | None = None
        self._error: BaseException | None = None
        self.access = InPlace(vm, self, self.vcpu)
        self._alarm: Alarm | None = None
        self._deadline: Deadline | None = None
        self._bell = Bell()
        self._asleep = False
        """Whether it waits for the host, and needs no pCPU."""
        self._exact = True
        """Whether the guest stands where its own progress, and not a kick, has brought it."""
        self._asked = self._announced = False
        self._pause = vm.debugger is not None
        self.paused = False
        """Whether the debugger attends to the VM."""
        self._thread = threading.get_ident()
        self._handlers: dict[int, Callable[[PCpu], None]] = {
            K.DEADLINE: self._looked_in,
            K.INTERRUPT_WINDOW: self._interrupt,
            K.SHUTDOWN: self._shutdown,
            K.TASK_GATE: self._task_gate,
            K.VERDICT: self._in_place_verdict,
            K.FAILED: self._failed,
            K.STEPPED: lambda pcpu: None,
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
        if self.paused and self.vm.debugger is not None:
            self.vm.debugger.wake()

    def look(self) -> None:
        """Make the run look at what came from outside; from any thread."""
        self._announced = True
        self._wake()

    def _wake(self) -> None:
        """Have the run look around: at the guest's next block, in the queue for a pCPU, or in its sleep."""
        pcpu = self.vm.place.pcpu
        if pcpu is not None:
            pcpu.kick()
        else:
            self.vm.host.queue.wake(self.vm.place)
        self._bell.ring()

    def ask(self) -> None:
        """Ask the run's condition at the guest's next block. On the VM's own thread, while it runs."""
        self._asked = True
        self._kick()

    def _kick(self) -> None:
        pcpu = self.vm.place.pcpu
        if pcpu is not None:
            pcpu.kick()

    @property
    def attended(self) -> bool:
        """Whether this is the debugger, between two instructions."""
        return self.paused and self._thread == threading.get_ident() and self.vm.place.pcpu is None

    def pause_soon(self) -> None:
        """Let the debugger attend at the guest's next block; from any thread."""
        self._pause = True
        self.look()

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
        if isinstance(error, Overdue) and self._deadline is not None:
            text = f"{self._timeout:g} s of host time are over, and {self._deadline.ended} had not returned"
            self.finish(Reason.TIMEOUT, text)
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

    # --- running ------------------------------------------------------------------------------------------------------

    def run(self) -> RunResult:
        """Run to the end; see `VM.run`."""
        vm = self.vm
        started = time.monotonic()
        began = vm.clock.now_ns
        end_at = None if self._timeout is None else started + self._timeout
        limit = FOREVER_NS if self._virtual_timeout is None else began + nanoseconds(self._virtual_timeout)
        vm.running(True)
        try:
            with ExitStack() as stack:
                if vm.clock.wall:
                    self._alarm = stack.enter_context(Alarm(vm))
                if self._timeout is not None:
                    self._deadline = stack.enter_context(Deadline(vm.look, self.busy_in, self._timeout))
                if self._until is not None:
                    stack.enter_context(self._until)
                while self._end is None:
                    if self._pause:
                        paused_s = self._attend(None)
                        end_at = None if end_at is None else end_at + paused_s
                    with vm.place.entered(self._called_off, end_at) as hold:
                        if hold.pcpu is not None:
                            apply(vm, hold.pcpu)
                            hold.pcpu.on_access(self.access)
                            if self._alarm is not None:
                                self._alarm.entered()
                            self._turn(hold, hold.pcpu, end_at, limit)
                    self._look_outside(end_at)
                    if self._asleep:
                        self._asleep = False
                        self._wait_for_host(end_at, None)
                vm.place.collect_loaded()
                if vm.debugger is not None and self._outside is None:
                    self._attend((self._end.reason, self._end.message))
        except Overdue as error:  # it had just returned
            self.fail(error)
        finally:
            vm.running(False)
            vm.turns.inside = False
            self._alarm = None
        if isinstance(self._error, (KeyboardInterrupt, SystemExit)):
            raise self._error
        return self._result(time.monotonic() - started, (vm.clock.now_ns - began) / 1e9)

    def _attend(self, ended: tuple[Reason, str] | None) -> float:
        """Let the debugger have the VM; how long it had it, in host seconds."""
        vm, since = self.vm, time.monotonic()
        self._pause = False
        if vm.debugger is None:
            return 0.0
        vm.running(False)
        vm.place.collect_loaded()
        vm.clock.stop()
        self.paused = True
        try:
            vm.debugger.attend(ended)
        except BaseException as error:
            self.fail(error)
        finally:
            self.paused = False
            vm.clock.go()
            vm.running(True)
        self.access = InPlace(vm, self, self.vcpu)  # handlers may have come and gone
        return time.monotonic() - since

    def _called_off(self) -> bool:
        """Whether the run has something else to do than to wait for a pCPU."""
        return self._outside is not None or self._pause

    def _reset(self) -> None:
        try:
            self.vm.reset_now()
        except BaseException as error:  # a device's or a plugin's
            self.fail(error)

    def _look_outside(self, end_at: float | None) -> None:
        """End the run if the host wants it, or the time is over."""
        if self._outside is not None and self._end is None:
            self._end = self._outside
        if end_at is not None and time.monotonic() >= end_at:
            self.finish(Reason.TIMEOUT, f"{self._timeout:g} s of host time are over")

    def _turn(self, hold: Hold, pcpu: PCpu, end_at: float | None, limit: int) -> None:
        """Run on this pCPU until the run ends or sleeps, or the slice is over that another VM waits for."""
        vm, report, timers, turns = self.vm, pcpu.report, self.vm.clock.timers, self.vm.turns
        until, virtual = self._until, not self.vm.clock.wall
        ask = until is not None and until.after_each_exit
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
                if self._exact and (between or ask) and until is not None and until.holds():
                    self.finish(Reason.UNTIL, until.text)
                if between and (self._exact or self._announced):
                    self._announced = False
                    for poll in vm.inputs:  # behind the condition, which may be a script that sends something
                        poll()
            except BaseException as error:
                self.fail(error)
            if now >= limit and between and self._outside is None:
                self.finish(Reason.VIRTUAL_TIMEOUT, f"{self._virtual_timeout} s of guest time are over")
            if end_at is not None or self._outside is not None:
                self._look_outside(end_at)
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
                horizon = min(horizon, limit)
                if until is not None:
                    horizon = min(horizon, until.deadline_ns)
            else:
                vm.clock.due_changed(pcpu)
            vcpu = turns.choose(horizon) if between else self.vcpu
            if vcpu is None:
                self._exact = True
                self._sleep(pcpu, limit)
                if self._asleep and self._rests(hold, end_at):
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
            turns.inside = True
            while True:  # exits that change nothing here go straight back to the guest
                kind = pcpu.run()
                self.serve(pcpu, kind)
                if self._end is not None or vcpu.halted or vm.reset_pending or ask:
                    break
                if kind >= FIRST_ENGINE and kind != _WINDOW:  # what was due came before this turn
                    break
            self.serve(pcpu, pcpu.complete_deferred())
            turns.inside = False
            in_block = pcpu.in_block
            self._exact = kind != K.DEADLINE or (
                not in_block and (self._asked or not virtual or report.now >= turns.end)
            )
            self._asked = self._asked and in_block
            if self._asleep and self._rests(hold, end_at):
                self._asleep = False
            if self._asleep or hold.over:
                return

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
        controller = self.vcpu.interrupt_controller
        if controller is None:
            self.vcpu.intr.lower()
            return
        vector = controller.acknowledge()
        pcpu.happened(K.INTERRUPT)
        exit = self.vcpu.exit = self.vcpu.exits[K.INTERRUPT].begin(K.INTERRUPT, self.vcpu.rip, 0)
        exit.vector = vector
        dispatch = self._traps.dispatch
        verdict = dispatch.decide(self.vcpu, exit)
        if isinstance(verdict, Stop):
            self.stop(verdict)
            verdict = PASS  # it has been acknowledged, so it is delivered before the run ends
        dispatch.decided(self.vcpu, exit)
        self.serve(pcpu, completion.finish(pcpu, self.vcpu, exit, verdict))

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
        pcpu.intercept(INTERCEPT_BIT[K.IRET], True)
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

    def _rests(self, hold: Hold, end_at: float | None) -> bool:
        """Sleep on the pCPU, which nobody else wants; False when somebody does, or comes."""
        queue = self.vm.host.queue
        if not queue.rest(hold, self._bell.ring):
            return False
        try:
            self._wait_for_host(end_at, hold)
        finally:
            keeps = queue.resume(hold)
        return keeps

    def _wait_for_host(self, end_at: float | None, hold: Hold | None) -> None:
        """Sleep until a timer of the wall clock is due, something comes from outside, or ``hold`` is over."""
        clock, until = self.vm.clock, self._until
        asked_at = FOREVER_NS if until is None else until.deadline_ns
        about_host = until is not None and until.after_each_exit  # a user's function, which may be about anything
        if clock.wall and (due := clock.timers.next_ns()) is not None:
            clock.make_up(min(asked_at, due) - clock.unseen_ns, self.vm.place.loaded)
        while not (self._end or self._called_off() or self.vm.reset_pending or (hold is not None and hold.over)):
            seconds = LOOK_IN_S
            if clock.wall:
                due = clock.timers.next_ns()
                left = (min(asked_at, FOREVER_NS if due is None else due) - clock.unseen_ns) / 1e9
                if left <= 0:
                    return
                seconds = min(seconds, left)
            if end_at is not None:
                seconds = min(seconds, end_at - time.monotonic())
            if self._bell.sleep(seconds) or about_host:
                return
            self._look_outside(end_at)

    # --- results and steps --------------------------------------------------------------------------------------------

    def _result(self, wall_s: float, virtual_s: float) -> RunResult:
        end = self._end or End(Reason.STOPPED, "")
        until = "" if self._until is None else self._until.text
        return result_of(self.vm, end, self._error, wall_s, virtual_s, until)

    def step(self, count: int, vcpu: Processor) -> int:
        """See `Vcpu.step`."""
        done = self._steps(count, vcpu)
        if self._end is not None:
            self.vm.result = self._result(0.0, 0.0)
        if self._error is not None:
            raise self._error
        return done

    def step_paused(self, count: int, vcpu: Processor) -> int:
        """See `Vcpu.step`, while the debugger attends: what ends the VM ends the run then."""
        self.vm.clock.go()
        self.access = InPlace(self.vm, self, self.vcpu)
        try:
            return self._steps(count, vcpu)
        finally:
            self.vm.clock.stop()

    def _steps(self, count: int, vcpu: Processor) -> int:
        vm = self.vm
        vm.running(True)
        done = 0
        try:
            while done < count and not (self._end or self._outside) and vcpu.activity == "running":
                with vm.place.entered(lambda: self._outside is not None) as hold:
                    if hold.pcpu is not None:
                        done += self._some_steps(hold, hold.pcpu, count - done, vcpu)
            vm.place.collect_loaded()
        finally:
            vm.running(False)
        return done

    def _some_steps(self, hold: Hold, pcpu: PCpu, count: int, vcpu: Processor) -> int:
        """Steps until the slice is over that another VM waits for; how many."""
        vm, done = self.vm, 0
        if vcpu is not self.vcpu:
            vm.turns.advance(pcpu)
            self._switch(pcpu, vcpu)
        apply(vm, pcpu)
        pcpu.on_access(self.access)
        vm.host.queue.begin(hold)
        while done < count and not (self._end or self._outside or hold.over) and vcpu.activity == "running":
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


__all__ = ["LOOK_NS", "Runner"]
