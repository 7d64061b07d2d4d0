"""Whether a wait for a VM can end, or all that it waits for wait in turn: in handlers, which keep their pCPU."""

from __future__ import annotations

from collections.abc import Sequence

from hypervisor.errors import ConfigError
from hypervisor.run.sharing.hold import Hold


def check(hold: Hold, holds: Sequence[Hold], pcpus: int, thread: int) -> None:
    """Raise `ConfigError` if ``hold``, one of ``holds`` for so many pCPUs, can never come to its end, for which this
    thread waits (or, if it is a visit, to its beginning).

    Only a wait that begins in a handler can close such a circle.
    """
    inside = [one for one in holds if one.pcpu is not None and one.thread == thread]
    if not inside or hold in _hopeful(holds, pcpus):
        return
    names = ", ".join(one.vm.name for one in inside)
    raise ConfigError(
        f"A handler of {names}, which keeps its pCPU until it returns, waits for the VM {hold.vm.name}: the wait would "
        "never end. Use that VM between runs, or give the host more cpus."
    )


def _hopeful(holds: Sequence[Hold], pcpus: int) -> set[Hold]:
    """Who has a pCPU has hope unless its thread waits for somebody without; who waits for one has hope if its VM is
    free, or will be, and a pCPU as well.
    """
    running = [one for one in holds if one.pcpu is not None]
    holders = {one.vm: one for one in running}
    waits = {one.thread: [other for other in holds if one.thread in other.waiters] for one in running}
    hopeful: set[Hold] = set()
    before = -1
    while before < len(hopeful):
        before = len(hopeful)
        somewhere = len(running) < pcpus or any(one in hopeful for one in running)
        for one in holds:
            if one.pcpu is not None:
                good = all(other in hopeful for other in waits[one.thread])
            else:
                holder = holders.get(one.vm)
                good = somewhere and (holder is None or holder in hopeful)
            if good:
                hopeful.add(one)
    return hopeful


__all__ = ["check"]
