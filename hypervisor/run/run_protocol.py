"""What a machine knows of the run that it has."""

from __future__ import annotations

from typing import Protocol

from hypervisor.outcome.result import Reason
from hypervisor.vcpu.processor import Processor


class Run(Protocol):
    """The run that a machine has (`hypervisor.run.runner.Runner`)."""

    def finish(self, reason: Reason, message: str, status: int | None = None) -> None:
        """End it; the first reason counts. On the machine's own thread."""
        ...

    def finish_from_outside(self, reason: Reason, message: str) -> None:
        """End it at the guest's next block; from any thread."""
        ...

    def look(self) -> None:
        """Make it look at what came from outside; from any thread."""
        ...

    def ask(self) -> None:
        """Ask its condition at the guest's next block. On the machine's own thread."""
        ...

    def pause_soon(self) -> None:
        """Let the debugger attend at the guest's next block; from any thread."""
        ...

    def alarm_changed(self) -> None:
        """A timer of the wall clock was asked for."""
        ...

    def stand(self, who: object) -> None:
        """Stand still from the guest's next block on, until `go_on` of all who wanted it; from any thread."""
        ...

    def wait_standing(self, seconds: float) -> None:
        """Wait until it stands still or is over, so many seconds at most."""
        ...

    def go_on(self, who: object) -> None:
        """End a pause; from any thread."""
        ...

    def went_back(self) -> None:
        """The machine has become what it was at another moment, while this stands still."""
        ...

    def end_soon(self, text: str) -> None:
        """End it; asked again, end what holds it up, too. From any thread."""
        ...

    def end_now(self, text: str) -> None:
        """End it, and what holds it up; from any thread."""
        ...

    def busy_in(self) -> str:
        """Whose code it executes at the moment, other than the guest's and ours; from any thread."""
        ...

    def step_paused(self, count: int, vcpu: Processor) -> int:
        """Steps while the debugger attends; how many."""
        ...

    def hurry(self) -> float:
        """See `hypervisor.run.sharing.task.Task`."""
        ...

    def wait(self, seconds: float) -> None:
        """Wait for its end, so many seconds at most."""
        ...

    def traps_changed(self) -> None:
        """Handlers have come or gone, in code that it calls."""
        ...

    @property
    def over(self) -> bool:
        """Whether it is."""
        ...

    @property
    def here(self) -> bool:
        """Whether this thread executes it."""
        ...

    @property
    def attended(self) -> bool:
        """Whether this is the debugger, between two instructions."""
        ...

    @property
    def stands_still(self) -> bool:
        """Whether no guest code runs because of a pause, or because the debugger has the machine."""
        ...

    @property
    def paused(self) -> bool:
        """Whether the debugger attends to the machine."""
        ...

    @property
    def stop_requested(self) -> bool:
        """Whether another thread wants it to end."""
        ...


__all__ = ["Run"]
