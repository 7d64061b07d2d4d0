"""Our side of the microbenchmarks: in this process, whose kernels are warm."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path

import hypervisor as hv
from bench.handlers import ATTACH
from bench.image import SUCCESS

TIMEOUT_S = 300.0


class RunError(Exception):
    """The image did not run to its end."""


def processors(image: Path, clock: str, cpus: int, test: int, rounds: int) -> float:
    """As `micro`, for the image of what processors do to each other."""
    start = time.perf_counter()
    with closing(hv.boot(str(image), memory="64M", append=f"{test} {rounds}", clock=clock, cpus=cpus)) as vm:
        result = vm.run(timeout=TIMEOUT_S)
        seconds = time.perf_counter() - start
    if result.reason is not hv.Reason.DEBUG_EXIT or result.status != SUCCESS:
        raise RunError(f"{rounds} rounds ended as {result.reason.value}: {result.message}")
    return seconds


def micro(image: Path, clock: str, handler: str, test: int, rounds: int) -> float:
    """Seconds from the creation of the VM, with ``handler`` of `bench.handlers`, to the end of its run.

    The image is the machine's disk, too.
    """
    if handler not in ATTACH:
        raise RunError(f"there is no handler called {handler!r}")
    start = time.perf_counter()
    with closing(hv.boot(str(image), memory="64M", append=f"{test} {rounds}", clock=clock, disks=[image])) as vm:
        ATTACH[handler](vm)
        result = vm.run(timeout=TIMEOUT_S)
        seconds = time.perf_counter() - start
    if result.reason is not hv.Reason.DEBUG_EXIT or result.status != SUCCESS:
        raise RunError(f"test {test} with N={rounds} ended as {result.reason.value}: {result.message}")
    return seconds
