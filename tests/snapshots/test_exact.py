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
    different = [ending for ending in endings(name, guest, tmp_path, 2, 1) if ending.differences]
    assert not different


@pytest.mark.parametrize(("moments", "seed"), [(1, 0), pytest.param(20, 1, marks=pytest.mark.stress)])
def test_forks_and_what_was_put_back_end_as_the_machine_does(moments: int, seed: int, tmp_path: Path) -> None:
    seen = 0
    for name, guest in {**shipped(), "bios": bios_guest.make(tmp_path)}.items():
        small = guest._replace(options={"memory": "4M", **guest.options})
        folder = tmp_path / name
        folder.mkdir()
        for ending in endings(name, small, folder, moments, seed):
            assert not ending.differences, f"{name}, {ending.who} from {ending.moment_ns} ns: {ending.differences}"
            seen += 1
    assert seen == ENDINGS * moments * (len(shipped()) + 1)
