"""The short form of ``python -m tests.snapshots.rounds``."""

from __future__ import annotations

import pytest

from tests.snapshots.rounds import growth


@pytest.mark.parametrize("count", [100, pytest.param(2000, marks=pytest.mark.stress)])
def test_nothing_grows(count: int) -> None:
    before, after = growth(count)
    assert after[1:5] == before[1:5]
    assert after.objects <= before.objects + 50
    assert after.resident <= before.resident + (8 << 20)
