"""VMs that have left their pCPU for others. One that comes back soon finds everything as it was; of those that do not,
as most of a crowd, what takes memory is packed.
"""

from __future__ import annotations

import time
import weakref
from typing import Protocol

COLD_S = 1.0
"""For how long a VM stays as it is, in host seconds. To pack a Linux guest and to unpack it takes 150 us in all."""


class Guest(Protocol):
    """Who leaves a pCPU (`hypervisor.run.sharing.placing.Place`)."""

    def set_aside(self) -> None:
        """Take as little memory as it can, unless it is on a pCPU."""
        ...


class Left:
    """Those of a host that are as they were, and when they left: the latest at the end."""

    def __init__(self) -> None:
        self._since: dict[weakref.ref[Guest], float] = {}

    def add(self, guest: Guest) -> None:
        """This one has left its pCPU: who left long ago is set aside."""
        now, one = time.monotonic(), weakref.ref(guest)
        self._since.pop(one, None)
        self._since[one] = now
        while self._since:
            first = next(iter(self._since))
            if now - self._since[first] < COLD_S:
                return
            del self._since[first]
            if (cold := first()) is not None:
                cold.set_aside()


__all__ = ["Left"]
