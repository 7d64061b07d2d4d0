"""The short form of ``python -m tests.sharing.kills``."""

from __future__ import annotations

from tests.sharing.kills import WAYS, kills


def test_vms_that_are_killed_anywhere_leave_nothing() -> None:
    wrong, ways = kills(150, seed=1)
    assert wrong == []
    assert set(ways) == {way.__name__ for way in WAYS}
