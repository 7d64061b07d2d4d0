"""Compile the kernels that come with the package: ``python -m hypervisor.engine.compiling.shipping [--output FILE]``.

They are for every processor of a common level (`host_processor.LEVEL`). A kernel reaches Unicorn and the C library by
addresses in its block, and Python by names of its stable ABI alone, so one file serves every version of Python on any
Linux for x86-64. The package's build calls this (``hatch_build.py``): the same sources, compiled by the same versions
of numba, LLVM and Python, give the same bytes wherever they lie.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from hypervisor.engine.compiling import cache, compiler
from hypervisor.engine.compiling.choosing import SHIPPED
from hypervisor.engine.compiling.host_processor import LEVEL
from hypervisor.engine.compiling.kernel_file import Unsound, unpack
from hypervisor.errors import HypervisorError

SETTINGS = {"NUMBA_CPU_NAME": LEVEL, "NUMBA_CPU_FEATURES": ""}
"""What numba compiles for, by its environment as it was when numba was imported."""


def ship(output: Path) -> bool:
    """Put the file there; whether it had to be compiled: what compiled it last is kept, there and in the cache.

    Raises `HypervisorError` if it cannot be compiled, `OSError` where ``output`` cannot be written.
    """
    if _is_this_build(output):
        return False
    kept = cache.found(LEVEL)
    compiled = kept is None or not _is_this_build(kept)
    if kept is None or compiled:
        os.environ.update(SETTINGS)
        compiler.write(output, compiler.compile_kernels(LEVEL).pack())
        with suppress(OSError):
            compiler.write(cache.directory(LEVEL) / cache.FILE, output.read_bytes())
    else:
        compiler.write(output, cache.read(kept))
    output.chmod(0o644)  # who installs it is not who runs it
    return compiled


def _is_this_build(path: Path) -> bool:
    """Whether that file is what would be compiled."""
    try:
        kernels = unpack(path.read_bytes())
    except (OSError, Unsound):
        return False
    return (kernels.made_of, kernels.processor, kernels.compiler) == (cache.made_of(), LEVEL, cache.compiler())


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        "python -m hypervisor.engine.compiling.shipping", description=f"Compile the kernels for {LEVEL}."
    )
    parser.add_argument("--output", type=Path, default=SHIPPED, help="the file (default: in the package)")
    options = parser.parse_args(arguments)
    try:
        compiled = ship(options.output)
    except (HypervisorError, OSError) as problem:
        print(problem, file=sys.stderr)
        return 1
    print(f"{options.output}: {'compiled' if compiled else 'as it was compiled before'}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
