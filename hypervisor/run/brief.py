"""What runs a guest for a moment only: no debugger attends, and it is not paused."""

from __future__ import annotations

from hypervisor.errors import InternalError
from hypervisor.run.runner import Runner
from hypervisor.vcpu.processor import Processor


class Brief(Runner):
    """A runner that is over soon, whoever waits for it to stand still."""

    @property
    def paused(self) -> bool:
        """Whether a debugger attends."""
        return False

    attended = paused

    def pause_soon(self) -> None:
        """A debugger waits for the next run."""

    def stand(self, who: object) -> None:
        """It is over soon."""

    def wait_standing(self, seconds: float) -> None:
        """It is over soon."""
        self.wait(seconds)

    def go_on(self, who: object) -> None:
        """It does."""

    def went_back(self) -> None:
        """It does not stand still."""
        raise InternalError("a machine that went back within steps")

    def step_paused(self, count: int, vcpu: Processor) -> int:
        """No debugger attends."""
        raise InternalError("a step within steps")


__all__ = ["Brief"]
