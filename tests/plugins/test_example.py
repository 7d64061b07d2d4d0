"""The example plugin: built, installed into a directory of its own, and its own tests run."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "plugin"


def run(directory: Path, *command: str, **environment: str) -> str:
    result = subprocess.run(
        [sys.executable, "-m", *command],
        env={**os.environ, **environment},
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_the_example_installs_and_passes_its_own_tests(tmp_path: Path) -> None:
    # Without its build backend at hand pip fetches one, which takes the network and half a minute.
    isolation = ["--no-build-isolation"] if importlib.util.find_spec("hatchling") else []
    site = tmp_path / "site"
    run(tmp_path, "pip", "install", "-q", "--no-deps", *isolation, "--target", str(site), str(EXAMPLE))
    assert (site / "rootmode_dice" / "plugin.py").exists()
    known = any(entry.value == "hypervisor.testing.plugin" for entry in entry_points(group="pytest11"))
    plugin = [] if known else ["-p", "hypervisor.testing.plugin"]
    paths = os.pathsep.join([str(site), str(ROOT)])
    tests = [*plugin, "-p", "no:cacheprovider", "--import-mode=importlib", "--rootdir", str(tmp_path)]
    output = run(tmp_path, "pytest", "-q", "-c", os.devnull, *tests, str(EXAMPLE / "tests"), PYTHONPATH=paths)
    assert " passed" in output and "skipped" not in output, output
