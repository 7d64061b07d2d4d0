"""A thousand forks of a Linux guest at a shell, all open at once: ``python -m tests.snapshots.crowd [--forks 1000]``.

What each takes before it runs, and when its shell has run a command that stores to some hundred frames, by the
process's PSS, which counts everything: frames, leaves of page maps, guests' TLBs, objects in Python.
"""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import hypervisor as hv
from bench.forks import at_a_shell
from tests.memory.maps import census

COMMAND, PROMPT = "dd if=/dev/zero of=/dev/null bs={kib}k count=1\n", "# "
PATIENCE_S = 120.0
IDLE_KIB, BESIDE = 0.6 * 1024, 0.1
"""What a fork may take before it runs, in KiB; and then beside its dirty frames, as a part of them."""


class Taken(NamedTuple):
    """By each of some forks, in KiB: before it ran, behind that, and the frames that it stored to meanwhile."""

    idle: float
    run: float
    dirty: float


def pss_kib() -> float:
    """What the process takes of the host's memory, what it shares with others by its part."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith("Pss:")))


def _command(fork: hv.VM, frames: int) -> None:
    fork.console.send(COMMAND.format(kib=4 * frames))
    fork.console.expect("records out", timeout=PATIENCE_S)
    fork.console.expect(PROMPT, timeout=PATIENCE_S)


def taken(count: int, frames: int) -> Taken:
    """By forks, each of which runs a command that stores to so many frames and some more."""
    with at_a_shell() as (vm, snapshot), ExitStack() as stack:
        with snapshot.fork() as first:  # so that the engine has what one needs
            _command(first, frames)
        before = pss_kib()
        forks = [stack.enter_context(snapshot.fork()) for _ in range(count)]
        idle = pss_kib()
        for fork in forks:
            _command(fork, frames)
        run = pss_kib()
        census(vm.host.memory, [vm.memory.pages for vm in vm.host.vms])
        pages = [fork.revert(snapshot) for fork in forks]
        assert min(pages) >= frames
        return Taken((idle - before) / count, (run - idle) / count, sum(pages) * 4 / count)


def most_kib(dirty: float) -> float:
    """What a fork may take that has stored to so many KiB of frames."""
    return IDLE_KIB + (1 + BESIDE) * dirty


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--forks", type=int, default=1000)
    parser.add_argument("--frames", type=int, default=200, help="that the command stores to, at least")
    given = parser.parse_args()
    idle, run, dirty = taken(given.forks, given.frames)
    print(f"{given.forks} forks: {idle / 1024:.2f} MiB each before they run")
    print(f"then {run:.0f} KiB more, {dirty:.0f} of it frames that they have stored to ({run / dirty - 1:+.1%})")
    print(f"in all {idle + run:.0f} KiB; {IDLE_KIB:.0f} and frames with a tenth would be {most_kib(dirty):.0f}")
    raise SystemExit("too much" if idle > IDLE_KIB or idle + run > most_kib(dirty) else 0)


if __name__ == "__main__":
    main()
