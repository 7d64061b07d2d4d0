"""A whole run of a VM, slice by slice: its beginning, pauses, the debugger's part, and its end."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from hypervisor.outcome.result import Reason, RunResult
from hypervisor.run.ending.conditions import Condition
from hypervisor.run.ending.ends import End
from hypervisor.run.observing.host_events import What
from hypervisor.run.pausing import Pause
from hypervisor.run.runner import Runner
from hypervisor.run.serving.exit_server import ExitServer
from hypervisor.run.sharing.hold import Hold
from hypervisor.run.sharing.task import Next
from hypervisor.units import FOREVER_NS, nanoseconds

if TYPE_CHECKING:
    from hypervisor.run.machine import Machine
    from hypervisor.vcpu.processor import Processor


class GuestRun(Runner):
    """The state of one call of `VM.run` or `VM.start`."""

    def __init__(
        self, vm: Machine, until: Condition | None, timeout: float | None, virtual_timeout: float | None
    ) -> None:
        """``timeout`` in host seconds, ``virtual_timeout`` in those of the VM's clock."""
        self._began_s, self._began_ns = time.monotonic(), vm.clock.now_ns
        self._virtual_timeout = virtual_timeout
        limit = FOREVER_NS if virtual_timeout is None else self._began_ns + nanoseconds(virtual_timeout)
        super().__init__(vm, until, timeout, limit)
        self._opened = self._closed = self._told = False
        self.result: RunResult | None = None
        """How it ended."""
        self.in_background = False
        """Whether who began it does not wait for it."""
        self._attention = self._pause = vm.debugger is not None
        """Whether the debugger is to attend."""
        self.paused = False
        """Whether it does."""
        self._standing = Pause()

    # --- on a pCPU, and without one -----------------------------------------------------------------------------------

    def slice(self, hold: Hold) -> Next:
        """Run on a pCPU until the run ends, rests or stands still, or the slice is over."""
        vm, pcpu = self.vm, hold.pcpu
        assert pcpu is not None
        self._open()
        self._continue(unless_wanted=True)
        if self.stands:
            return Next.RESTS
        with vm.place.on(pcpu):
            with self._executing():
                self.exits.on(pcpu)
                self._rest.entered()
                self._foresight.begin(pcpu.report.now)
                self._turn(hold, pcpu)
                self._foresight.look(hold.began.cpu, pcpu.report.now)
                self._look_outside()
            if self.ending.end is not None and vm.debugger is None:
                return self._close()  # here: its report looks at the VM, which is on this pCPU
        return self._following()

    def apart(self) -> Next:
        """The debugger's part, and the end of a run that has no pCPU."""
        self._open()
        with self._executing():
            self._look_outside()
            while self.ending.end is None and self._attention:
                self._pause = self._attention = False
                self._attend(None)
                self._look_outside()
            if self.ending.end is not None and self.ending.outside is None:
                self._attend((self.ending.end.reason, self.ending.end.message))
        return self._following() if self.ending.end is None else self._close()

    def _open(self) -> None:
        """Before any of it is executed."""
        if self._opened:
            return
        if self._until is not None:
            self._until.__enter__()
        self._opened = True
        self._tell(What.STARTED)

    def _tell(self, what: What, reason: Reason | None = None, message: str = "") -> None:
        """Let those know who watch the host."""
        self.vm.host.telling.tell(what, self.vm.name, self.vm.clock.now_ns, reason, message)

    def _tell_end(self) -> None:
        self._told = True
        end = self.ending.end
        if end is not None:
            self._tell(What.CRASHED if end.reason is Reason.CRASHED else What.STOPPED, end.reason, end.message)
        else:
            self._tell(What.STOPPED, Reason.HOST_ERROR, f"the run failed: {self.error!r}")

    def _following(self) -> Next:
        """What the run wants when it leaves its pCPU, or has been apart."""
        self._pause = False
        asleep, self._rest.asleep = self._rest.asleep, False  # whoever has the VM in between may wake it
        if self.ending.end is not None or self._wants_debugger:
            return Next.APART
        if self._standing.wanted:
            self._stand()
            return Next.RESTS
        if asleep:
            self.wake_at = self._rest.due_at()
            return Next.RESTS
        return Next.READY

    def _close(self) -> Next:
        """It has ended: make the result, and let go of the VM."""
        try:
            self.vm.place.collect_loaded()
            self._continue()
            self._leave()
            if isinstance(self.ending.error, (KeyboardInterrupt, SystemExit)):
                self.error = self.ending.error
            else:
                wall_s, virtual_s = time.monotonic() - self._began_s, (self.vm.clock.now_ns - self._began_ns) / 1e9
                self.vm.result = self.result = self._result(wall_s, virtual_s)
                if self.vm.pace is not None:
                    self.vm.pace.over(self.result.reason)
        finally:
            self.give_up()
        return Next.OVER

    def _leave(self) -> None:
        """Handlers may be registered again, and what was awaited is so no longer."""
        if self._opened and not self._closed and self._until is not None:
            self._until.__exit__(None, None, None)
        self._closed = True
        self.vm.running(False)

    def give_up(self) -> None:
        """Let go of the VM, which others may run then."""
        if self._opened:
            self._leave()
            if not self._told:
                self._tell_end()
        self._standing.over()
        super().give_up()

    def _virtual_end(self) -> End:
        return End(Reason.VIRTUAL_TIMEOUT, f"{self._virtual_timeout} s of guest time are over")

    # --- what other threads want --------------------------------------------------------------------------------------

    def finish_from_outside(self, reason: Reason, message: str) -> None:
        """End the run from any thread, at the guest's next block."""
        super().finish_from_outside(reason, message)
        if self.paused and self.vm.debugger is not None:
            self.vm.debugger.wake()

    def pause_soon(self) -> None:
        """Let the debugger attend at the guest's next block; from any thread."""
        self._attention = self._pause = True
        self.look()

    def stand(self, who: object) -> None:
        """Leave the guest at its next block, and stand still until `go_on` of all who wanted it; from any thread."""
        self._standing.want(who)
        self._pause = True
        self.look()

    def wait_standing(self, seconds: float) -> None:
        """Wait until the run stands still or is over, so many seconds at most."""
        self._standing.wait(seconds)

    def go_on(self, who: object) -> None:
        """End a pause; from any thread."""
        self._standing.want_no_more(who)
        self.look()

    @property
    def called_off(self) -> bool:
        """See `Task`."""
        return (
            self.ending.outside is not None
            or self._wants_debugger
            or (self._standing.wanted and self._standing.since is None)
            or (self.ending.term.over and not self.stands_still)
        )

    @property
    def _wants_debugger(self) -> bool:
        return self._attention and self.vm.debugger is not None

    # --- standing still -----------------------------------------------------------------------------------------------

    @property
    def stands_still(self) -> bool:
        """Whether no guest code runs, and no time passes, because of a pause or a debugger."""
        return self._standing.since is not None or self.paused

    @property
    def stands(self) -> bool:
        """See `Task`."""
        return self._standing.wanted and self._standing.since is not None

    def _stand(self) -> None:
        """Between two instructions, until `go_on`: the VM is as between runs, and its time stands still."""
        self.wake_at = None
        if self._standing.since is None:
            self.vm.running(False)
            self.vm.place.collect_loaded()
            self.vm.clock.stop()
            self._standing.begin()
            self._tell(What.PAUSED, message="somebody wants it to stand still")

    def _continue(self, *, unless_wanted: bool = False) -> None:
        """Go on behind a pause, which the run's timeout does not count."""
        paused_s = self._standing.end(unless_wanted=unless_wanted)
        if paused_s is not None:
            self._go_on(paused_s)
            if self.ending.end is None:
                self._tell(What.RESUMED)

    def _go_on(self, paused_s: float) -> None:
        self.vm.clock.go()
        self.vm.running(True)
        self.exits.renew()
        self.ending.term.extend(paused_s)

    def went_back(self) -> None:
        """The machine has become what it was at another moment, while this stands still: it goes on from there, as a
        new run would, to the end that it was begun for. Its times in virtual time stay what they are.
        """
        self.ending.take_back()
        self.exits = ExitServer(self.vm, self.ending, self._rest)
        self._exact, self._asked = True, False
        self._rest.asleep = False
        self._began_ns = min(self._began_ns, self.vm.clock.now_ns)
        if self._until is not None:
            self._until.went_back()

    @property
    def attended(self) -> bool:
        """Whether this is the debugger, between two instructions."""
        return self.paused and self.here and self.vm.place.pcpu is None

    def _attend(self, ended: tuple[Reason, str] | None) -> None:
        """Let the debugger have the VM, if there is one."""
        vm, since = self.vm, time.monotonic()
        if vm.debugger is None:
            return
        self._continue()
        vm.running(False)
        vm.place.collect_loaded()
        vm.clock.stop()
        self.paused = True
        if ended is None:
            self._tell(What.PAUSED, message="a debugger attends")
        try:
            vm.debugger.attend(ended)
        except BaseException as error:
            self.ending.fail(error)
        finally:
            self.paused = False
            self._go_on(time.monotonic() - since)
            vm.in_thread(self._thread)
            if ended is None:
                self._tell(What.RESUMED)

    def step_paused(self, count: int, vcpu: Processor) -> int:
        """See `Vcpu.step`, while the debugger attends: what ends the VM ends the run then."""
        vm, done = self.vm, 0
        vm.clock.go()
        vm.running(True)
        vm.in_thread(self._thread)
        self.exits.renew()
        try:
            while done < count and self.may_step(vcpu):
                with vm.place.entered(lambda: self.ending.outside is not None) as hold:
                    if hold.pcpu is not None:
                        done += self.steps(hold, count - done, vcpu)
            vm.place.collect_loaded()
        finally:
            vm.running(False)
            vm.clock.stop()
        return done


__all__ = ["GuestRun"]
