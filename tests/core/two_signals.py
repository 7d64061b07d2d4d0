"""``python -m tests.core.two_signals SEED``: signals whose handler raises, two in each run, the second soon behind the
first. Wherever they strike while a run begins, goes on or ends, the caller gets an exception, the VM is free, and no
lock or thread is left. Prints how many runs were struck. With odd seeds a neighbour wants the pCPU, too; every other
two seeds are by the wall clock.
"""

from __future__ import annotations

import random
import signal
import sys
import threading
from types import FrameType

import hypervisor as hv
from hypervisor.assembler import assemble
from hypervisor.run.threads.waiting import Wait

RUNS = 200
WORK, SPINS = (assemble(source, origin=0x10000, mode=32).code for source in ("jmp $", "again: inc eax; jmp again"))


class RingError(Exception):
    """What the handler raises."""


def _waits(frame: FrameType | None) -> bool:
    while frame is not None and frame.f_code is not Wait.for_task.__code__:
        frame = frame.f_back
    return frame is not None


def main() -> None:
    """See above."""
    seed = int(sys.argv[1])
    rng, left, struck = random.Random(seed), 0, 0

    def ring(number: int, frame: FrameType | None) -> None:
        nonlocal left
        if left and _waits(frame):
            left -= 1
            signal.setitimer(signal.ITIMER_REAL, rng.choice((1e-6, 3e-5, 2e-4, 1e-3)))
            raise RingError

    signal.signal(signal.SIGALRM, ring)
    options = {"memory": "4M", "format": "flat", "at": 0x10000, "mode": 32}
    with hv.Host("32M", 1) as host, host.create_vm(SPINS, **options) as neighbour:
        vm = host.create_vm(WORK, clock="wall" if seed & 2 else "virtual", **options)
        if seed & 1:
            neighbour.start()
        for _ in range(RUNS):
            left = 2
            signal.setitimer(signal.ITIMER_REAL, 1e-6 + rng.random() * 4e-4)
            try:
                vm.run(virtual_timeout=0.002)
            except RingError:
                struck += 1
            left = 0
            signal.setitimer(signal.ITIMER_REAL, 0)
            assert vm.runner is None, "a run was left behind"
        ours = [one for one in threading.enumerate() if one.name.startswith("hypervisor") and one.is_alive()]
        assert len(ours) <= 3, ours  # the pCPU's and the watch, and one whose start was interrupted may not know yet
    print(struck)


if __name__ == "__main__":
    main()
