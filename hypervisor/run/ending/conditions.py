"""Conditions that end a run: an amount of virtual time, a predicate; for text see `hypervisor.console.expecting`."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from hypervisor.outcome.result import After
from hypervisor.units import FOREVER_NS, nanoseconds

if TYPE_CHECKING:
    from hypervisor.run.vm_clock import VmClock


class Condition:
    """Holds or not; `deadline_ns` is a virtual time at which it should be asked."""

    deadline_ns = FOREVER_NS
    after_each_exit = False
    """Whether it should be asked after every exit, and not only when Python looks in."""
    looks_at_guest = True
    """Whether it may begin to hold without a device or a handler having done something: by what the guest stores."""
    text = ""

    def holds(self) -> bool:
        """Whether the run should end now."""
        raise NotImplementedError

    def went_back(self) -> None:
        """The machine has become what it was at another moment: what it has been since tells nothing."""

    def __enter__(self) -> Condition:
        return self

    def __exit__(self, *exc: object) -> None:
        return None


Until = str | re.Pattern[str] | After | Condition | Callable[[], object] | None
"""What a user may give for ``until=``."""


class AfterTime(Condition):
    """Virtual time has passed."""

    looks_at_guest = False

    def __init__(self, clock: VmClock, seconds: float) -> None:
        self._clock = clock
        self.deadline_ns = clock.now_ns + nanoseconds(seconds)
        self.text = f"{seconds} s of virtual time have passed"

    def holds(self) -> bool:
        """Whether the time has come."""
        return self._clock.now_ns >= self.deadline_ns


class Predicate(Condition):
    """A function of the user's."""

    after_each_exit = True

    def __init__(self, function: Callable[[], object]) -> None:
        self._function = function
        self.text = f"{getattr(function, '__name__', 'the condition')} holds"

    def holds(self) -> bool:
        """What the function answers."""
        return bool(self._function())
