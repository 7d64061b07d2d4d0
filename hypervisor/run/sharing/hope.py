"""Whether a wait for a pCPU can end, or all that it waits for wait in turn: in handlers, which keep their pCPU."""

from __future__ import annotations

from collections.abc import Sequence

from hypervisor.errors import ConfigError
from hypervisor.run.sharing.hold import Hold


def check(hold: Hold, holds: Sequence[Hold], pcpus: int) -> None:
    """Raise `ConfigError` if ``hold``, one of ``holds``, can never get one of so many pCPUs.

    Only a wait that begins in a handler can close such a circle.
    """
    running = [one for one in holds if one.pcpu is not None]
    inside = [one for one in running if one.thread == hold.waiter]
    if not inside or hold.pcpu is not None or _hopeful(hold, holds, running, pcpus):
        return
    names = ", ".join(one.vm.name for one in inside)
    raise ConfigError(
        f"The VM {hold.vm.name} waits for a pCPU in a handler of {names}, which keeps its own pCPU until that returns: "
        "the wait would never end. Use the other VM between runs, or give the host more cpus."
    )


def _hopeful(hold: Hold, holds: Sequence[Hold], running: Sequence[Hold], pcpus: int) -> bool:
    """Who runs has hope unless its thread waits for somebody without; who waits has hope if its VM is free, or will be,
    and so is a pCPU.
    """
    hopeful: set[Hold] = set()
    holders = {one.vm: one for one in running}
    waits: dict[int, list[Hold]] = {}
    for one in holds:
        if one.waiter and not (one.task is None and one.pcpu is not None):
            waits.setdefault(one.waiter, []).append(one)
    free = len(running) < pcpus
    grown = True
    while grown and hold not in hopeful:
        grown = False
        for one in holds:
            if one in hopeful:
                continue
            if one.pcpu is not None:
                good = all(other in hopeful for other in waits.get(one.thread, ()))
            else:
                holder = holders.get(one.vm)
                somewhere = free or any(other in hopeful for other in running)
                good = somewhere and (holder is None or holder in hopeful)
            if good:
                hopeful.add(one)
                grown = True
    return hold in hopeful


__all__ = ["check"]
