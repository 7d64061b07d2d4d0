"""The short form of ``python -m tests.snapshots.sharing``."""

from __future__ import annotations

from tests.snapshots.sharing import family


def test_relatives_that_write_the_same_pages() -> None:
    with family(1.0, 2) as found:
        assert found.rounds and found.forks and found.reverts
