"""The process that runs guests. It says which one is running, so that its death has a culprit."""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import hypervisor as hv
from tests.hostile.neighbour import Neighbour
from tests.hostile.scenes import MEMORY, Scene, another, make

HOST_S = 10.0
"""Host seconds after which a guest counts as hanging: its virtual time must have ended it long before."""

OUR_FAULT = "please report this"
"""What a crash report says that failed."""

FINE = frozenset(hv.Reason) - {hv.Reason.HOST_ERROR, hv.Reason.TIMEOUT}


def prepare(vm: Any, scene: Scene) -> None:
    """Put a scene into a VM."""
    for gpa, data in scene.writes:
        vm.dma.write(gpa, data)
    registers = vm.vcpu.registers
    for name, value in scene.registers.items():
        registers.set(name, value)
    for name, segment in scene.segments.items():
        registers.set_segment(name, segment)
    for name, table in scene.tables.items():
        registers.set_table(name, table)


def run_one(host: hv.Host, scene: Scene) -> Any:
    """One guest on a shared host, from creation to closing."""
    with host.create_vm(memory=MEMORY) as vm:
        prepare(vm, scene)
        return vm.run(timeout=HOST_S, virtual_timeout=scene.virtual_s)


def run_several(host: hv.Host, seed: int, number: int, programs: int) -> Iterator[tuple[Scene, Any]]:
    """So many programs on one guest, each with its result. The last one's crash is reported in full: reports take more
    time than programs.
    """
    scene = make(seed, number)
    reporter = hv.VM.reporter
    with host.create_vm(memory=MEMORY) as vm:
        for count in range(programs):
            following = another(scene, seed, number, count) if count else scene
            prepare(vm, following)
            hv.VM.reporter = staticmethod(reporter) if reporter and count == programs - 1 else None
            try:
                result = vm.run(timeout=HOST_S, virtual_timeout=following.virtual_s)
            finally:
                hv.VM.reporter = staticmethod(reporter) if reporter else None
            yield following, result


def main(seed: int, first: int, count: int, programs: int, channel: int) -> None:
    """Run guests ``first`` to ``first + count - 1`` with so many ``programs`` each, writing a line before each guest to
    ``channel``, and a summary at the end.
    """
    host = hv.Host(memory="8M", cpus=1)
    neighbour = Neighbour(host)
    reasons: Counter[str] = Counter()
    exits: Counter[str] = Counter()
    slow: list[tuple[float, int, str]] = []
    bad: list[str] = []
    for number in range(first, first + count):
        os.write(channel, b"%d\n" % number)
        started = time.perf_counter()
        for at, (scene, result) in enumerate(run_several(host, seed, number, programs)):
            reasons[result.reason.value] += 1
            last = result.exits
            if result.reason not in FINE or OUR_FAULT in str(result.crash):
                what = f"guest {number} ({scene.kind}), program {at}, ended as {result.reason.value}"
                bad.append(f"{what}: {result.message}\n{result.crash or ''}")
        exits.update(last)  # of all its programs
        slow.append((time.perf_counter() - started, number, scene.kind))
        slow = sorted(slow, reverse=True)[:5]
        if number % 50 == 0:
            neighbour.work()
    neighbour.check()
    host.close()
    report = {"reasons": reasons, "exits": exits, "slow": slow, "bad": bad[:20]}
    os.write(channel, json.dumps(report).encode() + b"\n")


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
