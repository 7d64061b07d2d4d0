"""Hand-computed task switches through the IDT."""

from __future__ import annotations

import pytest

from . import build, machine
from .event import Kind
from .events import Delivered, Shutdown, deliver
from .machine import CODE0, CODE3, DATA0, DATA3, GDT, IDT, LDT_SELECTOR, STACK3, TSS, TSS_SELECTOR, put, word
from .segments import TASK_GATE
from .state import CR0_TS, NT, RF, RSP, VM, Memory, Segment, State

NEW_TSS, NEW_SELECTOR, NEW_STACK = 0x3800, 0x40, 0x8000


def two_tasks(available: int = 0x089, limit: int = 0x67) -> tuple[Memory, State]:
    """Vector 8 is a task gate to a ring 0 task at 0xA000."""
    memory, state = machine.legacy()
    state.gdtr = type(state.gdtr)(GDT, 0x47)
    put(memory, GDT + NEW_SELECTOR, build.descriptor(NEW_TSS, limit, available))
    put(memory, IDT + 8 * 8, build.gate(TASK_GATE, NEW_SELECTOR, 0))
    fields = {0x20: 0xA000, 0x24: 0x202, 0x38: NEW_STACK, 0x48: DATA0, 0x4C: CODE0, 0x50: DATA0, 0x54: DATA3}
    for at, value in fields.items():
        put(memory, NEW_TSS + at, value.to_bytes(4, "little"))
    put(memory, NEW_TSS + 0x28, (0x1111).to_bytes(4, "little"))
    put(memory, NEW_TSS + 0x60, LDT_SELECTOR.to_bytes(2, "little"))
    state.regs[0] = 0xCAFE_F00D
    return memory, state


def run(memory: Memory, state: State, error: int | None = 0) -> Delivered | Shutdown:
    result = deliver(memory, state, 8, error, Kind.EXCEPTION, follow_task_gates=True)
    assert isinstance(result, Delivered | Shutdown)
    return result


def test_the_whole_switch() -> None:
    memory, state = two_tasks()
    result = run(memory, state)
    assert isinstance(result, Delivered) and not result.unsettled
    after = result.state
    assert (after.rip, after.cpl, after.rflags, after.regs[0]) == (0xA000, 0, 0x202 | NT, 0x1111)
    assert after.cr0 & CR0_TS
    assert after.regs[RSP] == NEW_STACK - 4 and word(memory, NEW_STACK - 4, 4) == 0
    assert after.tr == Segment(NEW_SELECTOR, NEW_TSS, 0x67, 0x08B)
    assert after.ldtr == Segment(LDT_SELECTOR, machine.LDT, 0xF, build.LDT)
    assert after.segs["cs"] == Segment(CODE0, 0, 0xFFFF_FFFF, build.CODE32)
    assert [after.segs[name].selector for name in ("ss", "ds", "es", "fs", "gs")] == [DATA0, DATA3, DATA0, 0, 0]
    assert word(memory, NEW_TSS, 2) == TSS_SELECTOR
    assert memory.read(GDT + NEW_SELECTOR + 5, 1) == b"\x8b"
    assert memory.read(GDT + TSS_SELECTOR + 5, 1) == b"\x8b"
    saved = [word(memory, TSS + at, 4) for at in (0x20, 0x24, 0x28, 0x38, 0x4C, 0x50)]
    assert saved == [0x1234_5678, 0x202, 0xCAFE_F00D, STACK3, CODE3, DATA3]


def test_rf_is_saved_for_a_fault_and_no_error_code_means_no_push() -> None:
    memory, state = two_tasks()
    put(memory, IDT + 8 * 6, build.gate(TASK_GATE, NEW_SELECTOR, 0))
    result = deliver(memory, state, 6, None, Kind.EXCEPTION, follow_task_gates=True)
    assert isinstance(result, Delivered) and result.state.regs[RSP] == NEW_STACK
    assert word(memory, TSS + 0x24, 4) == 0x202 | RF


@pytest.mark.parametrize(
    ("attributes", "limit", "vector"), [(0x08B, 0x67, 13), (0x082, 0x67, 13), (0x009, 0x67, 11), (0x089, 0x66, 10)]
)
def test_a_bad_tss_faults_in_the_old_task(attributes: int, limit: int, vector: int) -> None:
    memory, state = two_tasks(attributes, limit)
    put(memory, IDT + 8 * 0x21, build.gate(TASK_GATE, NEW_SELECTOR, 0))
    result = deliver(memory, state, 0x21, None, Kind.EXTERNAL, follow_task_gates=True)
    assert isinstance(result, Delivered)
    assert [(event.vector, event.error) for event in result.chain] == [(0x21, None), (vector, NEW_SELECTOR | 1)]
    assert result.state.tr == state.tr and word(memory, NEW_TSS, 2) == 0


@pytest.mark.parametrize(
    ("at", "selector", "expected"),
    [
        (0x60, DATA0, (10, DATA0 | 1)),
        (0x4C, DATA0, (10, DATA0 | 1)),
        (0x4C, CODE0 | 3, (10, CODE0 | 1)),
        (0x50, DATA3, (10, DATA3 & ~3 | 1)),
        (0x50, 0, (10, 1)),
        (0x54, 0xF8, (10, 0xF9)),
    ],
)
def test_a_bad_selector_faults_in_the_new_task(at: int, selector: int, expected: tuple[int, int]) -> None:
    memory, state = two_tasks()
    put(memory, IDT + 8 * 0x21, build.gate(TASK_GATE, NEW_SELECTOR, 0))
    put(memory, NEW_TSS + at, selector.to_bytes(2, "little"))
    result = deliver(memory, state, 0x21, None, Kind.EXTERNAL, follow_task_gates=True)
    assert (result.chain[1].vector, result.chain[1].error) == expected
    assert result.state.tr.selector == NEW_SELECTOR and "fault-in-new-task" in result.unsettled


def test_virtual_8086_task() -> None:
    memory, state = two_tasks()
    put(memory, NEW_TSS + 0x24, (0x202 | VM).to_bytes(4, "little"))
    result = run(memory, state, None)
    assert isinstance(result, Delivered)
    assert (result.state.cpl, result.state.segs["cs"]) == (3, Segment(CODE0, CODE0 << 4, 0xFFFF, 0xF3))


def test_286_task() -> None:
    memory, state = two_tasks(0x081, 0x2B)
    for at, value in {
        0x0E: 0xA000,
        0x10: 0x202,
        0x1A: NEW_STACK,
        0x22: DATA0,
        0x24: CODE0,
        0x26: DATA0,
        0x28: 0,
    }.items():
        put(memory, NEW_TSS + at, value.to_bytes(2, "little"))
    put(memory, NEW_TSS + 0x2A, bytes(2))
    result = run(memory, state, None)
    assert isinstance(result, Delivered)
    assert (result.state.rip, result.state.segs["cs"].selector, result.state.tr.attributes) == (0xA000, CODE0, 0x083)
    assert result.state.regs[RSP] & 0xFFFF == NEW_STACK
