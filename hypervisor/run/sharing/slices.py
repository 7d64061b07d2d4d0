"""The end of slices."""

from __future__ import annotations

from collections.abc import Sequence

from hypervisor.run.sharing import scheduler
from hypervisor.run.sharing.hold import Hold


def press(holds: Sequence[Hold], now: float) -> float:
    """Tell those whose slice is over, and whom somebody waits for, to leave; when the next one is (of time.monotonic).

    A VM that somebody wants to look at is the one to leave; for others it is a VM that sleeps, else that whose slice
    ends first.
    """
    running = [one for one in holds if one.pcpu is not None]
    running.sort(key=lambda one: (one.rouse is None, one.since + one.seconds))
    by_vm = {one.vm: one for one in running}
    again = scheduler.SLICE_S
    for one in holds:
        if one.pcpu is not None:
            continue
        if not running:
            break
        target = by_vm.get(one.vm) or running[0]
        if target not in running:
            continue
        running.remove(target)
        left = 0.0 if target.rouse else target.since + target.seconds - now
        if left > 0:
            again = min(again, left)
            continue
        target.over = True
        if target.rouse:
            target.rouse()
        elif target.pcpu is not None:
            target.pcpu.kick()
    return now + again


__all__ = ["press"]
