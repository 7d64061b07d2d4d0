"""How far a machine may run whose time others depend on, and it on theirs."""

from __future__ import annotations

from enum import Enum
from typing import Protocol

from hypervisor.outcome.result import Reason


class Sleep(Enum):
    """What becomes of a machine that sleeps until some time."""

    PASSES = "nothing comes before: the time passes"
    WAITS = "others have not come so far"
    LASTS = "nothing comes, ever"
    WOKEN = "something comes before, which is a timer now"


class Pace(Protocol):
    """What paces a machine (`hypervisor.world`); its run asks between two blocks, on the machine's own thread.

    Where the run is made to wait is the host's doing. It stands there as behind a kick, so the guest cannot tell.
    """

    horizon_ns: int
    """It may run to this virtual time."""

    def come(self, now_ns: int) -> bool:
        """The machine has come to the horizon, or beyond by the end of a block; whether it may run on. If not, its
        run is woken (`Machine.look`) when it may.
        """
        ...

    def sleep(self, now_ns: int, until_ns: int) -> Sleep:
        """No vCPU is awake, and nothing of the machine's own wakes one before this time. If it waits, it is woken."""
        ...

    def earliest_ns(self, now_ns: int) -> int:
        """When something from outside may enter the machine, which stands at ``now_ns``."""
        ...

    def check_may_begin(self) -> None:
        """Raises `ConfigError` if the machine cannot be run."""
        ...

    def check_may_go_back(self) -> None:
        """Raises `ConfigError` if the machine cannot become what it was at another time, alone."""
        ...

    def over(self, reason: Reason) -> None:
        """A run of it is over."""
        ...


__all__ = ["Pace", "Sleep"]
