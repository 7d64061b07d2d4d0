"""How long a run may go on, in host time, and the end of what holds it up beyond that."""

from __future__ import annotations

import time
from collections.abc import Callable
from math import inf

from hypervisor.outcome.result import Reason
from hypervisor.run.ending.ends import End
from hypervisor.run.threads import interrupting
from hypervisor.run.threads.interrupting import AGAIN_S, Guard, Overdue

STANDING_S = 0.05
"""How soon a run that stands still is looked at again, in host seconds."""


class Term:
    """A run's timeout and its being asked to end: from `interrupting.GRACE_S` later on, or as soon as it is asked
    again, a handler that goes on is ended by an exception.
    """

    def __init__(self, seconds: float | None, busy: Callable[[], str]) -> None:
        """``seconds`` from now on, without end if that is None; ``busy()`` as for `Guard`."""
        self._seconds = seconds
        self.end_at = None if seconds is None else time.monotonic() + seconds
        """Of time.monotonic."""
        self.guard = Guard(busy)
        self._asked_at: float | None = None
        self._kind: type[BaseException] = Overdue

    def extend(self, seconds: float) -> None:
        """The run stood still for so long."""
        if self.end_at is not None:
            self.end_at += seconds

    @property
    def over(self) -> bool:
        """Whether the time is."""
        return self.end_at is not None and time.monotonic() >= self.end_at

    def end(self) -> End:
        """What that means for the run."""
        return End(Reason.TIMEOUT, f"{self._seconds:g} s of host time are over")

    def held_up(self, end: End) -> End:
        """That end, of a run in which something had to be interrupted first."""
        return end._replace(message=f"{end.message}, and {self.guard.ended} had not returned")

    def ask(self, kind: type[BaseException] = Overdue) -> None:
        """Somebody wants the run to end; what does not return meets an exception of this kind."""
        if self._asked_at is None:
            self._asked_at, self._kind = time.monotonic(), kind
        else:
            self.press()

    def press(self) -> None:
        """There is no time of grace, or no longer."""
        self._asked_at = -inf

    def hurry(self, *, stands: bool, look: Callable[[], None]) -> float:
        """Do what is due; host seconds until this should be called again, negative for never.

        ``stands`` is whether the run stands still, and ``look()`` has it look at its time.
        """
        now = time.monotonic()
        if self._asked_at is None:
            if self.end_at is None:
                return -1
            if stands:
                return STANDING_S
            if now < self.end_at:
                return self.end_at - now
            self._asked_at = now
            look()
        left = self._asked_at + interrupting.GRACE_S - now
        if left > 0:
            return left
        self.guard.interrupt(self._kind)
        return AGAIN_S


__all__ = ["Term"]
