"""Fork, run, close, and put back, again and again: ``python -m tests.snapshots.rounds [--rounds 100000]``.

Nothing may grow: the process's memory, its threads and open files, the host's frames and promises, the objects alive.
"""

from __future__ import annotations

import argparse
import gc
import os
import threading
import time
from pathlib import Path
from typing import NamedTuple

import hypervisor as hv
from tests.memory.maps import census
from tests.snapshots.sharing import for_a_moment


class Use(NamedTuple):
    """What a process uses."""

    resident: int
    files: int
    threads: int
    frames: int
    promises: int
    objects: int

    @classmethod
    def of(cls, host: hv.Host) -> Use:
        """At this moment."""
        gc.collect()
        resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        return cls(
            resident, len(os.listdir("/proc/self/fd")), threading.active_count(), host.memory.used,
            len(host.memory.promises), len(gc.get_objects()),
        )  # fmt: skip


def rounds(vm: hv.VM, count: int) -> None:
    """So many times a fork goes on for a moment and is closed, and the machine is put back."""
    with vm.snapshot() as snapshot:
        end = snapshot.now_ns + 200_000
        for _ in range(count):
            with snapshot.fork() as child:
                for_a_moment(child, (end - child.clock.now_ns) / 1e9)
                with child.fork() as grandchild:
                    for_a_moment(grandchild, 1e-5)
            for_a_moment(vm, 2e-4)
            vm.revert(snapshot)


def growth(count: int) -> tuple[Use, Use]:
    """What is used after some rounds, and after so many more. The room for translated code is small, so that it is full
    before.
    """
    with hv.Host("8M", 2, code_cache="1M") as host, host.create_vm("preempt", memory="4M") as vm:
        vm.run(virtual_timeout=0.01)
        rounds(vm, 200)
        before = Use.of(host)
        rounds(vm, count)
        after = Use.of(host)
        census(host.memory, [vm.memory.pages])
        return before, after


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=100_000)
    given = parser.parse_args()
    began = time.monotonic()
    before, after = growth(given.rounds)
    print(f"{given.rounds} rounds in {time.monotonic() - began:.0f} s")
    for name, one, other in zip(Use._fields, before, after, strict=True):
        print(f"  {name}: {one} -> {other}")
    grown = [name for name in Use._fields[1:5] if getattr(after, name) > getattr(before, name)]
    raise SystemExit(f"{', '.join(grown)} have grown" if grown else 0)


if __name__ == "__main__":
    main()
