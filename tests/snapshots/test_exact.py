"""The short form of ``python -m tests.snapshots.exact``."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.snapshots.exact import endings
from tests.twins import bios_guest
from tests.twins.guests import shipped


@pytest.mark.parametrize(("moments", "seed"), [(1, 0), pytest.param(20, 1, marks=pytest.mark.stress)])
def test_forks_and_what_was_put_back_end_as_the_machine_does(moments: int, seed: int, tmp_path: Path) -> None:
    seen = 0
    for name, guest in {**shipped(), "bios": bios_guest.make(tmp_path)}.items():
        small = guest._replace(options={"memory": "4M", **guest.options})
        for ending in endings(name, small, moments, seed):
            assert not ending.differences, f"{name}, {ending.who} from {ending.moment_ns} ns: {ending.differences}"
            seen += 1
    assert seen == 5 * moments * (len(shipped()) + 1)
