"""The time of VMs and of pCPUs, added up."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hypervisor.run.sharing.hold import Customer, Hold
from hypervisor.run.sharing.usage import PCpuUsage, Usage
from hypervisor.run.threads.thread_meter import Reading, ThreadMeter

if TYPE_CHECKING:
    from hypervisor.engine.pcpu import PCpu
    from hypervisor.run.sharing.task import Task


NOTHING = Reading(0.0, 0.0, 0.0)


@dataclass
class _Account:
    """Of a pCPU. Its thread's time is cut where a VM leaves: what it does in between is done for the next one."""

    since: float = field(default_factory=time.monotonic)
    meter: ThreadMeter | None = None
    cut: Reading = NOTHING
    """What the meter said there."""
    total: Usage = field(default_factory=Usage)
    slices: int = 0
    lent_s: float = 0.0


class Accounts:
    """Of one host. Times are of time.monotonic, in seconds."""

    def __init__(self, pcpus: Sequence[PCpu]) -> None:
        self._accounts = {pcpu: _Account() for pcpu in pcpus}

    def wakes(self, task: Task, now: float) -> None:
        """A task wants a pCPU that did not before."""
        if task.idle_since is not None:
            task.place.usage.blocked_s += now - task.idle_since
            task.idle_since = None

    def arrives(self, hold: Hold, pcpu: PCpu) -> None:
        """The thread of this pCPU, which calls this, begins to execute a task."""
        account = self._accounts[pcpu]
        if account.meter is None or account.meter.thread != hold.thread:
            account.meter, account.cut = ThreadMeter(), NOTHING
        hold.meter = account.meter
        hold.got = Reading(hold.since, account.cut.cpu, account.cut.stolen)
        hold.vm.usage.add_waited(max(hold.since - hold.asked, 0.0))

    def leaves(self, hold: Hold) -> tuple[float, float]:
        """A task has left its pCPU, whose thread calls this: for how many seconds its guest has held that up, and for
        how many with the ways to its guest and back.
        """
        assert hold.pcpu is not None and hold.meter is not None
        account, now = self._accounts[hold.pcpu], hold.meter.read()
        account.cut, hold.until = now, now.wall
        account.slices += 1
        for usage in (account.total, hold.vm.usage):
            usage.add_held(hold.got, now, hold.slept)
        guests = hold.held_up(now)
        return guests, guests + hold.ways(now)

    def returns(self, hold: Hold) -> None:
        """A visit is over."""
        if hold.pcpu is not None:
            self._accounts[hold.pcpu].lent_s += time.monotonic() - hold.since

    def close(self) -> None:
        """Nobody has a pCPU any more."""
        for account in self._accounts.values():
            if account.meter is not None:
                account.meter.close()

    def of_vm(self, vm: Customer, holds: Sequence[Hold], resting: Sequence[Task]) -> Usage:
        """Where its time has gone up to now."""
        found, now = vm.usage.copy(), time.monotonic()
        for hold in holds:
            if hold.vm is not vm or hold.task is None:
                continue
            if hold.meter is not None:
                found.add_held(hold.got, hold.meter.read(), hold.slept_until(now))
            else:
                found.add_waited(now - hold.asked, capped=bool(hold.not_before))
        for task in resting:
            if task.place is vm and task.idle_since is not None:
                found.blocked_s += now - task.idle_since
        return found

    def of_pcpu(self, pcpu: PCpu, holds: Sequence[Hold]) -> PCpuUsage:
        """Where its time has gone up to now."""
        account, now = self._accounts[pcpu], time.monotonic()
        total, lent_s, slices = account.total.copy(), account.lent_s, account.slices
        for hold in holds:
            if hold.pcpu is not pcpu:
                continue
            if hold.task is None:
                lent_s += now - hold.since
            elif hold.meter is not None:
                total.add_held(hold.got, hold.meter.read(), hold.slept_until(now))
                slices += 1
        idle_s = max(now - account.since - total.held_s - lent_s, 0.0)
        return PCpuUsage(total.run_s, total.waiting_s, total.stolen_s, lent_s, idle_s, slices)


__all__ = ["Accounts"]
