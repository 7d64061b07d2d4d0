"""The short form of ``python -m tests.real.disturbed``."""

from __future__ import annotations

import pytest

from tests.real.disturbed import alone, differences, disturbed, guests


@pytest.mark.parametrize("pcpus", [1, 2])
def test_nothing_that_the_host_does_shows_in_a_run(pcpus: int) -> None:
    boots = guests(rounds=60_000)
    expected = alone(boots)
    outcomes = disturbed(boots, pcpus, rounds=1, seed=pcpus)
    assert len(outcomes) == len(boots)
    assert [(name, differences(expected[name], seen)) for name, seen in outcomes if expected[name] != seen] == []
