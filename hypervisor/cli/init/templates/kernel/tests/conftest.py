"""Builds the kernel before the first test."""

import shutil
import subprocess
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]


def pytest_configure(config):
    """Run the Makefile: once, and not again in each worker of pytest-xdist."""
    if hasattr(config, "workerinput"):
        return
    if shutil.which("make") is None:
        raise pytest.UsageError("make is not installed, so the kernel cannot be built: apt-get install PACKAGES")
    built = subprocess.run(["make", "-s", "-C", PROJECT], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if built.returncode:
        raise pytest.UsageError(f"The kernel could not be built. make says:\n{built.stdout}")


@pytest.fixture
def kernel():
    """The path of the kernel."""
    return str(PROJECT / "kernel.elf")
