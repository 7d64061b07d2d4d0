"""What a reservation comes to where others have the host's processors, too: worked out once more, from what the pCPU's
thread got of them and when.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest import mock

from hypervisor.run.sharing.accounts import Accounts
from hypervisor.run.sharing.policies.edf import BEHIND
from hypervisor.run.threads.thread_meter import Reading


@contextmanager
def readings() -> Iterator[list[Reading]]:
    """What the meter of the pCPU's thread says when the first slice begins, and at the end of each one; of one pCPU."""
    found: list[Reading] = []
    leaves = Accounts.leaves

    def seen(self: Accounts, hold: Any) -> tuple[float, float]:
        seconds = leaves(self, hold)
        if not found:
            found.append(hold.got)
        found.append(self._accounts[hold.pcpu].cut)
        return seconds

    with mock.patch.object(Accounts, "leaves", seen):
        yield found


def part(read: Sequence[Reading], budget: float, period: float, others: int) -> float:
    """The part of what the thread computed that one is to have which wants all that it can get, beside so many others:
    its budget in each period, as far as the thread had a processor for it, what it could not have of it as long as that
    is no more than it keeps, and its part of the rest. Within a slice the thread is taken to compute evenly.
    """
    left, end, had = budget, read[0].wall + period, 0.0
    for one, two in itertools.pairwise(read):
        now, speed = one.wall, (two.cpu - one.cpu) / max(two.wall - one.wall, 1e-9)
        while now < two.wall:
            until = min(two.wall, end)
            computed = (until - now) * speed
            taken = min(computed, left)
            had += taken + (computed - taken) / (others + 1)
            left -= taken
            now = until
            if now == end:
                left, end = min(left + budget, BEHIND * budget), end + period
    return had / (read[-1].cpu - read[0].cpu)


__all__ = ["part", "readings"]
