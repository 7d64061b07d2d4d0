"""Programs of the system that tests run. The Makefile's TEST_PROGRAMS has their packages, so that one command installs
them all; a test that misses one fails with that command.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

QEMU = "qemu-system-x86_64"


def program(name: str) -> str:
    """The path of a program."""
    found = shutil.which(name)
    assert found, f"{name} is not installed: `make system-deps` does it, as root."
    return found


def run(name: str, *arguments: object, cwd: Path | None = None, environment: Mapping[str, str] | None = None) -> str:
    """Run a program, which must succeed; returns what it says. Without an ``environment`` it has ours."""
    command = [program(name), *map(str, arguments)]
    done = subprocess.run(
        command, cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120
    )
    said = done.stdout.decode(errors="replace")
    assert done.returncode == 0, f"{name}: {said}"
    return said
