"""The short form of ``python -m tests.run.storm``."""

from __future__ import annotations

import pytest

from tests.run.storm import storm


@pytest.mark.parametrize("pcpus", [1, 2])
def test_nothing_is_lost_and_nothing_hangs(pcpus: int) -> None:
    assert storm(1.5, seed=pcpus, pcpus=pcpus) == ""


@pytest.mark.stress
def test_nothing_is_lost_and_nothing_hangs_for_long() -> None:
    assert storm(120, seed=3, workers=8) == ""
