"""Hand-computed deliveries, one rule each, straight from the manual: long mode, and faults on the way to a handler."""

from __future__ import annotations

from dataclasses import replace

import pytest

from . import build, machine
from .compare import defined_part
from .deliveries import EXC, EXT, INT, chain, delivered, words
from .event import Kind
from .events import Shutdown, deliver
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
from .segments import INTERRUPT16, INTERRUPT32, TASK_GATE, TRAP32
from .state import AC, CR4_SMAP, RF, RSP, Segment, Table

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
