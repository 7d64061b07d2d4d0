"""The short form: some programs of one seed, none of which differs but as the tables say."""

from __future__ import annotations

from collections import Counter

from tests.differ import known
from tests.differ.minimise import differing
from tests.differ.program import make

SEED = 1
PROGRAMS = range(0, 300)


def test_programs_end_as_under_qemu() -> None:
    """Each program that differs would be printed."""
    programs = [make(SEED, number) for number in PROGRAMS]
    fired: Counter[known.Row] = Counter()
    bad = []
    for program, found in zip(programs, differing(programs), strict=True):
        left = known.unexplained(program, found, fired)
        if left:
            bad.append(f"{program}\n{ {name: tuple(map(hex, found[name])) for name in left} }")
    assert not bad, "\n\n".join(bad)
    assert fired, "not even the rows fired: were the programs compared at all?"
