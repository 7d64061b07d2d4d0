"""Where compiled kernels go: only where nobody else can put files."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from hypervisor.engine import cache


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Every place inside the test's directory."""
    for name, place in (("HYPERVISOR_CACHE", "own"), ("XDG_CACHE_HOME", "xdg"), ("HOME", "home")):
        monkeypatch.setenv(name, str(tmp_path / place))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    cache.directory.cache_clear()
    yield tmp_path
    cache.directory.cache_clear()


def test_the_first_place_that_works(environment: Path) -> None:
    assert cache.directory() == environment / "own" / cache.digest()
    assert cache.directory().stat().st_mode & 0o777 == 0o700


def test_a_place_that_cannot_be_made_is_passed_over(environment: Path) -> None:
    (environment / "own").touch()
    assert cache.directory() == environment / "xdg" / "hypervisor" / cache.digest()


def test_a_place_that_others_can_write_is_passed_over(environment: Path) -> None:
    (environment / "own").mkdir(mode=0o777)
    (environment / "own").chmod(0o777)
    (environment / "xdg" / "hypervisor" / cache.digest()).mkdir(parents=True)
    (environment / "xdg" / "hypervisor" / cache.digest()).chmod(0o775)
    assert cache.directory() == environment / "home" / ".cache" / "hypervisor" / cache.digest()


def test_relative_places_are_not_used(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYPERVISOR_CACHE", "here")
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", "~")
    monkeypatch.chdir(environment)
    assert cache.directory().is_relative_to(environment / "tmp")
    assert sorted(path.name for path in environment.iterdir()) == ["tmp"]
