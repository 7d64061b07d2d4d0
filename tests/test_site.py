"""The documents as a site: built strictly, every page in the navigation, nothing fetched from elsewhere, and no link or
picture that leads nowhere, in what a browser gets.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import hypervisor
from tests.test_docs import DOCUMENTS, ROOT

LEAST_PAGES = 40


class _Page(HTMLParser):
    """What a page points to, what it loads, and the places in it that can be pointed to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.places: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.places |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif tag in ("img", "script", "iframe") and "src" in given:
            self.loads.append(given["src"])
        elif tag == "link" and given.get("rel") in ("stylesheet", "icon"):
            self.loads.append(given["href"])


def build(source: Path, place: Path) -> subprocess.CompletedProcess[str]:
    command = (sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(place))
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, cwd=source, env=environment, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("site")
    done = build(ROOT, place)
    assert done.returncode == 0 and "WARNING" not in done.stderr, done.stderr
    return place


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, _Page]:
    return {path: _Page(path.read_text()) for path in site.rglob("*.html") if path.name != "404.html"}


def test_each_document_is_a_page(site: Path, pages: dict[Path, _Page]) -> None:
    names = {path.relative_to(site).with_suffix("").as_posix() for path in pages}
    documents = {path.relative_to(ROOT / "docs").with_suffix("").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert documents | {"index", "changelog"} <= names and len(names) >= LEAST_PAGES
    assert {path for path in DOCUMENTS if path.parent.name == "docs"} <= {
        ROOT / "docs" / f"{name}.md" for name in documents
    }


def test_links_lead_somewhere(site: Path, pages: dict[Path, _Page]) -> None:
    broken, followed = [], 0
    for path, page in pages.items():
        for link in [*page.links, *page.loads]:
            to = urlsplit(link)
            if to.scheme or to.netloc:
                continue
            place = (path.parent / unquote(to.path)).resolve() if to.path else path
            place = place / "index.html" if place.is_dir() else place
            followed += 1
            anchors = pages[place].places if place in pages else {unquote(to.fragment)}
            if not place.is_file() or (to.fragment and unquote(to.fragment) not in anchors):
                broken.append(f"{path.relative_to(site)}: {link}")
    assert not broken and followed > 10 * len(pages)


def test_nothing_is_fetched_from_elsewhere(site: Path, pages: dict[Path, _Page]) -> None:
    assert not [load for page in pages.values() for load in page.loads if urlsplit(load).netloc]


def test_the_reference_has_the_public_names(site: Path) -> None:
    """Each class and function of the face is described on a page of the reference."""
    text = " ".join(path.read_text() for path in (site / "reference").glob("*.html"))
    described = {place.rpartition(".")[2] for place in re.findall(r'id="(hypervisor\.[\w.]+)"', text)}
    wanted = {name for name in hypervisor.__all__ if callable(getattr(hypervisor, name))}
    assert not wanted - described - {"Verdict"}, wanted - described


def test_a_page_that_is_missing_from_the_navigation_and_a_link_to_nowhere_are_errors(tmp_path: Path) -> None:
    small = tmp_path / "small"
    (small / "docs").mkdir(parents=True)
    # The configuration as it is, but for what takes its time.
    text = re.sub(r"^(plugins|hooks|theme):.*?(?=^\S)", "", (ROOT / "mkdocs.yml").read_text(), flags=re.M | re.S)
    (small / "mkdocs.yml").write_text(text.partition("\nnav:")[0] + "\nnav:\n  - Home: index.md\n")
    (small / "docs" / "index.md").write_text("# Home\n\n## Here\n\n[here](#here)\n")
    assert build(small, tmp_path / "good").returncode == 0
    (small / "docs" / "index.md").write_text("# Home\n\n[there](there.md), [below](#below)\n")
    (small / "docs" / "forgotten.md").write_text("# Forgotten\n")
    done = build(small, tmp_path / "bad")
    assert done.returncode and "forgotten.md" in done.stderr and "'there.md'" in done.stderr, done.stderr
    assert "#below" in done.stderr
