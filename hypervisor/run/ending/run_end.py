"""What ends one run: the first of what the guest, its handlers, the host and the time say."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from hypervisor.engine.report import LOST_PAGES, OUT_OF_FRAMES
from hypervisor.errors import HostFull, InternalError, PageLost
from hypervisor.outcome.result import Reason, RunResult
from hypervisor.run.ending import ends
from hypervisor.run.ending.ends import End
from hypervisor.run.ending.outcome_of import result_of
from hypervisor.run.ending.term import Term
from hypervisor.run.serving.raised import tell
from hypervisor.traps.verdicts import Stop

if TYPE_CHECKING:
    from hypervisor.engine.pcpu import PCpu
    from hypervisor.run.machine import Machine


class RunEnd:
    """The end of one run, None until something has ended it."""

    def __init__(self, vm: Machine, timeout: float | None, busy: Callable[[], str], kick: Callable[[], None]) -> None:
        """``timeout`` in host seconds, ``busy()`` as for `Term`; ``kick()`` has the guest left at its next block."""
        self._vm, self._kick = vm, kick
        self.term = Term(timeout, busy)
        self.end: End | None = None
        self.outside: End | None = None
        """What another thread wants the run's end to be; it is that at the guest's next block."""
        self.error: BaseException | None = None
        """What a handler or a device raised."""

    @property
    def finished(self) -> bool:
        """Whether something has ended the run."""
        return self.end is not None

    def come(self, end: End) -> None:
        """End the run; the first reason counts. On the VM's own thread."""
        if self.end is None:
            self.end = end
            self._kick()

    def finish(self, reason: Reason, message: str, status: int | None = None) -> None:
        """As `come`."""
        self.come(End(reason, message, status))

    def stop(self, verdict: Stop) -> None:
        """End the run as a handler wants it."""
        self.finish(Reason.CRASHED if verdict.crashed else Reason.STOPPED, verdict.reason)

    def fail(self, error: BaseException) -> None:
        """A handler or a device raised."""
        if self.term.guard.caught(error):
            self.come(self.term.held_up(self.outside or self.term.end()))
            return
        if self.error is None:
            if isinstance(error, MemoryError):
                self.error = error
                self.finish(Reason.HOST_ERROR, "the host has no memory left for what the guest asked for.")
                return
            if isinstance(error, (HostFull, PageLost)):
                self.finish(Reason.STOPPED, str(error))
                return
            text = tell(self._vm, error)  # which fails where the stack is at its end
            self.error = error
            self.finish(Reason.HOST_ERROR, text)

    def look_at_memory(self) -> None:
        """End the run if pages of the VM cannot be read any more."""
        loss = self._vm.memory.pages.loss
        if loss:
            self.finish(Reason.STOPPED, loss)

    def take_back(self) -> None:
        """What the guest has done to end the run has not been."""
        self.end = self.error = None

    def look_outside(self, *, stands_still: bool) -> None:
        """End the run if the host wants it, or the time is over, which does not count while it stands still."""
        if self.outside is not None and self.end is None:
            self.end = self.outside
        if self.term.over and not stands_still:
            self.come(self.term.end())

    def shut_down(self, pcpu: PCpu) -> int:
        """A triple fault."""
        self.come(ends.of_shutdown(self._vm, pcpu))
        return 0

    def give_up(self, pcpu: PCpu) -> int:
        """The engine cannot go on."""
        code = pcpu.report.info_0
        if code in (LOST_PAGES, OUT_OF_FRAMES):  # lost by whatever VM
            self.look_at_memory()
            if code == OUT_OF_FRAMES:
                self.finish(Reason.STOPPED, self._vm.memory.pages.shortage)
        elif code < 0:
            self.come(ends.of_impossible_state(self._vm))
        else:
            raise InternalError(
                f"the CPU emulator gave up at RIP {self._vm.current.rip:#x} (code {code}). "
                "Please report this with the guest's image."
            )
        return 0

    def result(self, wall_s: float, virtual_s: float, until: str) -> RunResult:
        """What the run returns; ``until`` is what it waited for."""
        end = self.end or End(Reason.STOPPED, "")
        return result_of(self._vm, end, self.error, wall_s, virtual_s, until)


__all__ = ["RunEnd"]
