"""Hand-computed deliveries, one rule each, straight from the manual: long, because the manual has many rules."""

from __future__ import annotations

from dataclasses import replace

import pytest

from . import build, machine
from .compare import defined_part
from .event import Kind
from .events import Delivered, Shutdown, TaskGate, deliver
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
from .state import AC, CR4_SMAP, IF, NT, RF, RSP, TF, VM, Memory, Segment, State, Table

EXC, INT, INT3, EXT = Kind.EXCEPTION, Kind.SOFTWARE_INT, Kind.SOFTWARE_EXCEPTION, Kind.EXTERNAL
Result = Delivered | Shutdown | TaskGate


def delivered(result: Result) -> State:
    assert isinstance(result, Delivered), result
    return result.state


def chain(result: Result) -> list[tuple[int, int | None]]:
    return [(event.vector, event.error) for event in result.chain]


def words(memory: Memory, at: int, size: int, count: int) -> list[int]:
    return [word(memory, at + size * n, size) for n in range(count)]


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


# Long mode


def test_long_mode_inner() -> None:
    memory, state = machine.long()
    after = delivered(deliver(memory, state, 14, 6, EXC))
    assert (after.cpl, after.rip, after.regs[RSP]) == (0, 0xFFFF_8000_0000_000E, STACK0 - 48)
    assert words(memory, STACK0 - 48, 8, 6) == [6, 0x40_1000, CODE3, 0x202 | RF, STACK3 - 4, DATA3]
    assert after.segs["ss"] == Segment(0, 0, 0, 0)
    assert after.segs["cs"] == Segment(CODE0, 0, 0xFFFF_FFFF, build.CODE64)


def test_long_mode_same_privilege_aligns_and_keeps_ss() -> None:
    memory, state = machine.long(0)
    after = delivered(deliver(memory, state, 0x21, None, EXT))
    assert after.regs[RSP] == STACK0 - 16 - 40
    assert words(memory, STACK0 - 56, 8, 5) == [0x40_1000, CODE0, 0x202, STACK0 - 4, DATA0]
    assert after.segs["ss"] == state.segs["ss"]


@pytest.mark.parametrize("cpl", [0, 3])
@pytest.mark.parametrize("ist", range(1, 8))
def test_interrupt_stack_table(cpl: int, ist: int) -> None:
    memory, state = machine.long(cpl)
    put(memory, IDT + 16 * 2, build.gate64(INTERRUPT32, CODE0, 0x1000, ist=ist))
    after = delivered(deliver(memory, state, 2, None, EXT))
    assert after.regs[RSP] == 0x5000 + ist * 0x100 - 40
    assert after.segs["ss"] == (Segment() if cpl else state.segs["ss"])


def test_long_mode_new_stack_of_ring_2_is_null_with_rpl_2() -> None:
    memory, state = machine.long()
    put(memory, GDT + CONFORMING, build.descriptor(0, build.FLAT, build.with_dpl(build.CODE64, 2)))
    put(memory, IDT + 16 * 0x21, build.gate64(TRAP32, CONFORMING, 0x1000))
    put(memory, TSS + 0x14, (0x5800).to_bytes(8, "little"))
    after = delivered(deliver(memory, state, 0x21, None, EXT))
    assert (after.cpl, after.regs[RSP], after.segs["ss"].selector, after.segs["ss"].dpl) == (2, 0x5800 - 40, 2, 2)
    assert after.segs["cs"].selector == CONFORMING | 2


def long_gate_case(raw: bytes) -> list[tuple[int, int | None]]:
    memory, state = machine.long()
    put(memory, IDT + 16 * 0x21, raw)
    return chain(deliver(memory, state, 0x21, None, EXT))[1:]


def test_long_mode_gate_checks() -> None:
    assert long_gate_case(build.gate64(TASK_GATE, CODE0, 0)) == [(13, 0x10B)]
    assert long_gate_case(build.gate64(INTERRUPT16, CODE0, 0)) == [(13, 0x10B)]
    assert long_gate_case(build.gate64(INTERRUPT32, CODE0, 0, present=False)) == [(11, 0x10B)]
    assert long_gate_case(build.gate64(INTERRUPT32, CODE0, 0x8000_0000_0000)) == [(13, 1)]
    assert long_gate_case(build.gate64(INTERRUPT32, DATA0, 0)) == [(13, DATA0 | 1)]
    assert long_gate_case(build.gate64(INTERRUPT32, LDT_CODE0, 0)) == [(13, 5)]


@pytest.mark.parametrize("attributes", [build.CODE32, build.CODE64 | 0x400, build.CODE32 & ~0x400])
def test_long_mode_handler_must_be_64_bit_code(attributes: int) -> None:
    memory, state = machine.long()
    put(memory, GDT + CONFORMING, build.descriptor(0, build.FLAT, attributes))
    put(memory, IDT + 16 * 0x21, build.gate64(INTERRUPT32, CONFORMING, 0))
    assert chain(deliver(memory, state, 0x21, None, EXT))[1:] == [(13, CONFORMING | 1)]


def test_long_mode_idt_and_tss_limits() -> None:
    memory, state = machine.long()
    state.idtr = Table(IDT, 0x21 * 16 + 14)
    assert chain(deliver(memory, state, 0x21, None, EXT))[1:] == [(13, 0x10B)]
    memory, state = machine.long()
    state.tr = replace(state.tr, limit=10)
    result = deliver(memory, state, 0x21, None, EXT)
    assert isinstance(result, Shutdown) and chain(result)[1:] == [(10, TSS_SELECTOR | 1), (8, 0)]


def test_long_mode_non_canonical_stack() -> None:
    memory, state = machine.long(0)
    state.regs[RSP] = 0x1234_0000_0000_0000
    assert chain(deliver(memory, state, 0x21, None, EXT))[1:] == [(12, 1), (8, 0)]
    memory, state = machine.long()
    put(memory, TSS + 4, (1 << 63).to_bytes(8, "little"))
    put(memory, IDT + 16 * 12, build.gate64(INTERRUPT32, CODE0, 0x1000, ist=1))
    result = deliver(memory, state, INT_USER, None, INT, 2)
    assert chain(result)[1:] == [(12, 0)]
    assert word(memory, 0x5100 - 48, 8) == 0 and word(memory, 0x5100 - 40, 8) == 0x40_1000


# Nested faults


def test_page_fault_while_pushing_is_serial_and_sets_cr2() -> None:
    memory, state = machine.long()
    put(memory, TSS + 4, (0x50_0000_0000).to_bytes(8, "little"))
    put(memory, IDT + 16 * 14, build.gate64(INTERRUPT32, CODE0, 0x1000, ist=1))
    result = deliver(memory, state, 0x21, None, EXT)
    assert chain(result) == [(0x21, None), (14, 2)]
    assert delivered(result).cr2 == 0x50_0000_0000 - 8
    assert state.cr2 == 0


def test_double_fault_on_its_own_stack_and_triple_without() -> None:
    memory, state = machine.long()
    put(memory, TSS + 4, (0x50_0000_0000).to_bytes(8, "little"))
    result = deliver(memory, state, 14, 4, EXC)
    assert isinstance(result, Shutdown) and chain(result) == [(14, 4), (8, 0)]
    assert result.state.cr2 == 0x50_0000_0000 - 8
    put(memory, IDT + 16 * 8, build.gate64(INTERRUPT32, CODE0, 0x1000, ist=7))
    result = deliver(memory, state, 14, 4, EXC)
    assert chain(result) == [(14, 4), (8, 0)]
    assert word(memory, 0x5700 - 48, 8) == 0 and word(memory, 0x5700 - 48 + 24, 8) == 0x202


@pytest.mark.parametrize(
    ("first", "kind", "expected"),
    [
        (13, EXC, [(8, 0)]),  # contributory then contributory
        (0, EXC, [(8, 0)]),
        (14, EXC, [(8, 0)]),  # page fault then contributory
        (6, EXC, [(11, 6 * 8 + 3)]),  # benign then contributory
        (13, EXT, [(11, 13 * 8 + 3)]),  # an interrupt is benign, whatever its number
        (14, INT, [(11, 14 * 8 + 2)]),
    ],
)
def test_second_fault_by_class(first: int, kind: Kind, expected: list[tuple[int, int]]) -> None:
    memory, state = machine.legacy(0)
    put(memory, IDT + 8 * first, build.gate(INTERRUPT32, CODE0, HANDLER, present=False))
    error = 0 if kind is EXC and first in (13, 14) else None
    assert chain(deliver(memory, state, first, error, kind, 2))[1:] == expected


def test_contributory_then_page_fault_is_serial() -> None:
    memory, state = machine.long()
    put(memory, TSS + 4, (0x50_0000_0000).to_bytes(8, "little"))
    put(memory, IDT + 16 * 14, build.gate64(INTERRUPT32, CODE0, 0x1000, ist=1))
    assert chain(deliver(memory, state, 13, 0, EXC)) == [(13, 0), (14, 2)]


def test_empty_idt_is_a_triple_fault() -> None:
    memory, state = machine.legacy(0)
    state.idtr = Table(0, 0)
    result = deliver(memory, state, 6, None, EXC)
    assert isinstance(result, Shutdown)
    assert chain(result) == [(6, None), (13, 6 * 8 + 3), (8, 0)]


def test_system_tables_are_read_as_supervisor_and_smap_ignores_ac_for_them() -> None:
    memory, state = machine.long()
    put(memory, 0x12000, (0xE3).to_bytes(8, "little"))  # supervisor only
    assert chain(deliver(memory, state, 0x21, None, EXT)) == [(0x21, None)]
    memory, state = machine.long(0)
    state.cr4 |= CR4_SMAP
    state.rflags |= AC
    result = deliver(memory, state, 0x21, None, EXT)
    assert isinstance(result, Shutdown) and result.state.cr2 == IDT + 16 * 8
    assert chain(result) == [(0x21, None), (14, 1), (8, 0)]


def test_ring_3_handler_pushes_with_user_rights() -> None:
    memory, state = machine.long()
    put(memory, GDT + CONFORMING, build.descriptor(0, build.FLAT, build.with_dpl(build.CODE64, 3)))
    put(memory, IDT + 16 * 0x21, build.gate64(TRAP32, CONFORMING | 3, 0x1000))
    put(memory, 0x12000, (0xE3).to_bytes(8, "little"))
    result = deliver(memory, state, 0x21, None, EXT)
    assert chain(result) == [(0x21, None), (14, 7)]
    assert delivered(result).cr2 == STACK3 - 16 - 8


def test_defined_part_forgets_only_what_means_nothing() -> None:
    _, state = machine.long()
    state.segs.update(ss=Segment(2, 5, 6, 0xCF3), ds=Segment(0, 1, 2, 0xC93), cs=Segment(8, 1, 2, build.CODE64))
    plain = defined_part(state)
    assert plain.segs["ss"] == Segment(2, 0, 0, 0x60)
    assert plain.segs["ds"] == Segment() and plain.segs["cs"] == Segment(8, 0, 0, build.CODE64)
    _, virtual = machine.v86()
    virtual.segs["ds"] = Segment(0, 0, 0xFFFF, 0xF3)
    assert defined_part(virtual) == virtual
