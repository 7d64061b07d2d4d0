"""Proportional shares: a VM of twice the weight gets twice the time of those that want it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from weakref import WeakKeyDictionary

from hypervisor.run.sharing import scheduler as policies
from hypervisor.run.sharing.scheduler import Candidate, Slice

LEAST_SLICE_S = 0.001
"""Shortest slice, in host seconds: leaving a guest for another costs some ten microseconds, and a cold cache."""

OWED_S = 0.04
"""By how much less than its share a VM may have had that waits on for another one, which need not move to another pCPU.
"""

EVEN_S = 0.05
"""Who has had most of VMs that compute may be so much ahead, if they share one pCPU evenly: half a percent of what they
have in 10 s.
"""

BEHIND = 4
"""By how many of the longest steps a VM may be behind the furthest one: what it has not claimed by then is lost."""


class Credit:
    """Each VM has a virtual time, which passes faster the less weight it has; who is furthest behind runs next.

    - Nobody waits while a pCPU is free: what one does not want, the others share by their weights.
    - One that sleeps saves nothing up: when it wakes it is a slice behind the others at most. That much is its boost:
      it pushes the one aside that is furthest ahead, and who sleeps more than he computes always runs at once.
    - A VM is on one pCPU at most, so a weight may be too great for a host: three VMs of 1, 2 and 5 on two pCPUs. Such a
      one counts as what one whole pCPU is (A. Chandra et al., Surplus Fair Scheduling, OSDI 2000, section 2.1); the
      others share the rest by theirs.

    Slices are equally long, as each begins with a cold TLB: by shorter ones a VM would get less done in its time. They
    are shorter the more weights differ, so that whoever has the least comes by as often as among equals. Where nobody
    has woken for some slices they are longer, as far as all have their share within 10 s all the same.
    """

    def __init__(self) -> None:
        self._pcpus = 1
        self._had: Callable[[Candidate], float] = lambda vm: 0.0
        self._spent: WeakKeyDictionary[Candidate, float] = WeakKeyDictionary()
        """Virtual times: seconds for each unit of weight."""
        self._floor = 0.0
        """How far everybody has come who was awake."""
        self._running: set[Candidate] = set()
        """Who has a slice of this."""
        self._awake: dict[Candidate, float] = {}
        """Who wants pCPUs, with the weights that they were known to have."""
        self._weights: dict[Candidate, float] = {}
        """What these count as; empty when it has to be found anew, with what follows from it:"""
        self._slice = self._longer = policies.SLICE_S
        """How long slices are, in seconds, and where all compute;"""
        self._step = 0.0
        """and how far one of them comes with one at most."""

        self._stays: Callable[[Candidate], bool] = lambda vm: True
        self._calm = 0
        """How many slices there have been since one woke."""
        self._woken: set[Candidate] = set()
        """Who has not run since."""

    def begin(self, pcpus: int, clock: Callable[[], float]) -> None:
        """See `hypervisor.run.sharing.scheduler.Hosted`."""
        self._pcpus = pcpus
        for known in (self._running, self._awake, self._weights, self._woken):
            known.clear()

    def watch(self, had: Callable[[Candidate], float]) -> None:
        """See `hypervisor.run.sharing.scheduler.Watching`."""
        self._had = had

    def place(self, stays: Callable[[Candidate], bool]) -> None:
        """See `hypervisor.run.sharing.scheduler.Placing`."""
        self._stays = stays

    # --- what a scheduler does ----------------------------------------------------------------------------------------

    def choose(self, ready: Sequence[Candidate]) -> Slice:
        """The one that is furthest behind, or nearly so if that one would have to move and this need not."""
        vm, seconds = self.next(ready)
        self._running.add(vm)
        self._woken.discard(vm)
        self._calm += 1
        return Slice(vm, seconds)

    def next(self, ready: Sequence[Candidate]) -> Slice:
        """Whom `choose` would choose."""
        for vm in ready:
            if vm not in self._awake:
                self._wake(vm)
        self._follow()
        vm = min(ready, key=self._spent.__getitem__)
        if vm not in self._woken and not self._stays(vm):
            most = self._spent[vm] + OWED_S / self._weight(vm)
            near = [one for one in ready if self._spent[one] <= most and self._stays(one)]
            vm = min(near, key=self._spent.__getitem__, default=vm)
        self._weight(vm)  # slices are as long as the weights are now
        return Slice(vm, self._longer if self._calm >= policies.CALM else self._slice)

    def wakes(self, vm: Candidate, running: Sequence[Candidate]) -> Candidate | Slice | None:
        """It is a slice behind the others at most, and takes the place of who is furthest ahead of it; if nobody is, no
        slice is long any more.
        """
        self._wake(vm)
        self._woken.add(vm)
        long, self._calm = self._calm > policies.CALM, 0
        aside = self.furthest(running, self._spent[vm])
        if aside is None and long and running:
            return Slice(running[0], self._slice)
        return aside

    def used(self, vm: Candidate, seconds: float) -> None:
        """It has come so much further."""
        self._running.discard(vm)
        if vm not in self._awake:
            self._wake(vm)
        self._spent[vm] += seconds / self._weight(vm)

    def blocks(self, vm: Candidate, seconds: float) -> None:
        """It has come so much further, and is not counted any more."""
        self.used(vm, seconds)
        self._rise()
        del self._awake[vm]
        self._woken.discard(vm)
        self._weights.clear()

    def furthest(self, running: Sequence[Candidate], behind: float = float("-inf")) -> Candidate | None:
        """Which of these has come furthest, if that is further than this."""
        vm = max(running, key=self._now, default=None)
        return vm if vm is not None and self._now(vm) > behind else None

    # --- virtual times ------------------------------------------------------------------------------------------------

    def _wake(self, vm: Candidate) -> None:
        self._rise()
        self._awake[vm] = vm.share.weight
        self._weights.clear()
        weight = self._weight(vm)
        boosted = self._floor - self._slice / weight
        self._spent[vm] = max(self._spent.get(vm, self._floor), boosted)

    def _now(self, vm: Candidate) -> float:
        """How far it has come by now."""
        return self._spent[vm] + (self._had(vm) / self._weight(vm) if vm in self._running else 0.0)

    def _follow(self) -> None:
        """Who cannot get his share, as others need the pCPUs where he may run, would come to have claims without end,
        and hold up those who come from elsewhere: he loses them.
        """
        least = max([self._spent[vm] for vm in self._awake], default=0.0) - BEHIND * self._step
        for vm in self._awake:
            if self._spent[vm] < least:
                self._spent[vm] = least

    def _rise(self) -> None:
        """The floor rises with who is furthest behind."""
        self._follow()
        if self._awake:
            self._floor = max(self._floor, min([self._now(vm) for vm in self._awake]))

    # --- weights ------------------------------------------------------------------------------------------------------

    def _weight(self, vm: Candidate) -> float:
        """What it counts as."""
        if self._awake.get(vm) != vm.share.weight:
            self._awake[vm] = vm.share.weight
            self._weights.clear()
        if not self._weights:
            self._weights = feasible(self._awake, self._pcpus)
            least = min(self._weights.values())
            mean = sum(self._weights.values()) / len(self._weights)
            self._slice = max(policies.SLICE_S * least / mean, LEAST_SLICE_S)
            part = min(least * self._pcpus / sum(self._weights.values()), 1.0)
            even = EVEN_S * part / (1 - part) if part < 1 else math.inf
            self._longer = max(min(self._slice * policies.LONGEST, even), self._slice)
            self._step = self._longer / least
        return self._weights[vm]


def feasible(weights: dict[Candidate, float], pcpus: int) -> dict[Candidate, float]:
    """These weights, but that none is greater than what a whole one of so many pCPUs is."""
    found, rest = dict(weights), sum(weights.values())
    great: list[Candidate] = []
    for vm in sorted(weights, key=weights.__getitem__, reverse=True):
        if pcpus - len(great) <= 1 or weights[vm] * (pcpus - len(great)) <= rest:
            break
        great.append(vm)
        rest -= weights[vm]
    if great:
        left = len(weights) - len(great)
        whole = rest / (pcpus - len(great)) if left else 1.0
        found.update(dict.fromkeys(great, whole))
    return found


__all__ = ["Credit", "feasible"]
