"""Random events through the compiled delivery and through the oracle."""

from __future__ import annotations

import os

import pytest

from hypervisor.arch.exits import ExitKind
from hypervisor.engine import block as b
from tests.engine.machine import Machine, machine
from tests.oracle.compare import defined_part
from tests.oracle.event import Event, Kind
from tests.oracle.events import Delivered, Shutdown, TaskGate, deliver
from tests.oracle.generate import EVENT_MODES, EventCase, random_event
from tests.oracle.random_tables import MEMORY_SIZE
from tests.oracle.state import MASK16, MASK32, MASK64, Memory, State

CASES = 20_000 if os.environ.get("HYPERVISOR_STRESS") else 2_000
KINDS = {Kind.EXCEPTION: 0, Kind.SOFTWARE_INT: 1, Kind.SOFTWARE_EXCEPTION: 1 | 4, Kind.EXTERNAL: 2}
INCOMPARABLE = {
    "partial-push", "esp-high-half", "smap-inner-stack", "stack-at-the-canonical-edge", "stack-or-rip-first",
}  # fmt: skip
"""What the manuals leave open and the engine may do in another way."""


def return_address(case: EventCase) -> int:
    code = case.state.segs["cs"]
    wide = case.state.long_mode and code.long
    return case.state.rip + case.length & (MASK64 if wide else MASK32 if code.big else MASK16)


def raise_it(guest: Machine, case: EventCase) -> int:
    guest.memory[:MEMORY_SIZE] = case.memory
    guest.load(case.state)
    rip = return_address(case) if case.length else case.state.rip
    return guest.pcpu.event(case.vector, case.error or 0, KINDS[case.kind], rip)


def chain(guest: Machine) -> list[tuple[int, int]]:
    count = min(guest.word(b.N_COUNT), b.CHAIN_ENTRIES)
    return [(guest.word(b.CHAIN, 3 * n), guest.word(b.CHAIN, 3 * n + 1)) for n in range(count)]


def tried(events: list[tuple[int, int]], shutdown: bool) -> list[tuple[int, int]]:
    """The events whose delivery was tried: the engine also notes faults that made a double fault or shutdown."""
    if shutdown and len(events) < b.CHAIN_ENTRIES:
        events = events[:-1]
    return [e for n, e in enumerate(events) if n == 0 or events[n + 1 : n + 2] != [(8, 0)]]


def differences(guest: Machine, case: EventCase, expected: State, memory: Memory) -> list[str]:
    """What differs, as sentences."""
    found, wanted = defined_part(guest.state()), defined_part(expected)
    result = []
    for name in ("regs", "rip", "rflags", "cpl", "cr0", "cr2", "cr3", "ldtr", "tr", "gdtr", "idtr"):
        if getattr(found, name) != getattr(wanted, name):
            result.append(f"{name} is {getattr(found, name)} instead of {getattr(wanted, name)}")
    for name, segment in wanted.segs.items():
        if found.segs[name] != segment:
            result.append(f"{name} is {found.segs[name]} instead of {segment}")
    real = guest.memory[:MEMORY_SIZE]
    if real != bytes(memory.data):
        at = [n for n in range(MEMORY_SIZE) if real[n] != memory.data[n]]
        result.append(f"memory differs at {[hex(n) for n in at[:8]]}")
    return result


def compare(guest: Machine, case: EventCase) -> tuple[str, list[str]]:
    """What became of it, and all differences."""
    memory = Memory(case.memory)
    expected = deliver(memory, case.state, case.vector, case.error, case.kind, case.length)
    outcome = raise_it(guest, case)
    if expected.unsettled & INCOMPARABLE:
        return "unsettled", []
    wanted = {Delivered: 0, Shutdown: int(ExitKind.SHUTDOWN), TaskGate: int(ExitKind.TASK_GATE)}[type(expected)]
    if outcome != wanted:
        return "?", [f"exit {outcome} instead of {wanted}, chain {chain(guest)} {expected.chain}"]
    events = [(event.vector, event.error or 0) for event in expected.chain]
    found = tried(chain(guest), outcome == ExitKind.SHUTDOWN)
    result = []
    if found != events[: len(found)] or (len(found) < len(events) and guest.word(b.N_COUNT) <= b.CHAIN_ENTRIES):
        result.append(f"chain {found} instead of {events}")
    result += differences(guest, case, expected.state, memory)
    if isinstance(expected, TaskGate):
        last: Event = expected.chain[-1]
        at_gate = (guest.word(b.W_VECTOR), guest.word(b.W_ERROR), guest.word(b.W_LEVEL))
        if at_gate != (last.vector, last.error or 0, KINDS[last.kind]):
            result.append(f"task gate for {at_gate} instead of {last}")
    return type(expected).__name__, result


@pytest.mark.parametrize("mode", EVENT_MODES)
def test_random_events(mode: str) -> None:
    guest = machine(MEMORY_SIZE)
    outcomes: dict[str, int] = {}
    for seed in range(CASES):
        case = random_event(seed, mode)
        outcome, problems = compare(guest, case)
        assert not problems, f"random_event({seed}, {mode!r}): {case.kind} {case.vector}: " + "; ".join(problems)
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
    assert outcomes["Delivered"] > CASES // 2 and outcomes.get("unsettled", 0) < CASES // 5, outcomes
