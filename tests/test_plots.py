"""The pictures of docs/one_host.md are those of docs/one_host.json, and the page shows all of them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench.plots import DATA, DOCS, FOLDER, PLOTS, digest

LARGEST = 40_000


@pytest.mark.parametrize("name", PLOTS)
def test_a_picture_is_drawn_of_the_data_that_are_there(name: str) -> None:
    text = (FOLDER / f"{name}.svg").read_text()
    assert re.findall(r"data ([0-9a-f]{16})", text) == [digest(json.loads(DATA.read_text())[name])], (
        "draw it again: python -m bench.plots"
    )
    assert len(text) < LARGEST and str(Path.home()) not in text
    ElementTree.fromstring(text)


def test_the_page_shows_each_of_them_once() -> None:
    shown = re.findall(r"!\[[^]]+\]\(plots/(\w+)\.svg\)", (DOCS / "one_host.md").read_text())
    assert sorted(shown) == sorted(PLOTS) == sorted(path.stem for path in FOLDER.glob("*.svg"))


def test_what_the_page_says_is_in_the_data() -> None:
    data = json.loads(DATA.read_text())
    unshared, scanned = data["linux"]["unshared_mib"], data["linux"]["scanned_mib"]
    assert round(scanned[-1] / unshared[-1], 2) == 0.35 and round(unshared[0]) == 97 and round(scanned[0]) == 59
    assert round((scanned[-1] - scanned[0]) / 9) == 31
    assert round(scanned[-1] / data["linux"]["promised_mib"], 2) == 0.13
    count, mib = data["clones"]["fresh_mib"][-1]
    assert count == 1000 and round(mib / count, 2) == 0.26
    for number, bandwidth in ((1024, "bandwidth 1M"), (256, "bandwidth 256K"), (400, "iops 100")):
        assert data["disks"][bandwidth][-1] == number
