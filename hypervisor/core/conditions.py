"""Conditions that end a run: an amount of virtual time, a predicate; for text see `hypervisor.core.expecting`."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hypervisor.core.callables import only_begins
from hypervisor.core.result import After
from hypervisor.errors import ConfigError
from hypervisor.units import FOREVER_NS, nanoseconds

if TYPE_CHECKING:
    from hypervisor.core.vm import VM


class Condition:
    """Holds or not; `deadline_ns` is a virtual time at which it should be asked."""

    deadline_ns = FOREVER_NS
    after_each_exit = False
    """Whether it should be asked after every exit, and not only when Python looks in."""
    text = ""

    def holds(self) -> bool:
        """Whether the run should end now."""
        raise NotImplementedError

    def __enter__(self) -> Condition:
        return self

    def __exit__(self, *exc: object) -> None:
        return None


class AfterTime(Condition):
    """Virtual time has passed."""

    def __init__(self, vm: VM, seconds: float) -> None:
        self._clock = vm.clock
        self.deadline_ns = vm.clock.now_ns + nanoseconds(seconds)
        self.text = f"{seconds} s of virtual time have passed"

    def holds(self) -> bool:
        """Whether the time has come."""
        return self._clock.passed_ns >= self.deadline_ns


class Predicate(Condition):
    """A function of the user's."""

    after_each_exit = True

    def __init__(self, function: Callable[[], object]) -> None:
        self._function = function
        self.text = f"{getattr(function, '__name__', 'the condition')} holds"

    def holds(self) -> bool:
        """What the function answers."""
        return bool(self._function())


def condition(vm: VM, until: Any) -> Condition | None:
    """The condition that ``until=`` of `VM.run` means. Raises `ConfigError` for what is none."""
    from hypervisor.core.expecting import any_source, compiled, exact

    if until is None:
        return None
    if isinstance(until, Condition):
        return until
    if isinstance(until, (str, re.Pattern)):
        return any_source(vm, compiled(until) if isinstance(until, re.Pattern) else exact(until))
    if isinstance(until, After):
        return AfterTime(vm, until.seconds)
    if made := only_begins(until):
        raise ConfigError(f"until={until!r}: calling it only makes {made}.")
    if callable(until):
        return Predicate(until)
    raise ConfigError(
        f"until={until!r}: give a text, a compiled regular expression, hv.after(seconds), "
        "a condition such as vm.serial[0].contains(text), or a function without arguments."
    )
