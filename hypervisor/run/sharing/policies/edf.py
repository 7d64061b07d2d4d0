"""Reservations: so much of each period, whoever else wants the pCPUs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from hypervisor.errors import ConfigError
from hypervisor.run.sharing.policies.credit import Credit
from hypervisor.run.sharing.scheduler import Candidate, Slice
from hypervisor.run.sharing.share import Share

BEHIND = 4
"""Of so many budgets may one be behind that could not use them, as the host's processors were others'."""

LATELY_S = 2.0
"""Of so many seconds it is known what getting to guests has cost."""

TINY_S = 1e-6
"""A budget of which less is left is used up, and a period that ends so soon is over, in host seconds: no slice is as
short as that, and clocks are compared that were added up in different ways.
"""


@dataclass
class Reservation:
    """Of one VM that wants pCPUs: a constant bandwidth server (L. Abeni, G. Buttazzo, RTSS 1998), whose budget comes
    back at the end of its period and not before. What it wanted and did not get until then, as its pCPU's thread was
    kept from computing, it has still (`BEHIND`). Times are of the host's clock.
    """

    budget: float
    period: float
    deadline: float
    """When the present period ends."""
    left: float
    """What there is of the budget."""
    since: float | None = None
    """Since when it runs on it."""

    def renew(self, now: float) -> None:
        """Another period has begun, if one has."""
        late = now + TINY_S - self.deadline
        if late >= 0:
            periods = late // self.period + 1
            self.deadline += periods * self.period
            behind = self.left if self.left > TINY_S else 0.0
            self.left = min(behind + periods * self.budget, BEHIND * self.budget)

    def wake(self, now: float) -> None:
        """It wants pCPUs again: what is left of its budget counts as far as it is no more than its part of what is left
        of the period; else, and when that is over, a period begins now.
        """
        if now + TINY_S >= self.deadline or self.left * self.period > (self.deadline - now) * self.budget:
            self.deadline, self.left = now + self.period, self.budget

    def charge(self, seconds: float, now: float) -> float:
        """It has had so many seconds up to now; how many of them were not of its budget."""
        if self.since is not None:
            self.since = None
            seconds = self._take(seconds)  # of the period in which it began
        self.renew(now)
        here = min(seconds, max(now - (self.deadline - self.period), 0.0))
        return seconds - here + self._take(here)

    def _take(self, seconds: float) -> float:
        """Take so many seconds of the budget; how many there were not."""
        ours = min(seconds, max(self.left, 0.0))
        self.left -= ours
        return seconds - ours

    def has_some(self, now: float, had: float) -> bool:
        """Whether something is left now of its budget, of which it has had so much in the slice that goes on."""
        if self.since is None:
            self.renew(now)
            return self.left > TINY_S
        return now + TINY_S >= self.deadline or self.left - had > TINY_S


class Edf:
    """Earliest deadline first, among reservations with something left of their budgets. Whatever they leave, the VMs
    get by their weights (`Credit`), those with reservations, too, beyond their budgets.
    """

    def __init__(self) -> None:
        self._rest = Credit()
        self._clock: Callable[[], float] = time.monotonic
        self._had: Callable[[Candidate], float] = lambda vm: 0.0
        self._known: WeakKeyDictionary[Candidate, Reservation] = WeakKeyDictionary()
        self._awake: WeakKeyDictionary[Candidate, Reservation] = WeakKeyDictionary()
        """Those that want pCPUs."""
        self._whole = self._inside = 0.0
        """What VMs have cost lately, and how much of that their guests had, in seconds."""

    def begin(self, pcpus: int, clock: Callable[[], float]) -> None:
        """See `hypervisor.run.sharing.scheduler.Hosted`."""
        self._clock = clock
        self._rest.begin(pcpus, clock)

    def watch(self, had: Callable[[Candidate], float]) -> None:
        """See `hypervisor.run.sharing.scheduler.Watching`."""
        self._had = had
        self._rest.watch(had)

    def place(self, stays: Callable[[Candidate], bool]) -> None:
        """See `hypervisor.run.sharing.scheduler.Placing`."""
        self._rest.place(stays)

    def admit(self, promised: Sequence[Share], share: Share, pcpus: int) -> None:
        """On one pCPU all may be promised. On several a VM that needs nearly a whole one may find all of them busy: the
        bound is that of J. Goossens, S. Funk and S. Baruah (Real-Time Systems 25, 2003) for deadlines in any order.
        """
        if share.pcpus is not None and len(frozenset(share.pcpus)) < pcpus:
            raise ConfigError("A reservation is kept on all pCPUs of a host: give it without pcpus=.")
        parts = [one.reserved for one in promised if one.reserved]
        total, greatest = sum(parts) + share.reserved, max([*parts, share.reserved])
        most = pcpus - (pcpus - 1) * greatest
        if total > most + 1e-9:
            what = f"{_ms(share.budget)} ms of each {_ms(share.period)} ms are {share.reserved:.3f} of a pCPU"
            beside = f", with what is promised already ({' + '.join(f'{one:.3f}' for one in parts)}) {total:.3f}"
            bound = f"{pcpus} - {pcpus - 1} x {greatest:.3f} = {most:.3f}" if pcpus > 1 else "1"
            raise ConfigError(
                f"The reservation cannot be kept: {what}{beside if parts else ''}; {pcpus} pCPU{'s' * (pcpus > 1)} can "
                f"promise {bound}."
            )

    # --- what a scheduler does ----------------------------------------------------------------------------------------

    def held(self, vm: Candidate, seconds: float) -> None:
        """What it costs to get to guests and away from them is everybody's, by the time that each has: reservations pay
        their part, else what was promised would be more than there is; and a short budget is no dearer than a long one.
        See `hypervisor.run.sharing.scheduler.Charging`.
        """
        self._whole += seconds

    def choose(self, ready: Sequence[Candidate]) -> Slice:
        """The earliest deadline, for what is left of the budget, and its slice of the rest if it is next there, too;
        without one, what the rest is for.
        """
        now = self._clock()
        due = [vm for vm in ready if self._has_some(vm, now)]
        if due:
            vm = min(due, key=lambda one: self._awake[one].deadline)
            reservation, seconds = self._awake[vm], 0.0
            if len(due) == 1:
                further = self._rest.next(ready)
                seconds = further.seconds if further.vm is vm else 0.0
            reservation.since = now
            return Slice(vm, min(reservation.left + seconds, self._next_period(now)))
        vm, seconds = self._rest.choose(ready)
        return Slice(vm, min(seconds, self._next_period(now)))

    def wakes(self, vm: Candidate, running: Sequence[Candidate]) -> Candidate | Slice | None:
        """It takes the place of who has no budget, or a later deadline."""
        now = self._clock()
        self._begin(vm, now)
        others = [one for one in running if not self._has_some(one, now)]
        aside = self._rest.wakes(vm, others)
        if not self._has_some(vm, now):
            return aside
        if others:
            return self._rest.furthest(others)
        latest = max(running, key=lambda one: self._awake[one].deadline, default=None)
        return latest if latest is not None and self._awake[latest].deadline > self._awake[vm].deadline else None

    def used(self, vm: Candidate, seconds: float) -> None:
        """Of its budget, or of what it has of the rest."""
        self._rest.used(vm, self._charge(vm, seconds))

    def blocks(self, vm: Candidate, seconds: float) -> None:
        """As `used`; its period goes on while it sleeps."""
        self._rest.blocks(vm, self._charge(vm, seconds))
        self._awake.pop(vm, None)

    # --- reservations -------------------------------------------------------------------------------------------------

    def _begin(self, vm: Candidate, now: float) -> None:
        share, known = vm.share, self._known.get(vm)
        if not share.budget or not share.period:
            self._known.pop(vm, None)
            self._awake.pop(vm, None)
            return
        if known is None or (known.budget, known.period) != (share.budget, share.period):
            known = self._known[vm] = Reservation(share.budget, share.period, now + share.period, share.budget)
        else:
            known.wake(now)
        self._awake[vm] = known

    def _has_some(self, vm: Candidate, now: float) -> bool:
        share, known = vm.share, self._awake.get(vm)
        if (share.budget, share.period) != ((known.budget, known.period) if known else (None, None)):
            self._begin(vm, now)  # it was given another one meanwhile
            known = self._awake.get(vm)
        return known is not None and known.has_some(now, self._had(vm))

    def _charge(self, vm: Candidate, seconds: float) -> float:
        self._inside += seconds
        if self._inside > LATELY_S:
            self._whole, self._inside = self._whole / 2, self._inside / 2
        known = self._awake.get(vm)
        if known is None:
            return seconds
        dearer = max(self._whole / self._inside, 1.0) if self._inside else 1.0
        return known.charge(seconds * dearer, self._clock()) / dearer

    def _next_period(self, now: float) -> float:
        """In how many seconds a budget comes back: of one that waits for that, or may by then."""
        for one in self._awake.values():
            if one.since is None:
                one.renew(now)
        return min(
            (one.deadline - now for one in self._known.values() if one.deadline > now + TINY_S), default=float("inf")
        )


def _ms(seconds: float | None) -> str:
    return f"{(seconds or 0) * 1e3:g}"


__all__ = ["Edf", "Reservation"]
