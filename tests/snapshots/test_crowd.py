"""The short form of ``python -m tests.snapshots.crowd``."""

from __future__ import annotations

import pytest

from tests.debian import PackageUnavailable
from tests.snapshots.crowd import IDLE_KIB, most_kib, taken


@pytest.mark.stress
def test_forks_take_little_more_than_they_store() -> None:
    try:
        idle, run, dirty = taken(100, 200)
    except PackageUnavailable as problem:
        pytest.skip(str(problem))
    assert idle <= IDLE_KIB
    assert idle + run <= most_kib(dirty)
