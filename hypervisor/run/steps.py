"""Single steps between runs, see `hypervisor.Vcpu.step`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypervisor.run.brief import Brief
from hypervisor.run.sharing.hold import Hold
from hypervisor.run.sharing.task import Next
from hypervisor.units import FOREVER_NS

if TYPE_CHECKING:
    from hypervisor.run.machine import Machine
    from hypervisor.vcpu.processor import Processor


class Steps(Brief):
    """Some instructions of one vCPU."""

    def __init__(self, vm: Machine, count: int, vcpu: Processor) -> None:
        super().__init__(vm, None, None, FOREVER_NS)
        self._count, self._stepped = count, vcpu
        self.done = 0
        """Instructions that have been executed."""

    def slice(self, hold: Hold) -> Next:
        """Step until enough is done, or another VM wants the pCPU."""
        assert hold.pcpu is not None
        with self.vm.place.on(hold.pcpu):
            with self._executing():
                self.done += self.steps(hold, self._count - self.done, self._stepped)
            more = self.done < self._count and self.may_step(self._stepped)
            return Next.READY if more else self._close()

    def apart(self) -> Next:
        """It was asked to end."""
        return self._close()

    def _close(self) -> Next:
        """What ended the VM on the way is its result; what a handler raised is raised to who wanted the steps."""
        self.error = self.ending.error
        try:
            self.vm.place.collect_loaded()
            self.vm.running(False)
            if self.ending.finished:
                self.vm.result = self._result(0.0, 0.0)
        finally:
            self.give_up()
        return Next.OVER


__all__ = ["Steps"]
