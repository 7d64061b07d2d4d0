"""The short form of ``python -m tests.twins``: every shipped guest and one that lives in the BIOS."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.twins import bios_guest
from tests.twins.guests import shipped
from tests.twins.runs import pairs


@pytest.mark.parametrize("disturbed", [False, True], ids=["alone", "disturbed"])
@pytest.mark.parametrize(("moments", "seed"), [(2, 0), pytest.param(30, 1, marks=pytest.mark.stress)])
def test_twins_go_on_in_the_same_way(moments: int, seed: int, disturbed: bool, tmp_path: Path) -> None:
    guests = {**shipped(), "bios": bios_guest.make(tmp_path)}
    seen = 0
    for pair in pairs(guests, tmp_path, moments, seed, disturbed=disturbed):
        assert not pair.differences, f"{pair.name}, from {pair.moment_ns} ns: {pair.differences}"
        seen += 1
    assert seen == moments * len(guests)
