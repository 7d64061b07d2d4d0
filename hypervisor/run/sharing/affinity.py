"""On which pCPUs VMs may run, and how as many as possible do."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hypervisor.engine.pcpu import PCpu
    from hypervisor.run.sharing.hold import Hold


class Affinity:
    """Of the tasks that want the pCPUs of one host. Visits run no guest, and may be anywhere."""

    def __init__(self, pcpus: Sequence[PCpu]) -> None:
        self._pcpus = list(pcpus)

    def allows(self, hold: Hold) -> list[PCpu]:
        """The pCPUs where this may run."""
        named = None if hold.task is None else hold.task.candidate.share.pcpus
        if named is None:
            return self._pcpus
        return [pcpu for number, pcpu in enumerate(self._pcpus) if number in named]

    def best(self, hold: Hold, free: Collection[PCpu], others: Sequence[Hold]) -> PCpu:
        """The free pCPU for this that leaves most of those that ``others`` need; of equal ones the one that costs
        least: where the VM ran last, else one with nothing on it.
        """
        last = hold.vm.last
        allowed = [pcpu for pcpu in self.allows(hold) if pcpu in free]
        if last in allowed and not others:
            return last
        allowed.sort(key=lambda pcpu: (pcpu is not last, pcpu.owner is not None))
        if len(allowed) == 1 or all(len(self.allows(other)) == len(self._pcpus) for other in others):
            return allowed[0]
        return max(allowed, key=lambda pcpu: self._placeable(others, [one for one in free if one is not pcpu]))

    def in_the_way(self, waiting: Sequence[Hold], running: Sequence[Hold], free: Collection[PCpu]) -> list[Hold]:
        """Those that run, and have to move so that one that waits, and may not run where it is free, gets a pCPU."""
        holders = {one.pcpu: one for one in running if one.pcpu is not None}
        for hold in waiting if free else ():
            path = self._path(hold, holders, free, set())
            if path:
                return path
        return []

    def _path(self, hold: Hold, holders: dict[PCpu, Hold], free: Collection[PCpu], seen: set[PCpu]) -> list[Hold]:
        """Who has to move so that this one finds a place; each to where the one before it was, the last to a free
        one."""
        for pcpu in self.allows(hold):
            if pcpu in seen or pcpu not in holders:
                continue
            seen.add(pcpu)
            holder = holders[pcpu]
            if any(one in free for one in self.allows(holder)):
                return [holder]
            path = self._path(holder, holders, free, seen)
            if path:
                return [holder, *path]
        return []

    def _placeable(self, holds: Sequence[Hold], free: Sequence[PCpu]) -> int:
        """How many of these find a pCPU each: a maximum matching, one by one (Kuhn's algorithm)."""
        having: dict[PCpu, Hold] = {}

        def place(hold: Hold, seen: set[PCpu]) -> bool:
            for pcpu in self.allows(hold):
                if pcpu in free and pcpu not in seen:
                    seen.add(pcpu)
                    if pcpu not in having or place(having[pcpu], seen):
                        having[pcpu] = hold
                        return True
            return False

        return sum(place(hold, set()) for hold in holds)


__all__ = ["Affinity"]
