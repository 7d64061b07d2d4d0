"""Does the fuzzer find faults? ``python -m tests.differ.mutations``: each of three, put into a copy of our code.

The copy's kernels are compiled anew, into a cache of its own; that takes half a minute for each. The fuzzer runs
against the copy without a mutation, too, where it must find nothing.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
KERNELS = Path("hypervisor/engine/kernels")


class Mutation(NamedTuple):
    """``right`` stands once in a file of the engine's kernels; ``wrong`` takes its place."""

    name: str
    file: str
    right: str
    wrong: str


NONE = Mutation("no mutation", "vmexit/events.py", "", "")
MUTATIONS = (
    Mutation(
        "a wrong flag: IRET keeps AF",
        "segments/far_returns.py",
        "(old & ~mask) | (image & mask)",
        "old ^ (old ^ image) & mask & ~16",
    ),
    Mutation(
        "a wrong error code: with the RPL",
        "segments/load_segment.py",
        "return refuse(b, vector, selector & SELECTOR)",
        "return refuse(b, vector, selector)",
    ),
    Mutation(
        "a lost base: of data segments",
        "segments/load_segment.py",
        "selector, descriptor_base(d), ",
        "selector, 0, ",
    ),
)


def mutated(mutation: Mutation, root: Path) -> str:
    """The file's text with the mutation. Raises `AssertionError` where the code is not what the mutation knows."""
    text = (root / KERNELS / mutation.file).read_text()
    if not mutation.right:
        return text
    assert text.count(mutation.right) == 1, f"{mutation.file} has {mutation.right!r} not once: change the mutation"
    return text.replace(mutation.right, mutation.wrong)


def found(mutation: Mutation, programs: int, seed: int) -> int:
    """How many of the programs differ from QEMU's with a mutation in the code."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        shutil.copytree(ROOT / "hypervisor", copy / "hypervisor", ignore=shutil.ignore_patterns("__pycache__"))
        (copy / KERNELS / mutation.file).write_text(mutated(mutation, copy))
        environment = {**os.environ, "PYTHONPATH": f"{copy}:{ROOT}", "HYPERVISOR_CACHE": str(copy / "cache")}
        options = ["--programs", str(programs), "--seed", str(seed), "--show", "0"]
        command = [sys.executable, "-m", "tests.differ", *options]
        done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=False)
        counted = re.search(r"^\d+ programs, (\d+) differ;", done.stdout, re.MULTILINE)
        assert counted, f"the fuzzer did not come to its end:\n{done.stdout}{done.stderr}"
        return int(counted[1])


def main() -> int:
    """Print what each mutation made of the programs; 1 if one was not found, or something without one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--programs", type=int, default=600)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    failed = False
    for mutation in (NONE, *MUTATIONS):
        differ = found(mutation, options.programs, options.seed)
        failed |= (differ > 0) != (mutation is not NONE)
        print(f"{mutation.name}: {differ} of {options.programs} programs differ", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
