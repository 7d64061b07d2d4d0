"""What simulated VMs want of pCPUs: jobs with a beginning, an amount of work, and perhaps a time to be done by."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import NamedTuple, Protocol

FOREVER_S = float("inf")


class Job(NamedTuple):
    """All in seconds. A VM does its jobs one after another, and sleeps when it has none."""

    begin: float
    """When the VM has it to do."""
    work: float
    """How long it takes on a pCPU."""
    deadline: float = FOREVER_S
    """When it is to be done."""


class Workload(Protocol):
    """What one VM does."""

    def jobs(self) -> Iterator[Job]:
        """In the order of their beginnings."""
        ...


@dataclass(frozen=True)
class Busy:
    """Computes without end."""

    begin: float = 0.0

    def jobs(self) -> Iterator[Job]:
        """One."""
        yield Job(self.begin, FOREVER_S)


@dataclass(frozen=True)
class Periodic:
    """Has ``work`` to do in each ``period``, and is to be done with it at the end of that."""

    period: float
    work: float
    begin: float = 0.0

    def jobs(self) -> Iterator[Job]:
        """One each period."""
        for number in count():
            begin = self.begin + number * self.period
            yield Job(begin, self.work, begin + self.period)


@dataclass(frozen=True)
class Waking:
    """Wakes at random, ``every`` so many seconds on average, and has a little ``work`` then: somebody types."""

    every: float
    work: float
    seed: int = 0
    begin: float = 0.0

    def jobs(self) -> Iterator[Job]:
        """At times with exponential distances, of ``seed``."""
        generator, begin = random.Random(self.seed), self.begin
        while True:
            begin += generator.expovariate(1 / self.every)
            yield Job(begin, self.work)


@dataclass(frozen=True)
class Jobs:
    """These, and no others."""

    all: tuple[Job, ...]

    def jobs(self) -> Iterator[Job]:
        """As they were given."""
        yield from self.all


__all__ = ["FOREVER_S", "Busy", "Job", "Jobs", "Periodic", "Waking", "Workload"]
