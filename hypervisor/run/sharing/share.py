"""What a VM is to get of its host's processors: data, which policies and the queue read."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from hypervisor.errors import ConfigError
from hypervisor.units import parse_size

CAP_PERIOD_S = 0.1
"""Host seconds within which a VM with a cap gets it; what it had too much is taken off the next ones."""

SCRAP_S = 0.0001
"""What is too little for a slice, in host seconds: it waits for the next period."""

LEAST_S, MOST_S = 0.001, 10.0
"""Bounds of a reservation's budget and period, in host seconds: a slice cannot end more often than that."""

MOST_WEIGHT = 10_000

LEAST_BANDWIDTH, LEAST_IOPS, DRIVES_SLICE_S = 4096, 0.1, 0.002
"""Bytes a second that a VM's drives may move at least, and reads and writes; and how often it is looked how many those
were.
"""


@dataclass(frozen=True)
class Share:
    """All in host seconds; of one pCPU, as a VM is never on two. Raises `ConfigError` for what means nothing."""

    weight: float = 1.0
    """Its part beside other VMs that want pCPUs: 2 gets twice what 1 gets. For ``credit``, and what ``edf`` leaves."""
    cap: float | None = None
    """The part of a pCPU that it gets at most, though one is free: 0.25 is a quarter. With any scheduler."""
    budget: float | None = None
    """How much it is promised in each ``period``. For ``edf``."""
    period: float | None = None
    pcpus: Iterable[int] | None = None
    """The numbers of the pCPUs that it runs on; None for all. With any scheduler."""
    drive_bandwidth: str | int | None = None
    """Bytes of host seconds that its drives may read and write together (``"10M"``): with more it waits, and its guest
    does not see that. With any scheduler."""
    drive_iops: float | None = None
    """How often a second of the host they may read and write together, in the same way."""

    def __post_init__(self) -> None:
        if not 1 / MOST_WEIGHT <= self.weight <= MOST_WEIGHT:
            raise ConfigError(f"weight={self.weight!r}: a weight is 1/{MOST_WEIGHT} to {MOST_WEIGHT}.")
        if self.cap is not None and not 0.01 <= self.cap <= 1:
            raise ConfigError(f"cap={self.cap!r}: a cap is a part of one pCPU, 0.01 to 1.")
        if (self.budget is None) != (self.period is None):
            raise ConfigError("A reservation has both, budget= and period=: so many seconds of so many.")
        if self.budget is not None and self.period is not None and not LEAST_S <= self.budget <= self.period <= MOST_S:
            raise ConfigError(
                f"budget={self.budget!r}, period={self.period!r}: a budget is at least {LEAST_S} s and at most its "
                f"period, which is at most {MOST_S:g} s."
            )
        if self.drive_bandwidth is not None and parse_size(self.drive_bandwidth) < LEAST_BANDWIDTH:
            raise ConfigError(
                f"drive_bandwidth={self.drive_bandwidth!r}: give bytes a second, {LEAST_BANDWIDTH} at least."
            )
        if self.drive_iops is not None and not self.drive_iops >= LEAST_IOPS:
            raise ConfigError(f"drive_iops={self.drive_iops!r}: give reads and writes a second, {LEAST_IOPS} at least.")
        if self.pcpus is not None:
            numbers = frozenset(self.pcpus)
            if not numbers or any(not isinstance(one, int) or one < 0 for one in numbers):
                raise ConfigError(f"pcpus={self.pcpus!r}: give the numbers of pCPUs, from 0 on, one at least.")
            object.__setattr__(self, "pcpus", numbers)

    @property
    def reserved(self) -> float:
        """The part of a pCPU that it is promised, 0 without a reservation."""
        return self.budget / self.period if self.budget and self.period else 0.0

    @property
    def limits_drives(self) -> bool:
        """Whether what its drives do is limited."""
        return self.drive_bandwidth is not None or self.drive_iops is not None


class Moved(NamedTuple):
    """What drives have done since they were made."""

    size: int
    """Bytes that they have read and written."""
    times: int
    """How often they have read or written some."""


class Bucket:
    """A token bucket without a reserve, kept as the time at which it is empty. What comes in one slice is not held
    back, and counts for the next ones. Times are of one clock, in seconds.
    """

    def __init__(self) -> None:
        self._known: int | None = None
        self._free = 0.0
        """When all that was taken has been allowed."""

    def free(self, taken: int, rate: float | None, since: float) -> float:
        """When all that was taken until now has been allowed: so much in all, at this rate, None for any. No sooner
        than if what is new had begun at ``since``.
        """
        if rate is None:
            self._known, self._free = None, 0.0
            return 0.0
        more = 0 if self._known is None else max(taken - self._known, 0)
        self._known = taken
        self._free = max(self._free, since) + more / rate
        return self._free


class Allowance:
    """What a VM with a cap may still use, and when its drives have been allowed what they have moved. Periods follow
    one another from the first time that it is asked.
    """

    def __init__(self) -> None:
        self.moved: Callable[[], Moved] = lambda: Moved(0, 0)
        """What its drives have done."""
        self._bytes, self._times = Bucket(), Bucket()
        self._let_go = 0.0
        """When it was let go last."""
        self.left = 0.0
        """Host seconds of the present period, negative for what it had too much."""
        self._ends = 0.0

    def opens(self, share: Share, now: float) -> float:
        """When it may run: 0 for now, else of the same clock as ``now``."""
        return max(self._by_cap(share, now), self._by_drives(share, now))

    def _by_drives(self, share: Share, now: float) -> float:
        moved = self.moved() if share.limits_drives else Moved(0, 0)
        bandwidth = None if share.drive_bandwidth is None else float(parse_size(share.drive_bandwidth))
        free = max(
            self._bytes.free(moved.size, bandwidth, self._let_go),
            self._times.free(moved.times, share.drive_iops, self._let_go),
        )
        if free > now:
            return free
        self._let_go = now
        return 0.0

    def _by_cap(self, share: Share, now: float) -> float:
        if share.cap is None:
            return 0.0
        each = share.cap * CAP_PERIOD_S
        if now >= self._ends:
            passed = math.floor((now - self._ends) / CAP_PERIOD_S) + 1
            self._ends += passed * CAP_PERIOD_S
            self.left = min(min(self.left, SCRAP_S) + passed * each, each + SCRAP_S)
        if self.left > SCRAP_S:
            return 0.0
        return self._ends + math.floor(max(-self.left, 0.0) / each) * CAP_PERIOD_S

    def charge(self, seconds: float) -> None:
        """It has used these."""
        self.left -= seconds


__all__ = ["CAP_PERIOD_S", "DRIVES_SLICE_S", "Allowance", "Moved", "Share"]
