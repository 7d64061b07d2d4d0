"""Deliveries made again on paper: the same chain as the oracle's, whatever the tables hold."""

from __future__ import annotations

from collections import Counter

import pytest

from hypervisor.debug.autopsy import autopsy
from hypervisor.debug.delivery import Event
from hypervisor.traps.history import EXCEPTION, EXTERNAL, SOFTWARE
from tests.debug.oracle_vcpu import oracle_vcpu
from tests.oracle.event import Kind
from tests.oracle.events import Delivered, Shutdown, TaskGate, deliver
from tests.oracle.generate import EVENT_MODES, random_event
from tests.oracle.state import Memory

ORIGIN = {
    Kind.EXCEPTION: EXCEPTION,
    Kind.SOFTWARE_INT: SOFTWARE,
    Kind.SOFTWARE_EXCEPTION: SOFTWARE,
    Kind.EXTERNAL: EXTERNAL,
}
ENDS = {Delivered: "delivered", Shutdown: "shutdown", TaskGate: "task gate"}
SETTLED_OTHERWISE = {
    "partial-push", "esp-high-half", "smap-inner-stack", "stack-at-the-canonical-edge", "stack-or-rip-first",
}  # fmt: skip
"""What the manuals leave open, and what a frame that lands in the tables themselves would change."""


@pytest.mark.parametrize("mode", EVENT_MODES)
def test_random_events_end_as_the_oracles_do(mode: str) -> None:
    ends: Counter[str] = Counter()
    steps: Counter[str] = Counter()
    for seed in range(2000):
        case = random_event(seed, mode)
        expected = deliver(Memory(case.memory), case.state, case.vector, case.error, case.kind, case.length)
        if expected.unsettled & SETTLED_OTHERWISE:
            continue
        error = case.error if case.kind is Kind.EXCEPTION else None
        event = Event(case.vector, error, ORIGIN[case.kind], None, case.kind is Kind.SOFTWARE_INT)
        found = autopsy(oracle_vcpu(Memory(case.memory), case.state), event)
        tried = [(made.event.vector, made.event.error or 0) for made in found.attempts]
        wanted = [(event.vector, event.error or 0) for event in expected.chain]
        reasons = [made.refusal.why for made in found.attempts if made.refusal]
        assert (found.end, tried) == (ENDS[type(expected)], wanted), f"random_event({seed}, {mode!r}): {reasons}"
        ends[found.end] += 1
        for made in found.attempts:
            if made.refusal is not None:
                steps[made.refusal.step] += 1
    assert ends["delivered"] > 500 and ends["shutdown"] > 10, ends
    assert len(steps) >= (2 if mode == "real" else 8), steps
