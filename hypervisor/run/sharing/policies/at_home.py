"""Who is asked about first of those that wait: the one that was on the free pCPU last.

Each pCPU has an engine of its own, which translates what it runs. A VM that is on another pCPU in every slice has all
of its code translated twice, and each time finds the host's caches cold. So it may go before those that came earlier
and would have to move, unless it has had more than they.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hypervisor.engine.pcpu import PCpu
    from hypervisor.run.sharing.hold import Customer, Hold

AHEAD_S = 0.08
"""By how many host seconds it may have had more than those before which it goes. A Linux that boots and moves has
2 to 8 MB of code translated again, which takes up to 0.1 s: to even out less is not worth a move.
"""


def wakes(vm: Customer, others: Iterable[Customer]) -> None:
    """A VM wants a pCPU that did not before: what it has not had in the meantime is nothing that it may claim."""
    least = min((other.had_s for other in others if other is not vm), default=0.0)
    vm.had_s = max(vm.had_s, least)


def stays(hold: Hold, free: Collection[PCpu]) -> bool:
    """Whether this is at home on one of the free pCPUs, or nowhere."""
    return hold.vm.last is None or hold.vm.last in free


def first(waiting: list[Hold], free: Collection[PCpu]) -> list[Hold]:
    """Those that wait in the order in which they came, but for the one that goes before others. (It is not the last of
    them, which has only just come, and nobody goes before a visit.)
    """
    most = float("inf")
    for n, hold in enumerate(waiting[:-1]):
        if hold.task is None:
            break
        had = hold.vm.had_s
        if stays(hold, free) and had <= most + AHEAD_S:
            return [hold, *waiting[:n], *waiting[n + 1 :]]
        most = min(most, had)
    return waiting


__all__ = ["first", "stays", "wakes"]
