"""Compiling the kernels: without a warning, the same each time, into a file that runs without the compiler."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from hypervisor.engine.compiling import compiler
from hypervisor.engine.compiling.host_processor import LEVEL
from hypervisor.engine.compiling.kernel_file import unpack
from tests.empty_cache import empty_cache

SHIP = ("-m", "hypervisor.engine.compiling.shipping", "--output")
LOAD = """
import sys
from pathlib import Path
from hypervisor.engine.compiling import choosing, compiler
choosing.SHIPPED = Path(sys.argv[1])
code = compiler.code()
assert all(code.address.values())
assert not {"numba", "llvmlite"} & sys.modules.keys()
"""


def python(*arguments: str, place: Path, **environment: str) -> None:
    without = ("HYPERVISOR_KERNELS", "HYPERVISOR_CACHE", "PYTHONHASHSEED")
    inherited = {name: value for name, value in os.environ.items() if name not in without}
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=place,
        env=inherited | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0 and not done.stderr, done.stderr


def test_no_warning_and_the_same_again_and_another_process_imports_no_compiler(tmp_path: Path) -> None:
    """numba warns where it can cache no code, or turns integers into floating point. What the package's build compiled
    (`tests/test_wheel.py`, in the cache of this user) was in another folder, in another order of hashes.
    """
    new, kept, empty = tmp_path / "new.kernels", tmp_path / "kept.kernels", tmp_path / "cache"
    empty.mkdir()
    path = str(Path(compiler.__file__).parents[3])
    python("-W", "error", *SHIP, str(new), place=tmp_path, PYTHONPATH=path, PYTHONHASHSEED="7", **empty_cache(empty))
    assert list(empty.iterdir())  # so it has been compiled, and not found
    cached = os.environ.get("HYPERVISOR_CACHE", "")
    python(*SHIP, str(kept), place=tmp_path, PYTHONPATH=path, HYPERVISOR_CACHE=cached, PYTHONHASHSEED="0")
    assert new.read_bytes() == kept.read_bytes()
    kernels = unpack(new.read_bytes())
    assert kernels.linked.entries.keys() == kernels.signatures.keys() > {"run", "own_frame", "plain_tlb", "next_block"}
    assert kernels.processor == LEVEL
    elsewhere = tmp_path / "nothing"
    elsewhere.mkdir()
    python("-c", LOAD, str(new), place=tmp_path, PYTHONPATH=path, **empty_cache(elsewhere))
    assert not list(elsewhere.iterdir())
