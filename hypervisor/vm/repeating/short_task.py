"""Short cases as a task of the host: it has a pCPU for a slice, and ends when anybody wants something of it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING

from hypervisor.engine.repeating.series import Series, ShortEnd
from hypervisor.run.brief import Brief
from hypervisor.run.serving.interception import apply
from hypervisor.run.sharing.hold import Hold
from hypervisor.run.sharing.task import Next
from hypervisor.units import FOREVER_NS

if TYPE_CHECKING:
    from hypervisor.engine.pcpu import PCpu
    from hypervisor.run.ending.ends import End
    from hypervisor.run.machine import Machine


class ShortTask(Brief):
    """Some cases of a VM, as many as come to their end in one slice. It stands at the same moment before and after."""

    def __init__(self, vm: Machine, timeout: float | None, begin: Callable[[PCpu], Series | None]) -> None:
        """``begin`` is called on the pCPU; without a series no case is a short one."""
        super().__init__(vm, None, timeout, FOREVER_NS)
        self._begin = begin
        self.possible = True
        """Whether there was a series."""
        self.found: list[ShortEnd] = []
        """Of the cases that are over."""
        self.inside: tuple[int, bytes] | None = None
        """See `Series.inside`."""

    @property
    def stopped(self) -> End | None:
        """What somebody wanted the end of the next case to be."""
        return self.ending.outside

    def slice(self, hold: Hold) -> Next:
        """Run cases until all are over, or something else is to be done."""
        vm, pcpu = self.vm, hold.pcpu
        assert pcpu is not None
        with vm.place.on(pcpu):
            with self._executing():
                apply(vm, pcpu)
                vm.host.queue.begin(hold)
                series = self._begin(pcpu)
                if series is None:
                    self.possible = False
                else:
                    with closing(series):
                        self._go(hold, pcpu, series)
            return self._close()

    def _go(self, hold: Hold, pcpu: PCpu, series: Series) -> None:
        while True:
            pcpu.report.kick = 0
            self.vm.host.memory.make_room(0, self.vm.memory, pcpu)
            self._look_outside()
            if self.ending.end is not None or hold.over or self.vm.inbox.arrived or series.go():
                break
        self.found, self.inside = series.ends, series.inside

    def apart(self) -> Next:
        """It was asked to end."""
        return self._close()

    def _close(self) -> Next:
        self.error = self.ending.error
        try:
            self.vm.running(False)
            if self.stopped is not None:
                self._look_outside()
                self.vm.result = self._result(0.0, 0.0)
        finally:
            self.give_up()
        return Next.OVER


__all__ = ["ShortTask"]
