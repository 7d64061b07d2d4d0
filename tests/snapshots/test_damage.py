"""The short form of ``python -m tests.snapshots.damage``."""

from __future__ import annotations

import pytest

from tests.snapshots.damage import rounds


@pytest.mark.parametrize("count", [120, pytest.param(10_000, marks=pytest.mark.stress)])
def test_damaged_files_start_nothing_and_keep_nothing(count: int) -> None:
    seen = rounds(count, count)
    assert seen["outside: ImageError"] >= count // 2 - 3
    assert seen["inside: virtual-timeout"] and seen["inside: ImageError"]
