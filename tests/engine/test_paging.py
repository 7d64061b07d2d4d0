"""Random page tables through the compiled walk and through the oracle."""

from __future__ import annotations

import os

import pytest

from hypervisor.engine import block as b
from tests.engine.machine import Machine, machine
from tests.oracle.generate import WALK_MODES, WalkCase, random_walk
from tests.oracle.generate_walk import MEMORY_SIZE
from tests.oracle.paging import Access, Fault, Ok, commit, translate
from tests.oracle.state import (
    AC,
    CR0_PE,
    CR0_PG,
    CR0_WP,
    CR4_PAE,
    CR4_SMEP,
    EFER_LMA,
    EFER_LME,
    EFER_NXE,
    Memory,
    Segment,
    State,
)

CASES = 20_000 if os.environ.get("HYPERVISOR_STRESS") else 1_500
ACCESS = {Access.READ: 0, Access.WRITE: 1, Access.EXECUTE: 2}
USER, IMPLICIT, WITH_AC, PEEK = 1, 2, 4, 8
GRANTS = {Access.READ: 1, Access.WRITE: 2, Access.EXECUTE: 4}
SIZES = {12: 1 << 12, 21: 1 << 21, 22: 1 << 22, 30: 1 << 30}


def how(case: WalkCase) -> int:
    value = USER if case.state.cpl == 3 else 0
    value |= WITH_AC if case.state.rflags & AC else 0
    return value | (IMPLICIT if case.implicit else 0)


def prepare(guest: Machine, case: WalkCase) -> None:
    guest.memory[:MEMORY_SIZE] = case.memory
    case.state.segs["ss"] = Segment(attributes=case.state.cpl << 5)
    guest.load(case.state)


def compare(guest: Machine, case: WalkCase, seed: int) -> None:
    prepare(guest, case)
    memory = Memory(case.memory)
    expected = translate(memory, case.state, case.va, case.access, case.implicit)
    where = f"random_walk({seed}, {case.mode!r}): {case.access}, {case.va:#x}, cr4 {case.state.cr4:#x}"

    peeked = guest.pcpu.walk(case.va, ACCESS[case.access], how(case) | PEEK)
    assert guest.memory[:MEMORY_SIZE] == case.memory, f"{where}: a look changed the tables"
    walked = guest.pcpu.walk(case.va, ACCESS[case.access], how(case))
    assert peeked == walked, where
    if isinstance(expected, Fault):
        assert walked == (-1, expected.vector, expected.error), where
    else:
        commit(memory, expected)
        assert walked == (expected.gpa, -1, 0), where
        assert SIZES[guest.word(b.W_SHIFT)] == expected.page_size, where
        grants(guest, case, memory, expected, where)
    assert guest.memory[:MEMORY_SIZE] == bytes(memory.data), f"{where}: accessed or dirty bits"


def grants(guest: Machine, case: WalkCase, memory: Memory, expected: Ok, where: str) -> None:
    """What a TLB entry may grant: exactly what would not fault, but no write before the dirty bit is set."""
    granted = guest.word(b.W_PERM)
    for access, bit in GRANTS.items():
        other = translate(memory, case.state, case.va, access, case.implicit)
        allowed = isinstance(other, Ok)
        if access is Access.WRITE and case.state.cr0 & CR0_PG:
            allowed = isinstance(other, Ok) and not other.writes
        assert bool(granted & bit) == allowed, f"{where}: grants {granted:#b}, oracle on {access}: {other}"
    assert granted & GRANTS[case.access], f"{where}: does not grant what was asked for"


@pytest.mark.parametrize("mode", WALK_MODES)
def test_random_walks(mode: str) -> None:
    guest = machine(MEMORY_SIZE)
    outcomes = set()
    for seed in range(CASES):
        case = random_walk(seed, mode)
        compare(guest, case, seed)
        outcomes.add((guest.word(b.W_VECTOR), guest.word(b.W_ERROR)) if guest.word(b.W_VECTOR) >= 0 else "translated")
    assert "translated" in outcomes and (mode == "off" or len(outcomes) > 10)


@pytest.mark.parametrize("levels", [3, 4])
@pytest.mark.parametrize("nxe", [0, EFER_NXE])
def test_each_bit_of_each_entry_in_long_mode(levels: int, nxe: int) -> None:
    """Of tables that are marked already, so that nothing but that bit can be in the way of the short walk."""
    guest, va = machine(MEMORY_SIZE), 1 << 39 | 1 << 30 | 3 << 21 | 3 << 12 | 0x123
    state = State(cr0=CR0_PE | CR0_PG | CR0_WP, cr3=0x1000, cr4=CR4_PAE, efer=EFER_LME | EFER_LMA | nxe)
    entries = {0x1008: 0x2067, 0x2008: 0x3067, 0x3018: 0x4067, 0x4018: 0x5067}
    if levels == 3:
        entries = {**entries, 0x3018: 0xE7, 0x4018: 0}
    for at in list(entries)[:levels]:
        for bit in range(64):
            memory = bytearray(MEMORY_SIZE)
            for place, entry in entries.items():
                memory[place : place + 8] = (entry ^ (1 << bit if place == at else 0)).to_bytes(8, "little")
            state.cpl = 3 * (bit & 1)
            for access in Access:
                compare(guest, WalkCase("long", bytes(memory), state, va, access, False), bit)
        state.cr4 ^= CR4_SMEP  # and every other table with it
