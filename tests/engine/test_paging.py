"""Random page tables through the compiled walk and through the oracle."""

from __future__ import annotations

import os

import pytest

from hypervisor.engine import block as b
from tests.engine.machine import Machine, machine
from tests.oracle.generate import WALK_MODES, WalkCase, random_walk
from tests.oracle.generate_walk import MEMORY_SIZE
from tests.oracle.paging import Access, Fault, Ok, commit, translate
from tests.oracle.state import AC, CR0_PG, Memory, Segment

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
