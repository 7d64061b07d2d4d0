"""The short form of ``python -m tests.counting``: each kind in a few of the ways, and each way, under both clocks."""

from __future__ import annotations

import pytest

from tests.counting.counted import count
from tests.counting.guests import KINDS
from tests.counting.ways import WAYS

_WAYS = tuple(WAYS)
EACH = 3
CASES = [
    (kind, _WAYS[(EACH * n + turn) % len(_WAYS)], clock)
    for n, kind in enumerate(KINDS)
    for turn in range(EACH)
    for clock in ("virtual", "wall")
]


@pytest.mark.parametrize(("kind", "way", "clock"), CASES)
def test_nothing_is_lost_or_doubled(kind: str, way: str, clock: str) -> None:
    assert count(kind, way, clock, 1) == []


def test_the_count_notices_what_is_lost() -> None:
    """A handler that misses an access, and a guest that does one more, are seen."""
    from tests.counting import guests

    kind = guests.KINDS["out"]
    lost = guests.Kind(kind.body + "; cmp r14, 7; jne on; inc r15d; on: nop", kind.rounds, kind.attach)
    guests.KINDS["lost"] = lost
    try:
        assert count("lost", "nothing", "virtual", 1)
    finally:
        del guests.KINDS["lost"]
