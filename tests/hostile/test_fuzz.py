"""Ten thousand random programs do not harm the host (``make stress``: ten times as many, of another seed)."""

from __future__ import annotations

import pytest

from tests.hostile.fuzz import Outcome, fuzz


def _check(outcome: Outcome, programs: int) -> None:
    assert not outcome.problems, "\n".join(outcome.problems)
    assert sum(outcome.reasons.values()) == programs


def test_ten_thousand_random_programs() -> None:
    _check(fuzz(seed=1, guests=2_500, programs=4), 10_000)


@pytest.mark.stress
def test_a_hundred_thousand_random_programs() -> None:
    _check(fuzz(seed=2, guests=12_500, programs=8), 100_000)
