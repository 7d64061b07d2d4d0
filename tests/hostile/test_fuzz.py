"""Ten thousand random guests do not harm the host (``make stress``: ten times as many, of another seed)."""

from __future__ import annotations

import pytest

from tests.hostile.fuzz import Outcome, fuzz


def _check(outcome: Outcome, guests: int) -> None:
    assert not outcome.problems, "\n".join(outcome.problems)
    assert sum(outcome.reasons.values()) == guests


def test_ten_thousand_random_guests() -> None:
    _check(fuzz(seed=1, guests=10_000), 10_000)


@pytest.mark.stress
def test_a_hundred_thousand_random_guests() -> None:
    _check(fuzz(seed=2, guests=100_000), 100_000)
