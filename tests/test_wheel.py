"""The built wheel: what is in it, and that it runs a guest without Keystone."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from hypervisor.guests import NAMES

ROOT = Path(__file__).parents[1]
RUN = "import sys; sys.modules['keystone'] = None; from hypervisor.cli import main; sys.exit(main(['run', 'hello']))"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(place)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return next(place.glob("rootmode-*.whl"))


def test_contents(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {f"hypervisor/guests/{name}{suffix}" for name in NAMES for suffix in (".bin", ".sym")} < names
    assert "hypervisor/py.typed" in names
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"hypervisor", "rootmode"}
    assert not [name for name in names if name.endswith((".pyc", ".o")) or "/." in name]


def test_a_guest_runs_without_keystone(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    result = subprocess.run(
        [sys.executable, "-c", RUN], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stdout) == (0, "Hello\n"), result.stderr
