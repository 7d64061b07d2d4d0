"""The end of slices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from hypervisor.run.sharing import scheduler
from hypervisor.run.sharing.hold import NEVER, Hold

if TYPE_CHECKING:
    from hypervisor.engine.pcpu import PCpu

PATIENCE_S = 0.0002
"""How soon a slice is looked at again whose thread has computed less than was thought, in host seconds."""

NOTHING_S = 1e-9
"""A slice of which no more is left is over, in host seconds: clocks do not count less."""


def press(holds: Sequence[Hold], now: float, allows: Callable[[Hold], Sequence[PCpu]]) -> float:
    """Tell those whose slice is over, and whose pCPU somebody waits for, to leave; when the next one may be (of
    time.monotonic). ``allows`` says where one that waits may run.

    A VM that somebody wants to look at is the one to leave; for others it is a VM that sleeps, else that of whose slice
    least is left.
    """
    running = [one for one in holds if one.pcpu is not None]
    waiting = [one for one in holds if one.waits]
    if not waiting and not any(one.firm for one in running):
        return NEVER
    left = {one: one.left(now) for one in running}
    running.sort(key=lambda one: (one.rouse is None, left[one]))
    wanted = [one for one in running if one.firm]
    by_vm = {one.vm: one for one in running}
    again = scheduler.SLICE_S if waiting else NEVER
    for one in waiting:
        target = by_vm.get(one.vm) or next((other for other in running if other.pcpu in allows(one)), None)
        if target in running:
            running.remove(target)
            wanted.append(target)
    for target in wanted:
        target.wanted = True
        if left[target] > NOTHING_S:
            again = min(again, left[target])
            if target.guest_knows > target.seconds and target.pcpu is not None:
                target.guest_knows = target.seconds
                target.pcpu.kick()  # it goes on at once, up to where the slice ends now
            continue
        target.over = True
        if target.rouse:
            target.rouse()
        elif target.pcpu is not None:
            target.pcpu.kick()
    return now + again


__all__ = ["press"]
