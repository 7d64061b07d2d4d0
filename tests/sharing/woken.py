"""How long VMs that wake wait for a pCPU: by the host's clock, and by what that pCPU's thread computed meanwhile. The
difference is time for which others of the host's processes had its processors, or the thread that wakes.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from unittest import mock

import hypervisor as hv
from hypervisor.run.sharing.runqueue import RunQueue
from hypervisor.run.threads.thread_meter import Reading


class Woken(NamedTuple):
    """Once; in host seconds."""

    waited: float
    """From when it was due until its guest ran."""
    noticed: float
    """How long that took until it was noticed."""
    computed: float
    """Of the CPU clock of the pCPU's thread in between, at most: what that said when it was due nobody has read."""


@contextmanager
def wakings(vm: hv.VM) -> Iterator[list[Woken]]:
    """Those of a VM that rests, and whose time comes while others have all pCPUs."""
    found = list[Woken]()
    begin, enqueue = RunQueue.begin, RunQueue._enqueue
    read: dict[Any, list[Reading]] = {}
    """Of each pCPU since it was given to a VM last, by its meter."""
    due: list[float] = []

    def begun(self: Any, hold: Any) -> None:
        begin(self, hold)
        if hold.vm is not vm.place:
            read[hold.meter] = [hold.began]
        elif due:
            found.append(_woken(due.pop(), [*read.pop(hold.meter, []), hold.began]))

    def woken(self: Any, task: Any) -> None:
        if task.place is vm.place and task.wake_at is not None and len(read) == len(self._pcpus):
            due[:] = [task.wake_at]
            for meter, readings in read.items():
                readings.append(meter.glance(readings[0]))
        enqueue(self, task)

    with mock.patch.object(RunQueue, "begin", begun), mock.patch.object(RunQueue, "_enqueue", woken):
        yield found


def _woken(due: float, read: list[Reading]) -> Woken:
    computed = sum(
        min(two.cpu - one.cpu, max(two.wall - max(one.wall, due), 0.0)) for one, two in itertools.pairwise(read)
    )
    return Woken(read[-1].wall - due, read[-2].wall - due if len(read) > 2 else 0.0, computed)


__all__ = ["Woken", "wakings"]
