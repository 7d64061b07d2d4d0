"""pytest as a user runs it, with the plugin from here, on tests that are written into a folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

_CODE = (
    "import importlib.metadata as m, pytest, sys; "
    "known = any(e.value == 'hypervisor.testing.plugin' for e in m.entry_points(group='pytest11')); "
    "extra = [] if known else ['-p', 'hypervisor.testing.plugin']; "
    "sys.exit(pytest.main(['-q', '-s', '-p', 'no:cacheprovider', *extra, *sys.argv[1:]]))"
)


def begin(directory: Path, *arguments: str, asked: str = "") -> subprocess.Popen[str]:
    """A run of the tests in a folder, or of those ``asked`` for."""
    kept = {name: os.environ[name] for name in ("HOME", "XDG_CACHE_HOME", "HYPERVISOR_KERNELS") if name in os.environ}
    return subprocess.Popen(
        [sys.executable, "-c", _CODE, asked or str(directory), *arguments],
        cwd=directory,
        env={"PYTHONPATH": str(ROOT), "PATH": "", **kept},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finished(run: subprocess.Popen[str], status: int = 1) -> str:
    """What it printed when it has ended, which is to be with this exit status."""
    text = run.communicate(timeout=300)[0]
    assert run.returncode == status, text
    return text


def pytest_run(directory: Path, conftest: str, tests: str, *arguments: str, status: int = 1) -> str:
    """What pytest prints of these tests."""
    (directory / "conftest.py").write_text(conftest)
    (directory / "test_it.py").write_text(tests)
    return finished(begin(directory, *arguments), status)
