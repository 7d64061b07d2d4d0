"""The short form of ``python -m tests.snapshots.exact``."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.debian import PackageUnavailable
from tests.snapshots.exact import ENDINGS, endings
from tests.twins import bios_guest
from tests.twins.guests import FIRMWARE, LINUX, shipped


@pytest.mark.stress
@pytest.mark.parametrize("name", [*FIRMWARE, *LINUX])
def test_real_guests(name: str, tmp_path: Path) -> None:
    try:
        guest = (FIRMWARE | LINUX)[name](tmp_path)
    except PackageUnavailable as problem:
        pytest.skip(str(problem))
    different = [ending for ending in endings({name: guest}, tmp_path, 2, 1) if ending.differences]
    assert not different


@pytest.mark.parametrize("half", [0, 1])
@pytest.mark.parametrize(("moments", "seed"), [(1, 0), pytest.param(20, 1, marks=pytest.mark.stress)])
def test_forks_and_what_was_put_back_end_as_the_machine_does(
    half: int, moments: int, seed: int, tmp_path: Path
) -> None:
    """Each half of the guests with one other process for all their files: its start takes longer than most of them."""
    guests = list({**shipped(), "bios": bios_guest.make(tmp_path)}.items())[half::2]
    small = {name: guest._replace(options={"memory": "4M", **guest.options}) for name, guest in guests}
    ends = list(endings(small, tmp_path, moments, seed))
    assert not [ending for ending in ends if ending.differences]
    assert len(ends) == ENDINGS * moments * len(small) and len(small) >= len(shipped()) // 2
