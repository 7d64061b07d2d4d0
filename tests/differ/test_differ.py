"""The short form: some programs of one seed, none of which differs but as the tables say."""

from __future__ import annotations

import struct
from collections import Counter
from dataclasses import replace

import pytest

from hypervisor.arch.flags import RFLAGS_FIXED
from tests.differ import document, known, leaks, mutations, runs
from tests.differ import layout as at
from tests.differ.minimise import differing, unexplained
from tests.differ.modes import Mode
from tests.differ.program import Program, make

SEED = 4
PROGRAMS = range(0, 300)


def test_programs_end_as_under_qemu() -> None:
    """Each program that differs would be printed."""
    programs = [make(SEED, number) for number in PROGRAMS]
    assert {program.mode for program in programs} == set(Mode)
    fired: Counter[known.Row] = Counter()
    left = unexplained(programs, fired)
    bad = [f"{program}\n{names}" for program, names in zip(programs, left, strict=True) if names]
    assert not bad, "\n\n".join(bad)
    assert fired, "not even the rows fired: were the programs compared at all?"


def test_a_program_ends_alike_alone_and_behind_others() -> None:
    """Nothing of one program is left for the next."""
    programs = [make(SEED, number) for number in PROGRAMS][:60]
    assert differing(programs[-1:]) == differing(programs)[-1:]
    assert differing(programs[::-1]) == differing(programs)[::-1]


def test_a_program_behind_which_another_differs_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of twenty, none of them, and all together."""
    *before, program = [make(SEED, number) for number in PROGRAMS[:21]]
    for guilty, causes in (([before[7]], [before[7]]), ([], None), (before[3:5], before[3:5]), ([program], [])):

        def unexplained_if_all(run: list[Program], fired: object, guilty: list[Program] = guilty) -> list[list[str]]:
            return [["rflags"] if all(one in run[:-1] for one in guilty) else []] * len(run)

        monkeypatch.setattr(leaks, "unexplained", unexplained_if_all)
        assert leaks.leak(before, program) == causes


def test_cmpxchg8b_leaves_the_other_flags() -> None:
    """In each mode: what PUSHF stores behind it, and what the end of the program does."""
    of_mode = {program.mode: program for program in (make(SEED, number) for number in PROGRAMS)}
    programs = [_one_item(program, _exchange(mode)) for mode, program in of_mode.items()]
    records, end = runs.ours(programs)
    assert end == runs.DONE
    for program, record in zip(programs, records, strict=True):
        vector, _, _, _, flags = struct.unpack_from("<5Q", record)
        stored = struct.unpack_from("<H", record, at.OUT["REGS"] + 8 * at.REGISTERS.index("rdx"))[0]
        assert vector == 0x81 and flags & ~0x8D5 == stored & ~0x8D5 == RFLAGS_FIXED, str(program)


def _one_item(program: Program, code: bytes) -> Program:
    return replace(program, fields={**program.fields, "RFLAGS": RFLAGS_FIXED}, items=(lambda _: code,))


def _exchange(mode: Mode) -> bytes:
    """ADD ECX, -1, whose operand has all bits that flags may have; CMPXCHG8B of what is on the stack; PUSHF, POP DX."""
    add = (b"\x66" if mode.bits == 16 else b"") + b"\x81\xc1\xff\xff\xff\xff"
    exchange = b"\x0f\xc7\x0c\x24"
    if mode.near:
        exchange = b"\x89\xe5" + (b"\x67" if mode.bits == 32 else b"") + b"\x0f\xc7\x4e\x00"
    return add + exchange + b"\x9c\x5a"


@pytest.mark.stress
@pytest.mark.parametrize("mutation", mutations.MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_fault_is_found(mutation: mutations.Mutation) -> None:
    """Half a minute each, for a compiled copy of the kernels."""
    assert mutations.found(mutation, len(PROGRAMS), SEED)


def test_mutations_fit_the_code() -> None:
    """Whether they are found takes long, whether there is such code does not."""
    assert all(mutations.mutated(mutation, mutations.ROOT) for mutation in (mutations.NONE, *mutations.MUTATIONS))


def test_the_tables_are_short_and_the_document_is_in_step() -> None:
    """At most 30 rows of QEMU's, each with a manual; docs/traps.md is made from the limits."""
    assert len(known.ROWS) <= 30 and all(row.manual for row in known.ROWS)
    assert document.written() == document.rendered(), "run python -m tests.differ.document --update"
