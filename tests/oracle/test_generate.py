"""The generators: repeatable, varied, and consistent with what the oracle says of itself."""

from __future__ import annotations

from collections import Counter

import pytest

from .event import Kind
from .events import Delivered, TaskGate, deliver
from .generate import EVENT_MODES, WALK_MODES, random_event, random_walk
from .linear import Linear
from .paging import Fault, Ok, commit, translate
from .random_tables import TASK_SELECTOR
from .state import CR4_SMAP, RF, RSP, TF, VM, Memory, State


def test_walks_repeat() -> None:
    assert random_walk(7) == random_walk(7)
    assert random_walk(7) != random_walk(8)


@pytest.mark.parametrize("mode", WALK_MODES)
def test_walks_are_varied_and_idempotent(mode: str) -> None:
    outcomes: Counter[object] = Counter()
    for seed in range(1500):
        case = random_walk(seed, mode)
        memory = Memory(case.memory)
        result = translate(memory, case.state, case.va, case.access, case.implicit)
        assert memory.data == case.memory, "a walk must not write"
        if isinstance(result, Fault):
            outcomes[result.vector, result.error] += 1
            continue
        outcomes[result.page_size] += 1
        commit(memory, result)
        again = translate(memory, case.state, case.va, case.access, case.implicit)
        # A recursive table's entry may itself be the page's contents, but A and D never change where it leads.
        assert isinstance(again, Ok) and (again.gpa, again.writes) == (result.gpa, ())
    succeeded = sum(count for key, count in outcomes.items() if isinstance(key, int))
    assert succeeded > 600, outcomes
    if mode == "off":
        assert set(outcomes) == {4096}
        return
    errors = {key[1] for key in outcomes if isinstance(key, tuple) and key[0] == 14}
    assert {0x0, 0x2, 0x1, 0x3, 0x5, 0x7} <= errors, outcomes
    if mode != "32-bit":
        assert errors & {0x9, 0xB, 0xD, 0xF}, outcomes


@pytest.mark.parametrize("mode", EVENT_MODES)
def test_events_are_varied(mode: str) -> None:
    outcomes: Counter[str] = Counter()
    nested: Counter[int] = Counter()
    for seed in range(400):
        case = random_event(seed, mode)
        before = case.state.copy()
        result = deliver(Memory(case.memory), case.state, case.vector, case.error, case.kind, case.length)
        assert case.state == before, "delivery must not change the state it is given"
        outcomes[type(result).__name__] += 1
        outcomes["at once"] += isinstance(result, Delivered) and len(result.chain) == 1
        nested.update(event.vector for event in result.chain[1:])
        assert len(result.unsettled) < 3
    assert outcomes["at once"] > 150 and outcomes["Shutdown"] > 10, outcomes
    assert nested[8] and nested[12], nested
    if mode != "real":
        assert {8, 10, 11, 12, 13, 14} <= set(nested), nested
    if mode in ("v86", "protected16", "protected32"):
        assert outcomes["TaskGate"], outcomes


@pytest.mark.parametrize("mode", ["v86", "protected16", "protected32"])
def test_task_gates_can_be_followed(mode: str) -> None:
    switched = 0
    for seed in range(1000):
        case = random_event(seed, mode)
        arguments = (case.state, case.vector, case.error, case.kind, case.length)
        if isinstance(deliver(Memory(case.memory), *arguments), TaskGate):
            result = deliver(Memory(case.memory), *arguments, follow_task_gates=True)
            assert not isinstance(result, TaskGate)
            switched += result.state.tr.selector == TASK_SELECTOR
    assert switched > 5


def test_event_cases_repeat() -> None:
    assert random_event(3, "long") == random_event(3, "long")
    assert random_event(3, "long") != random_event(4, "long")


@pytest.mark.parametrize("mode", EVENT_MODES)
def test_the_frame_holds_what_a_return_needs(mode: str) -> None:
    checked = 0
    for seed in range(500):
        case = random_event(seed, mode)
        memory = Memory(case.memory)
        result = deliver(memory, case.state, case.vector, case.error, case.kind, case.length)
        if not isinstance(result, Delivered):
            continue
        before, after, event = case.state, result.state, result.chain[-1]
        gate_size = 2 if mode == "real" else _gate_size(case.memory, after, event.vector)
        if gate_size is None:
            continue
        with_error = event.kind is Kind.EXCEPTION and event.error is not None and mode != "real"
        switched = mode in ("compat", "long") or after.cpl != before.cpl
        names = ("gs", "fs", "ds", "es") if mode == "v86" else ()
        frame = _frame(memory, after, gate_size, with_error + 3 + 2 * switched + len(names))
        if frame is None:
            continue
        mask = (1 << 8 * gate_size) - 1
        if with_error:
            assert event.error is not None and frame.pop(0) == event.error & mask
        rip = before.rip + (event.length if event.software else 0)
        assert frame[0] == rip & mask & (0xFFFF_FFFF if mode != "long" else mask)
        assert frame[1] == before.segs["cs"].selector
        assert (frame[2] ^ before.rflags) & mask & ~RF == 0
        if switched:
            rsp = before.regs[RSP] if mode in ("compat", "long") else before.regs[RSP] & 0xFFFF_FFFF
            assert frame[3:5] == [rsp & mask, before.segs["ss"].selector]
        if names:
            assert frame[5:] == [before.segs[name].selector for name in reversed(names)]
        assert not after.rflags & (TF | VM)
        checked += 1
    assert checked > 100


def _gate_size(memory: bytes, state: State, vector: int) -> int | None:
    """Bytes per push, or None where the IDT of the case is hard to read back from here (paged and remapped)."""
    if state.long_mode:
        return 8
    at = state.idtr.base + 8 * vector
    return None if state.paging else 4 if memory[at + 5] & 8 else 2


def _frame(memory: Memory, state: State, size: int, count: int) -> list[int] | None:
    """The words at SS:SP, read with supervisor rights; None for a stack outside memory, where pushes vanish."""
    view = state.copy()
    view.cr4 &= ~CR4_SMAP
    stack = state.segs["ss"]
    wide = stack.big or state.long_mode
    base = 0 if state.long_mode else stack.base
    mask = (1 << 64) - 1 if state.long_mode else 0xFFFF_FFFF if wide else 0xFFFF
    offsets = [state.regs[RSP] + size * n & mask for n in range(count)]
    if not state.paging and any((base + offset & 0xFFFF_FFFF) + size > len(memory.data) for offset in offsets):
        return None
    linear = Linear(memory, view)
    return [int.from_bytes(linear.read_system(base + offset, size), "little") for offset in offsets]
