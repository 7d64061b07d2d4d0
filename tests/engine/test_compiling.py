"""Compiling the kernels: without a warning, into a cache that works where only it can be written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

COMPILE = """
import warnings
warnings.simplefilter("error")
from hypervisor.engine.compiling import cache, compiler
code = compiler.code()
from hypervisor.engine.compiling import hooks
assert set(code.address) >= {function.__name__ for function, _ in hooks.ENTRIES}
assert all(code.address.values())
assert cache.is_warm()
"""
LOAD = """
import sys
from hypervisor.engine.compiling import compiler
compiler.code()
assert not {"numba", "llvmlite"} & sys.modules.keys()
"""


def python(source: str, place: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "HYPERVISOR_CACHE": str(place)}
    environment.pop("HYPERVISOR_KERNELS", None)
    return subprocess.run([sys.executable, "-c", source], env=environment, capture_output=True, text=True, timeout=300)


def test_no_warning_and_the_second_process_imports_no_compiler(tmp_path: Path) -> None:
    """numba warns where it can cache no code, or turns integers into floating point."""
    first = python(COMPILE, tmp_path)
    assert first.returncode == 0, first.stderr
    assert first.stderr.count("\n") == 1 and "compiling" in first.stderr
    second = python(LOAD, tmp_path)
    assert second.returncode == 0 and not second.stderr, second.stderr
