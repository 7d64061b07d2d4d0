"""The plugin of `hypervisor init --plugin`: built, installed into a directory of its own, and its own tests run."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from hypervisor.cli import main

ROOT = Path(__file__).parents[2]


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


@pytest.mark.parametrize(("name", "module", "class_"), [("two-dice", "two_dice", "TwoDice")])
def test_the_plugin_installs_and_passes_its_own_tests(name: str, module: str, class_: str, tmp_path: Path) -> None:
    project, site = tmp_path / name, tmp_path / "site"
    assert main(["init", str(project), "--plugin"]) == 0
    # Without its build backend at hand pip fetches one, which takes the network and half a minute.
    isolation = ["--no-build-isolation"] if importlib.util.find_spec("hatchling") else []
    run(tmp_path, "pip", "install", "-q", "--no-deps", *isolation, "--target", str(site), str(project))
    assert f"class {class_}:" in (site / module / "plugin.py").read_text()
    known = any(entry.value == "hypervisor.testing.plugin" for entry in entry_points(group="pytest11"))
    plugin = [] if known else ["-p", "hypervisor.testing.plugin"]
    paths = os.pathsep.join([str(site), str(ROOT)])
    tests = [*plugin, "-p", "no:cacheprovider", "--import-mode=importlib", "--rootdir", str(tmp_path)]
    output = run(tmp_path, "pytest", "-q", "-c", os.devnull, *tests, str(project / "tests"), PYTHONPATH=paths)
    assert "8 passed" in output and "skipped" not in output, output
