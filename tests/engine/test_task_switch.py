"""Task gates: random events whose gate is one, through the engine and through the oracle."""

from __future__ import annotations

import os
import random
from dataclasses import replace

import pytest

from hypervisor.arch.exits import ExitKind
from hypervisor.engine import block as b
from hypervisor.engine.task_switch import through_gate
from tests.engine.machine import machine
from tests.engine.test_events import INCOMPARABLE, chain, differences, raise_it, tried
from tests.oracle import build
from tests.oracle.events import Shutdown, TaskGate, deliver
from tests.oracle.generate import EventCase, random_event
from tests.oracle.random_tables import MEMORY_SIZE, TASK_SELECTOR
from tests.oracle.state import Memory

CASES = 4_000 if os.environ.get("HYPERVISOR_STRESS") else 500
LEGACY = ("v86", "protected16", "protected32")
UNSETTLED = INCOMPARABLE | {"tss-trap-bit"}


def with_task_gates(seed: int, mode: str) -> EventCase:
    """A random event whose gate, and maybe those of the faults that follow, is a task gate; maybe a 16-bit one."""
    rng = random.Random(f"task {seed} {mode}")
    case = random_event(seed, mode)
    memory = bytearray(case.memory)
    gates = {case.vector} | {vector for vector in (8, 10, 13, 14) if rng.random() < 0.3}
    for vector in gates:
        at = case.state.idtr.base + 8 * vector
        memory[at : at + 8] = build.gate(5, TASK_SELECTOR | rng.choice((0, 0, 3)), 0, 3)
    if rng.random() < 0.2:
        at = case.state.gdtr.base + TASK_SELECTOR
        memory[at + 5] = memory[at + 5] & ~8 | (0x80 if rng.random() < 0.8 else 0)
    return replace(case, memory=bytes(memory))


@pytest.mark.parametrize("mode", LEGACY)
def test_random_task_switches(mode: str) -> None:
    guest = machine(MEMORY_SIZE)
    outcomes: dict[str, int] = {}
    for seed in range(CASES):
        case = with_task_gates(seed, mode)
        memory = Memory(case.memory)
        expected = deliver(memory, case.state, case.vector, case.error, case.kind, case.length, follow_task_gates=True)
        assert not isinstance(expected, TaskGate)
        outcome = raise_it(guest, case)
        gates = 0
        if outcome == ExitKind.TASK_GATE:
            gates = 1
            event = (guest.word(b.W_VECTOR), guest.word(b.W_ERROR), guest.word(b.W_LEVEL))
            outcome = through_gate(guest.pcpu, *event)
        if expected.unsettled & UNSETTLED:
            outcomes["unsettled"] = outcomes.get("unsettled", 0) + 1
            continue
        where = f"with_task_gates({seed}, {mode!r}), {expected.unsettled}: "
        events = [(event.vector, event.error or 0) for event in expected.chain]
        found = tried(chain(guest), outcome == ExitKind.SHUTDOWN)
        assert found == events[: len(found)], where + f"{found} instead of {events}"
        assert outcome == (int(ExitKind.SHUTDOWN) if isinstance(expected, Shutdown) else 0), where
        if "fault-in-new-task" in expected.unsettled and not expected.state.segs["ss"].attributes:
            # the engine keeps the privilege level in SS, also while SS has not been loaded
            stack = expected.state.segs["ss"]
            expected.state.segs["ss"] = replace(stack, attributes=expected.state.cpl << 5)
        problems = differences(guest, case, expected.state, memory)
        assert not problems, where + "; ".join(problems)
        key = type(expected).__name__ + ("-by-task" if gates else "")
        outcomes[key] = outcomes.get(key, 0) + 1
    assert outcomes["Delivered-by-task"] > CASES // 4, outcomes
