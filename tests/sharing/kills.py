"""VMs that are killed wherever they are: ``python -m tests.sharing.kills [--kills 10000] [--seed 0]``.

Guests that count, wait for each other, page and attack come to a host of two pCPUs, run for a random while, and end in
a random way: closed as they run, stopped, ended by a handler that fails or by a time limit, with a snapshot or a fork
that outlives them. An honest one runs beside them. At the end nothing may have grown, the census of frames must be
exact, and the frames that were theirs must come to the next VM as zeros.
"""

from __future__ import annotations

import argparse
import random
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

import hypervisor as hv
from hypervisor.errors import TrapError
from tests.core.bare import bare
from tests.memory.maps import census
from tests.snapshots.rounds import Use

MEMORY = 24 << 20
GUESTS = ("hello", "preempt", "smp", "pagefault", "trapzoo", "hostile", "long", "apic")
HONEST = "mov ecx, 1000; work: loop work; inc rbx; jmp 0x10000"
WHILE_S = 0.004
"""For how long a VM lives at most."""

Kill = Callable[[hv.VM, random.Random], None]


def closed(vm: hv.VM, rng: random.Random) -> None:
    """It goes on running until then."""
    vm.start()
    time.sleep(rng.random() * WHILE_S)
    vm.close()


def stopped(vm: hv.VM, rng: random.Random) -> None:
    """It is told to stop, perhaps in a pause, and closed later."""
    vm.start()
    time.sleep(rng.random() * WHILE_S)
    if rng.random() < 0.5:
        vm.pause()
    vm.stop()
    vm.close()


def timed(vm: hv.VM, rng: random.Random) -> None:
    """Its time is over, the host's or its own."""
    seconds = rng.random() * WHILE_S + 1e-6
    vm.run(**{rng.choice(("timeout", "virtual_timeout")): seconds})
    vm.close()


def failed(vm: hv.VM, rng: random.Random) -> None:
    """A handler fails at one of its first exits."""
    left = rng.randrange(30)

    def fail(vcpu: hv.Vcpu, exit: hv.Exit) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise RuntimeError("as it was told")

    for kind in (vm.traps.port_out, vm.traps.port_in, vm.traps.cpuid, vm.traps.exception):
        kind(mode="observe")(fail)
    with suppress(TrapError):
        vm.run(timeout=WHILE_S)
    vm.close()


def survived(vm: hv.VM, rng: random.Random) -> None:
    """A snapshot, or a fork, goes on without it."""
    vm.start()
    time.sleep(rng.random() * WHILE_S)
    with vm.paused():
        snapshot = vm.snapshot()
    with snapshot:
        vm.close()
        with snapshot.fork() as fork:
            fork.run(timeout=rng.random() * WHILE_S + 1e-6)
            if rng.random() < 0.5:
                snapshot.close()
                fork.run(timeout=rng.random() * WHILE_S + 1e-6)


WAYS: tuple[Kill, ...] = (closed, stopped, timed, failed, survived)


def _kill_some(host: hv.Host, count: int, rng: random.Random, ways: Counter[str]) -> None:
    """So many come and go."""
    for _ in range(count):
        way, guest = rng.choice(WAYS), rng.choice(GUESTS)
        cpus = rng.choice((1, 2)) if guest == "smp" else 1
        way(host.create_vm(guest, memory="2M", cpus=cpus, clock=rng.choice(("virtual", "wall"))), rng)
        ways[way.__name__] += 1


def _all_zeros(host: hv.Host) -> bool:
    """Whether the frames that are free come as zeros to a VM that gets all of them."""
    size = MEMORY - (4 << 20)
    with host.create_vm(hv.MachineConfig(memory=f"{size >> 20}M")) as vm:
        for at in range(1 << 20, size, 4096):  # (below lies the firmware's)
            vm.memory.write(at + 0x800, b"\x01")
        page = bytes(0x800) + b"\x01" + bytes(0x7FF)
        return vm.memory.read(1 << 20, size - (1 << 20)) == page * ((size >> 12) - 256)


def kills(count: int, seed: int) -> tuple[list[str], Counter[str]]:
    """What is wrong when so many have been killed, and in which ways they were."""
    rng, ways, wrong = random.Random(seed), Counter[str](), []
    with hv.Host(MEMORY, 2, code_cache="1M") as host, bare(HONEST, host=host) as honest:
        honest.start()
        _kill_some(host, max(count // 10, 20), rng, Counter())
        with honest.paused():
            before = Use.of(host)
        _kill_some(host, count, rng, ways)
        with honest.paused():
            after, counted = Use.of(host), honest.vcpu.rbx
            census(host.memory, [honest.memory.pages])
        for name, one, other in zip(Use._fields[1:5], before[1:5], after[1:5], strict=True):
            if other > one:
                wrong.append(f"{name}: {one}, then {other}")
        if not _all_zeros(host):
            wrong.append("a VM has got frames that another one had written")
        result = honest.stop()
        if result is None or result.reason is not hv.Reason.STOPPED or honest.vcpu.rbx < counted or not counted:
            wrong.append(f"the honest neighbour ended with {result}, at {honest.vcpu.rbx} behind {counted}")
    return wrong, ways


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    began = time.monotonic()
    wrong, ways = kills(given.kills, given.seed)
    print(f"{given.kills} VMs in {time.monotonic() - began:.0f} s: {', '.join(f'{n} {w}' for w, n in ways.items())}")
    raise SystemExit("\n".join(wrong) if wrong else 0)


if __name__ == "__main__":
    main()
