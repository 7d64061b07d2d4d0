"""Who is asked about first of those that wait: the one that was on the free pCPU last.

Each pCPU has an engine of its own, which translates what it runs. A VM that is on another pCPU in every slice has all
of its code translated twice, and each time finds the host's caches cold. So it may go before those that came earlier
and would have to move, unless it has had more than they.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from hypervisor.run.sharing import scheduler

if TYPE_CHECKING:
    from hypervisor.engine.pcpu import PCpu
    from hypervisor.run.sharing.hold import Customer, Hold

PART = 0.5
"""By how much of a slice it may have had more than those before which it goes."""


class AtHome:
    """Of the VMs of one host."""

    def __init__(self) -> None:
        self._had: WeakKeyDictionary[Customer, float] = WeakKeyDictionary()
        """Host seconds of pCPUs, to be compared among those that want them."""

    def wakes(self, vm: Customer, others: Iterable[Customer]) -> None:
        """A VM wants a pCPU that did not before: what it has not had in the meantime is nothing that it may claim."""
        least = min((self._had.get(other, 0.0) for other in others if other is not vm), default=0.0)
        self._had[vm] = max(self._had.get(vm, 0.0), least)

    def used(self, vm: Customer, seconds: float) -> None:
        """A VM has had a pCPU for so long."""
        self._had[vm] = self._had.get(vm, 0.0) + seconds

    def first(self, waiting: list[Hold], free: Collection[PCpu]) -> list[Hold]:
        """Those that wait in the order in which they came, but for the one that goes before others. (It is not the last
        of them, which has only just come, and nobody goes before a visit.)
        """
        most = float("inf")
        for n, hold in enumerate(waiting[:-1]):
            if hold.task is None:
                break
            had = self._had.get(hold.vm, 0.0)
            if (hold.vm.last is None or hold.vm.last in free) and had <= most + PART * scheduler.SLICE_S:
                return [hold, *waiting[:n], *waiting[n + 1 :]]
            most = min(most, had)
        return waiting


__all__ = ["AtHome"]
