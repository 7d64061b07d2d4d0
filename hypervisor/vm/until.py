"""What ``until=`` may be."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from hypervisor.console.expecting import any_source, compiled, exact
from hypervisor.errors import ConfigError
from hypervisor.outcome.result import After
from hypervisor.run.ending.conditions import AfterTime, Condition, Predicate, Until
from hypervisor.traps.callables import only_begins

if TYPE_CHECKING:
    from hypervisor.console.expecting import Source
    from hypervisor.run.vm_clock import VmClock


def condition(until: Until, clock: VmClock, searched: list[Source]) -> Condition | None:
    """The condition that ``until=`` of `VM.run` means; ``searched`` are the VM's streams and screens. Raises
    `ConfigError` for what is none.
    """
    if until is None:
        return None
    if isinstance(until, Condition):
        return until
    if isinstance(until, (str, re.Pattern)):
        return any_source(searched, compiled(until) if isinstance(until, re.Pattern) else exact(until))
    if isinstance(until, After):
        return AfterTime(clock, until.seconds)
    if made := only_begins(until):
        raise ConfigError(f"until={until!r}: calling it only makes {made}.")
    if callable(until):
        return Predicate(until)
    raise ConfigError(
        f"until={until!r}: give a text, a compiled regular expression, hv.after(seconds), "
        "a condition such as vm.serial[0].contains(text), or a function without arguments."
    )
