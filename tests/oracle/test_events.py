"""Hand-computed deliveries, one rule each, straight from the manual: protected, virtual-8086 and real mode."""

from __future__ import annotations

from dataclasses import replace

import pytest

from . import build, machine
from .deliveries import EXC, EXT, INT, INT3, chain, delivered, words
from .event import Kind
from .events import Shutdown, TaskGate, deliver
from .machine import (
    CODE0,
    CODE3,
    CONFORMING,
    DATA0,
    DATA3,
    GDT,
    HANDLER,
    IDT,
    INT_USER,
    LDT_CODE0,
    STACK0,
    STACK3,
    TSS,
    TSS_SELECTOR,
    put,
    word,
)
from .segments import INTERRUPT16, INTERRUPT32, TASK_GATE, TRAP16, TRAP32
from .state import AC, IF, NT, RF, RSP, TF, VM, Segment, Table

# Protected mode


def test_inner_32_bit_interrupt_gate() -> None:
    memory, state = machine.legacy()
    state.rflags |= TF | NT | AC | RF
    after = delivered(deliver(memory, state, 0x21, None, EXT))
    assert (after.cpl, after.rip, after.regs[RSP]) == (0, HANDLER + 0x21, STACK0 - 20)
    assert words(memory, STACK0 - 20, 4, 5) == [0x1234_5678, CODE3, state.rflags, STACK3, DATA3]
    assert after.rflags == 0x2 | AC
    assert after.segs["cs"] == Segment(CODE0, 0, 0xFFFF_FFFF, build.CODE32)
    assert after.segs["ss"] == Segment(DATA0, 0, 0xFFFF_FFFF, build.DATA32)
    assert after.segs["ds"] == state.segs["ds"]


def test_trap_gate_keeps_if_and_error_code_is_pushed_last() -> None:
    memory, state = machine.legacy(gate=TRAP32)
    after = delivered(deliver(memory, state, 13, 0x50, EXC))
    assert after.rflags == 0x2 | IF
    assert words(memory, STACK0 - 24, 4, 6) == [0x50, 0x1234_5678, CODE3, 0x202 | RF, STACK3, DATA3]


@pytest.mark.parametrize("vector", [0, 5, 6, 7, 16, 19])
def test_faults_push_rf(vector: int) -> None:
    memory, state = machine.legacy(0)
    delivered(deliver(memory, state, vector, None, EXC))
    assert word(memory, STACK0 - 4, 4) == 0x202 | RF


@pytest.mark.parametrize(("vector", "kind"), [(1, EXC), (3, INT3), (4, INT3), (6, INT), (13, EXT), (2, EXT), (18, EXC)])
def test_others_push_rf_as_it_is(vector: int, kind: Kind) -> None:
    memory, state = machine.legacy(0)
    delivered(deliver(memory, state, vector, None, kind, 2))
    assert word(memory, STACK0 - 4, 4) == 0x202


def test_same_privilege_pushes_three_words() -> None:
    memory, state = machine.legacy(0)
    after = delivered(deliver(memory, state, 0x30, None, EXT))
    assert after.regs[RSP] == STACK0 - 12
    assert words(memory, STACK0 - 12, 4, 3) == [0x1234_5678, CODE0, 0x202]
    assert after.segs["ss"] == state.segs["ss"]


def test_16_bit_gate_pushes_halves_and_truncates_the_offset() -> None:
    memory, state = machine.legacy(gate=TRAP16)
    put(memory, IDT + 8 * 13, build.gate(TRAP16, CODE0, 0x1_9000))
    after = delivered(deliver(memory, state, 13, 0x1_0044, EXC))
    assert (after.rip, after.regs[RSP]) == (0x9000, STACK0 - 12)
    assert words(memory, STACK0 - 12, 2, 6) == [0x44, 0x5678, CODE3, 0x202, STACK3, DATA3]


def test_286_tss() -> None:
    memory, state = machine.legacy(tss16=True)
    after = delivered(deliver(memory, state, 0x21, None, EXT))
    assert (after.regs[RSP], after.segs["ss"].selector) == (STACK0 - 20, DATA0)


def test_conforming_handler_stays_at_the_callers_privilege() -> None:
    memory, state = machine.legacy()
    put(memory, IDT + 8 * 0x21, build.gate(INTERRUPT32, CONFORMING, HANDLER))
    after = delivered(deliver(memory, state, 0x21, None, EXT))
    assert (after.cpl, after.segs["cs"].selector, after.regs[RSP]) == (3, CONFORMING | 3, STACK3 - 12)
    assert after.segs["cs"].attributes == build.CONFORMING32


def test_software_interrupt_returns_behind_itself_and_checks_the_gate() -> None:
    memory, state = machine.legacy()
    delivered(deliver(memory, state, INT_USER, None, INT, 2))
    assert word(memory, STACK0 - 20, 4) == 0x1234_567A
    memory, state = machine.legacy()
    result = deliver(memory, state, 0x21, None, INT, 2)
    assert chain(result) == [(0x21, None), (13, 0x21 * 8 + 2)]
    assert words(memory, STACK0 - 24, 4, 4) == [0x21 * 8 + 2, 0x1234_5678, CODE3, 0x202 | RF]
    assert chain(deliver(*machine.legacy(), 3, None, INT3, 1)) == [(3, None), (13, 3 * 8 + 2)]
    assert chain(deliver(*machine.legacy(), 3, None, EXC)) == [(3, None)]


def test_software_interrupt_never_pushes_an_error_code() -> None:
    memory, state = machine.legacy(0)
    after = delivered(deliver(memory, state, 13, None, INT, 2))
    assert after.regs[RSP] == STACK0 - 12


def gate_case(raw: bytes, kind: Kind = EXT) -> list[tuple[int, int | None]]:
    memory, state = machine.legacy()
    put(memory, IDT + 8 * 0x80, raw)
    return chain(deliver(memory, state, 0x80, None, kind, 2))[1:]


@pytest.mark.parametrize("kind", [0, 1, 2, 3, 4, 8, 9, 10, 11, 12, 13])
def test_wrong_gate_type(kind: int) -> None:
    assert gate_case(build.gate(kind, CODE0, HANDLER, 3)) == [(13, 0x403)]


def test_gate_that_is_no_system_descriptor() -> None:
    assert gate_case(build.descriptor(0, 0xFFFF, 0x9E)) == [(13, 0x403)]


def test_gate_checks() -> None:
    assert gate_case(build.gate(INTERRUPT32, CODE0, HANDLER, 3, present=False)) == [(11, 0x403)]
    assert gate_case(build.gate(INTERRUPT32, CODE0, HANDLER, 3, present=False), INT) == [(11, 0x402)]
    assert gate_case(build.gate(INTERRUPT32, CODE0, HANDLER, 2, present=False), INT) == [(13, 0x402)]
    assert gate_case(build.gate(INTERRUPT32, 0x0003, HANDLER)) == [(13, 1)]
    assert gate_case(build.gate(INTERRUPT32, 0x0003, HANDLER, 3), INT) == [(13, 0)]
    assert gate_case(build.gate(INTERRUPT32, 0x43, HANDLER)) == [(13, 0x41)]
    assert gate_case(build.gate(INTERRUPT32, LDT_CODE0 | 16, HANDLER)) == [(13, 0x15)]
    assert gate_case(build.gate(INTERRUPT32, DATA0, HANDLER)) == [(13, DATA0 | 1)]
    assert gate_case(build.gate(INTERRUPT32, TSS_SELECTOR, HANDLER)) == [(13, TSS_SELECTOR | 1)]
    assert gate_case(build.gate(INTERRUPT32, LDT_CODE0 | 3, HANDLER)) == []


def test_idt_limit() -> None:
    memory, state = machine.legacy()
    state.idtr = Table(IDT, 0x21 * 8 + 6)
    assert chain(deliver(memory, state, 0x21, None, EXT)) == [(0x21, None), (13, 0x21 * 8 + 3)]
    state.idtr = Table(IDT, 0x21 * 8 + 7)
    assert chain(deliver(memory, state, 0x21, None, EXT)) == [(0x21, None)]


def test_handler_must_not_be_less_privileged() -> None:
    memory, state = machine.legacy(0)
    put(memory, IDT + 8 * 0x21, build.gate(INTERRUPT32, CODE3, HANDLER))
    assert chain(deliver(memory, state, 0x21, None, EXT))[1:] == [(13, 0x19)]


def test_code_segment_not_present_and_offset_beyond_its_limit() -> None:
    memory, state = machine.legacy()
    put(memory, GDT + CONFORMING, build.descriptor(0, 0xFFF, build.CODE32 & ~0x80 & ~0x800))
    put(memory, IDT + 8 * 0x21, build.gate(INTERRUPT32, CONFORMING, 0x1000))
    assert chain(deliver(memory, state, 0x21, None, EXT))[1:] == [(11, CONFORMING | 1)]
    put(memory, GDT + CONFORMING, build.descriptor(0, 0xFFF, build.CODE32 & ~0x800))
    assert chain(deliver(memory, state, 0x21, None, EXT))[1:] == [(13, 1)]
    put(memory, IDT + 8 * 0x21, build.gate(INTERRUPT32, CONFORMING, 0xFFF))
    assert chain(deliver(memory, state, 0x21, None, EXT))[1:] == []


@pytest.mark.parametrize(
    ("selector", "attributes", "expected"),
    [
        (0x0000, build.DATA32, (10, 1)),
        (0x0013, build.DATA32, (10, 0x11)),  # RPL
        (0x0048, build.DATA32, (10, 0x49)),  # beyond the limit
        (0x0010, build.with_dpl(build.DATA32, 3), (10, 0x11)),
        (0x0010, build.DATA32 & ~2, (10, 0x11)),  # read-only
        (0x0010, build.CODE32, (10, 0x11)),
        (0x0010, build.TSS32, (10, 0x11)),
        (0x0010, build.DATA32 & ~0x80, (12, 0x11)),
        (0x0014, build.DATA32, (10, 0x15)),  # beyond the LDT's limit
    ],
)
def test_inner_stack_segment(selector: int, attributes: int, expected: tuple[int, int]) -> None:
    memory, state = machine.legacy()
    put(memory, GDT + 0x10, build.descriptor(0, build.FLAT, attributes))
    put(memory, TSS + 8, selector.to_bytes(2, "little"))
    # The fault itself needs the same stack: #TS, then a double fault, then shutdown.
    result = deliver(memory, state, 0x21, None, EXT)
    assert isinstance(result, Shutdown)
    assert chain(result) == [(0x21, None), expected, (8, 0)]


def test_inner_stack_room_names_the_new_ss_and_own_stack_names_nothing() -> None:
    memory, state = machine.legacy()
    put(memory, TSS + 4, (19).to_bytes(4, "little"))
    put(memory, GDT + 0x10, build.descriptor(0, 0x7FFF, build.DATA32 & ~0x800))
    assert chain(deliver(memory, state, 0x21, None, EXT))[1:] == [(12, 0x11), (8, 0)]
    put(memory, TSS + 4, (20).to_bytes(4, "little"))
    assert chain(deliver(memory, state, 0x21, None, EXT))[1:] == []
    memory, state = machine.legacy(0)
    state.segs["ss"] = replace(state.segs["ss"], limit=0x7FFF)
    state.regs[RSP] = 4
    assert chain(deliver(memory, state, 0x21, None, EXT))[1:] == [(12, 1), (8, 0)]


def test_expand_down_stack() -> None:
    memory, state = machine.legacy(0)
    expand_down = build.DATA32 | build.EXPAND_DOWN
    state.segs["ss"] = Segment(DATA0, 0, STACK0 - 13, expand_down)
    assert chain(deliver(memory, state, 0x21, None, EXT))[1:] == []
    state.segs["ss"] = Segment(DATA0, 0, STACK0 - 12, expand_down)
    assert chain(deliver(memory, state, 0x21, None, EXT))[1:] == [(12, 1), (8, 0)]


def test_16_bit_stack_wraps_and_keeps_the_high_half() -> None:
    memory, state = machine.legacy(0, gate=INTERRUPT16)
    state.segs["ss"] = Segment(DATA0, 0, 0xFFFF, build.DATA16)
    state.regs[RSP] = 0xABCD_0002
    after = delivered(deliver(memory, state, 0x21, None, EXT))
    assert after.regs[RSP] == 0xABCD_FFFC
    assert (word(memory, 0, 2), word(memory, 0xFFFE, 2), word(memory, 0xFFFC, 2)) == (0x202, CODE0, 0x5678)


def test_tss_limit() -> None:
    memory, state = machine.legacy()
    state.tr = replace(state.tr, limit=9)
    assert chain(deliver(memory, state, 0x21, None, EXT)) == [(0x21, None)]
    state.tr = replace(state.tr, limit=8)
    assert chain(deliver(memory, state, 0x21, None, EXT)) == [(0x21, None), (10, TSS_SELECTOR | 1), (8, 0)]
    memory, state = machine.legacy(tss16=True)
    state.tr = replace(state.tr, limit=5)
    assert chain(deliver(memory, state, 0x21, None, EXT)) == [(0x21, None)]
    state.tr = replace(state.tr, limit=4)
    assert chain(deliver(memory, state, 0x21, None, EXT))[1] == (10, TSS_SELECTOR | 1)


def test_accessed_bits_are_set_in_the_table() -> None:
    memory, state = machine.legacy()
    put(memory, GDT + CODE0, build.descriptor(0, build.FLAT, build.CODE32 & ~1))
    put(memory, GDT + DATA0, build.descriptor(0, build.FLAT, build.DATA32 & ~1))
    after = delivered(deliver(memory, state, 0x21, None, EXT))
    assert memory.read(GDT + CODE0, 8) == build.descriptor(0, build.FLAT, build.CODE32)
    assert memory.read(GDT + DATA0, 8) == build.descriptor(0, build.FLAT, build.DATA32)
    assert (after.segs["cs"].attributes, after.segs["ss"].attributes) == (build.CODE32, build.DATA32)


def test_task_gate_is_reported() -> None:
    memory, state = machine.legacy()
    put(memory, IDT + 8 * 8, build.gate(TASK_GATE, 0x48, 0))
    result = deliver(memory, state, 8, 0, EXC)
    assert isinstance(result, TaskGate) and result.selector == 0x48
    assert chain(result) == [(8, 0)]
    put(memory, IDT + 8 * 8, build.gate(TASK_GATE, 0x48, 0, present=False))
    assert isinstance(deliver(memory, state, 8, 0, EXC), Shutdown)


# Virtual-8086 mode


def test_leaving_virtual_8086_mode() -> None:
    memory, state = machine.v86(0)
    after = delivered(deliver(memory, state, 13, 0, EXC))
    assert words(memory, STACK0 - 40, 4, 10) == [
        0, 0x100, 0x100, 0x202 | VM | RF, 0x0FFE, 0x700, 0x222, 0x111, 0x333, 0x444,
    ]  # fmt: skip
    assert (after.cpl, after.rflags, after.regs[RSP], after.segs["cs"].selector) == (0, 2, STACK0 - 40, CODE0)
    assert all(after.segs[name] == Segment() for name in ("ds", "es", "fs", "gs"))


def test_virtual_8086_16_bit_gate() -> None:
    memory, state = machine.v86()
    put(memory, IDT + 8 * 0x21, build.gate(TRAP16, CODE0, HANDLER))
    after = delivered(deliver(memory, state, 0x21, None, EXT))
    assert words(memory, STACK0 - 18, 2, 9) == [0x100, 0x100, 0x3202, 0x0FFE, 0x700, 0x222, 0x111, 0x333, 0x444]
    assert after.rflags == 0x3202


def test_virtual_8086_software_interrupts() -> None:
    assert chain(deliver(*machine.v86(2), INT_USER, None, INT, 2)) == [(INT_USER, None), (13, 0)]
    assert chain(deliver(*machine.v86(3), INT_USER, None, INT, 2)) == [(INT_USER, None)]
    assert chain(deliver(*machine.v86(3), 0x21, None, INT, 2)) == [(0x21, None), (13, 0x10A)]
    assert chain(deliver(*machine.v86(0), 3, None, INT3, 1)) == [(3, None), (13, 0x1A)]
    assert chain(deliver(*machine.v86(0), 0x21, None, EXT)) == [(0x21, None)]


def test_virtual_8086_handler_must_be_ring_0_and_not_conforming() -> None:
    memory, state = machine.v86()
    put(memory, IDT + 8 * 0x21, build.gate(TRAP32, CODE3, HANDLER))
    assert chain(deliver(memory, state, 0x21, None, EXT))[1:] == [(13, 0x19)]
    put(memory, IDT + 8 * 0x21, build.gate(TRAP32, CONFORMING, HANDLER))
    assert chain(deliver(memory, state, 0x21, None, EXT))[1:] == [(13, 0x31)]


# Real mode


def test_real_mode() -> None:
    memory, state = machine.real()
    state.rflags |= AC | NT
    after = delivered(deliver(memory, state, 0x10, None, INT, 2))
    assert words(memory, 0x7FFA, 2, 3) == [0x7C12, 0, 0x4302]
    assert (after.rip, after.regs[RSP], after.rflags) == (0x10, 0xFFA, 0x4002)
    assert after.segs["cs"] == Segment(0x800, 0x8000, 0xFFFF, 0x9B)


def test_real_mode_pushes_no_error_code() -> None:
    memory, state = machine.real()
    after = delivered(deliver(memory, state, 13, 0, EXC))
    assert (after.regs[RSP], word(memory, 0x7FFA, 2)) == (0xFFA, 0x7C10)


def test_real_mode_limits() -> None:
    memory, state = machine.real()
    state.idtr = Table(0, 0x10 * 4 + 2)
    assert chain(deliver(memory, state, 0x10, None, INT, 2)) == [(0x10, None), (13, 0)]
    state.idtr = Table(0, 8 * 4 + 3)
    assert chain(deliver(memory, state, 0x10, None, INT, 2)) == [(0x10, None), (13, 0), (8, 0)]
    state.idtr = Table(0, 8 * 4 + 2)
    assert isinstance(deliver(memory, state, 0x10, None, INT, 2), Shutdown)
    memory, state = machine.real()
    state.regs[RSP] = 5
    result = deliver(memory, state, 0x10, None, INT, 2)
    assert isinstance(result, Shutdown) and [vector for vector, _ in chain(result)] == [0x10, 12, 8]
    state.regs[RSP] = 4  # wraps between words, which is allowed
    assert delivered(deliver(memory, state, 0x10, None, INT, 2)).regs[RSP] == 0xFFFE


def test_relocated_vector_table() -> None:
    memory, state = machine.real()
    put(memory, 0x5040, b"\x34\x12\x00\x10")
    state.idtr = Table(0x5000, 0x3FF)
    after = delivered(deliver(memory, state, 0x10, None, EXT))
    assert (after.rip, after.segs["cs"].base) == (0x1234, 0x10000)
