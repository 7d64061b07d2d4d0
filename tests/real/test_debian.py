"""The package fetcher, where no network is needed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests import debian


@pytest.fixture
def no_apt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(debian, "package_files", debian.package_files.__wrapped__)
    return debian.cache_directory()


def test_a_cached_package_is_enough_without_apt(no_apt: Path) -> None:
    kept = no_apt / "memtest86+_6.10-4" / "boot"
    kept.mkdir(parents=True)
    (kept / "memtest86+x64.bin").write_bytes(b"x")
    assert debian.debian_path("memtest86+", "boot/*x64.bin") == kept / "memtest86+x64.bin"


def test_another_version_in_the_cache_is_not_taken(no_apt: Path) -> None:
    (no_apt / "memtest86+_7.20-1").mkdir(parents=True)
    with pytest.raises(debian.PackageUnavailable, match=r"memtest86\+ 6\.10\* cannot be had \(this machine has no apt"):
        debian.package_files("memtest86+")


def test_a_missing_file_is_named(no_apt: Path) -> None:
    (no_apt / "memtest86+_6.10-4").mkdir(parents=True)
    with pytest.raises(debian.PackageUnavailable, match=r"no file that matches boot/\*\.iso"):
        debian.debian_path("memtest86+", "boot/*.iso")
