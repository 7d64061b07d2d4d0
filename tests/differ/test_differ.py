"""The short form: some programs of one seed, none of which differs but as the tables say."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.differ import document, known, mutations
from tests.differ.minimise import differing, unexplained
from tests.differ.modes import Mode
from tests.differ.program import make

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


@pytest.mark.stress
@pytest.mark.parametrize("mutation", mutations.MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_fault_is_found(mutation: mutations.Mutation) -> None:
    """Half a minute each, for a compiled copy of the kernels."""
    assert mutations.found(mutation, len(PROGRAMS), SEED)


def test_the_tables_are_short_and_the_document_is_in_step() -> None:
    """At most 30 rows of QEMU's, each with a manual; docs/traps.md is made from the limits."""
    assert len(known.ROWS) <= 30 and all(row.manual for row in known.ROWS)
    assert document.written() == document.rendered(), "run python -m tests.differ.document --update"
