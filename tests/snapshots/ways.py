"""Ways to go on that no guest can notice: a machine runs to its end, and somebody does something to it meanwhile."""

from __future__ import annotations

import random
from collections.abc import Callable

import hypervisor as hv
from tests.gdb.client import Visitor
from tests.twins.resume import Outcome, outcome

PIECES = 10
SHORT_RUNS, SHORT_NS = 1000, 2000

Way = Callable[[hv.VM, int, float, random.Random], Outcome]
"""Runs a machine that nobody else's runs beside to a time, in so many seconds of the host, as chance has it."""


def run_to(vm: hv.VM, moment_ns: int, patience_s: float) -> str:
    """Run to this time. Returns how the run ended, if the guest does not go on."""
    result = vm.run(virtual_timeout=(moment_ns - vm.clock.now_ns) / 1e9, timeout=patience_s)
    assert result.reason is not hv.Reason.TIMEOUT, f"{vm.name} has not come to {moment_ns} ns in {patience_s:g} s."
    return "" if result.reason is hv.Reason.VIRTUAL_TIMEOUT else result.reason.value


def with_cold_code(vm: hv.VM, limit_ns: int, patience_s: float, rng: random.Random) -> Outcome:
    """Its translated code is forgotten, now and at random moments."""
    now = vm.clock.now_ns
    for stop in sorted(rng.randrange(now, max(limit_ns, now + 1)) for _ in range(PIECES)):
        for pcpu in vm.host.pcpus:
            pcpu.memory.forget_code()
        if stop > vm.clock.now_ns and (end := run_to(vm, stop, patience_s)):
            return outcome(vm, 0) | {"reason": end}
    return outcome(vm, limit_ns, patience_s)


def in_short_runs(vm: hv.VM, limit_ns: int, patience_s: float, rng: random.Random) -> Outcome:
    """It is left and gone on with after almost each block for a while, and then runs on. Whatever waits to be noticed
    is noticed where a run begins, so it must have been noticed there without that.
    """
    for _ in range(SHORT_RUNS):
        stop = vm.clock.now_ns + rng.randint(1, SHORT_NS)
        if stop > limit_ns:
            break
        if end := run_to(vm, stop, patience_s):
            return outcome(vm, 0) | {"reason": end}
    return outcome(vm, limit_ns, patience_s)


def with_gdb(vm: hv.VM, limit_ns: int, patience_s: float, rng: random.Random) -> Outcome:
    """A debugger comes, looks and leaves, before the first instruction and at random moments."""
    with Visitor(vm, rng) as visitor:
        end = outcome(vm, limit_ns, patience_s)
    assert visitor.visits, f"gdb was never attached to {vm.name}"
    return end


def with_coverage(vm: hv.VM, limit_ns: int, patience_s: float, rng: random.Random) -> Outcome:
    """The blocks that it executes are counted."""
    vm.coverage.start()
    before = dict(vm.stats)
    end = outcome(vm, limit_ns, patience_s)
    assert vm.coverage.blocks or vm.stats == before, f"no block of {vm.name} was counted"
    return end


WAYS: dict[str, Way] = {
    "a fork whose code was forgotten": with_cold_code,
    "a fork in short runs": in_short_runs,
    "a fork with gdb": with_gdb,
    "a fork with coverage": with_coverage,
}

__all__ = ["WAYS", "Way", "run_to"]
