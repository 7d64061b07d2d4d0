"""Every guest alone, and then disturbed: nothing that a host does shows in a run under the virtual clock.

``python -m tests.real.disturbed --rounds 5 --load 2 --linux`` runs the shipped guests, guests that look at their TLB
and at their timer, and Linux on 1 and 2 vCPUs. Alone first; then all at once on hosts with 1 and 2 pCPUs, in slices of
0.1 to 2 ms, so that they take the pCPUs from each other and move, kicked at random, looked at, stopped at random and
run again, while their frames are merged with those of others that hold the same. Exits, virtual time, console,
registers and every byte of memory must be equal.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any

import hypervisor as hv
from hypervisor.guests import NAMES
from hypervisor.run.sharing import scheduler
from tests import debian
from tests.core.accessed import watcher
from tests.core.interrupted import guest as interrupted
from tests.initramfs import POWER_OFF, initramfs
from tests.meanwhile import again_and_again

PATIENCE_S = 900.0
LOAD = "while True: pass"
STOPPED = "disturbed"

Boot = Callable[[hv.Host], Any]
"""A context manager with a VM before its first instruction."""
Outcome = dict[str, Any]


def _shipped(name: str) -> Boot:
    return lambda host: host.create_vm(name, memory="8M", name=name, cpus=4 if name == "smp" else 1)


def _accessed(seed: int, rounds: int, large: bool = False) -> Boot:
    return lambda host: watcher(host, rounds, seed, large=large)


@contextmanager
def _interrupted(host: hv.Host) -> Iterator[hv.VM]:
    with interrupted(host, 3000) as (vm, places):
        for place in random.Random(1).sample(places, 4):
            vm.traps.execute(place)(lambda vcpu, exit: hv.PASS)
        yield vm


def _linux(cpus: int) -> Boot:
    def boot(host: hv.Host) -> Any:
        kernel = debian.debian_path(debian.kernel_package(), "boot/vmlinuz-*")
        archive = initramfs(POWER_OFF, debian.debian_path("busybox-static", "bin/busybox").read_bytes())
        name, append = f"linux-{cpus}", "console=ttyS0"
        return host.create_vm(kernel, initrd=archive, memory="128M", append=append, cpus=cpus, name=name)

    return boot


def guests(linux: bool = False, rounds: int = 150_000) -> dict[str, Boot]:
    """All guests by name; ``rounds`` of those that look at their TLB."""
    known: dict[str, Boot] = {name: _shipped(name) for name in NAMES}
    known |= {f"accessed-{seed}": _accessed(seed, rounds) for seed in (1, 2)}
    known["accessed-large"] = _accessed(3, rounds, large=True)
    known["interrupted"] = _interrupted
    return known | ({f"linux-{cpus}": _linux(cpus) for cpus in (1, 2)} if linux else {})


def summary(vm: hv.VM, result: hv.RunResult) -> Outcome:
    """All that a guest's run has left behind."""
    return {
        "end": (result.reason, result.message),
        "time": vm.clock.now_ns,
        "exits": dict(vm.stats),
        "console": b"" if vm.console is None else vm.console.bytes,
        "registers": [vcpu.dump() for vcpu in vm.vcpus],
        "memory": hashlib.sha256(vm.memory.read(0, vm.memory.size)).hexdigest(),
    }


def outcome(host: hv.Host, boot: Boot, running: list[hv.VM]) -> Outcome:
    """Run a guest to its end, however often it is stopped; ``running`` has it meanwhile."""
    with boot(host) as vm:
        running.append(vm)
        try:
            while (result := vm.run(timeout=PATIENCE_S)).message == STOPPED:
                pass
        finally:
            running.remove(vm)
        return summary(vm, result)


def storm(host: hv.Host, running: list[hv.VM], over: threading.Event, choice: random.Random) -> None:
    """What a host does to its guests, at random."""
    while not over.wait(choice.random() * 0.001):
        scheduler.SLICE_S = choice.choice((0.0001, 0.0003, 0.002))
        what, vms = choice.randrange(8), list(running)
        if what < 4 or not vms:
            choice.choice(host.pcpus).kick()
        elif what < 7:
            choice.choice(vms).look()
        else:
            choice.choice(vms).request_stop(STOPPED)


def disturbed(boots: dict[str, Boot], pcpus: int, rounds: int, seed: int) -> list[tuple[str, Outcome]]:
    """The outcomes of guests that run at once, each so often."""
    outcomes: list[tuple[str, Outcome]] = []
    failures: list[BaseException] = []
    running: list[hv.VM] = []
    over, before = threading.Event(), scheduler.SLICE_S

    def run(host: hv.Host, name: str) -> None:
        try:
            for _ in range(rounds):
                outcomes.append((name, outcome(host, boots[name], running)))
        except BaseException as error:
            failures.append(error)

    memory = sum(160 if name.startswith("linux") else 12 for name in boots)
    with closing(hv.Host(f"{memory}M", pcpus)) as host:
        trouble = threading.Thread(target=storm, args=(host, running, over, random.Random(seed)))
        threads = [threading.Thread(target=run, args=(host, name)) for name in boots]
        with again_and_again(host.sharing.scan, 0.005, random.Random(seed)):
            for thread in [trouble, *threads]:
                thread.start()
            for thread in threads:
                thread.join()
        over.set()
        trouble.join()
        assert host.sharing.counts.replaced, f"{host.sharing.counts}: frames were not merged"
    scheduler.SLICE_S = before
    if failures:
        raise failures[0]
    return outcomes


def alone(boots: dict[str, Boot]) -> dict[str, Outcome]:
    """The outcome of each guest on a host of its own."""
    outcomes = {}
    for name, boot in boots.items():
        with closing(hv.Host("160M", 1)) as host:
            outcomes[name] = outcome(host, boot, [])
    return outcomes


def differences(expected: Outcome, seen: Outcome) -> list[str]:
    """What differs, in words."""
    return [
        f"{what}: {str(expected[what])[:200]} and {str(seen[what])[:200]}"
        for what in expected
        if expected[what] != seen[what]
    ]


def main() -> int:
    """The exit status: 1 if a host showed."""
    parser = argparse.ArgumentParser(prog="python -m tests.real.disturbed", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="how often each guest runs on each host")
    parser.add_argument("--load", type=int, default=0, help="processes that compute all the while")
    parser.add_argument("--linux", action="store_true", help="Debian's kernel too, on 1 and 2 vCPUs")
    parser.add_argument("--only", action="append", metavar="NAME", help="these guests")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    boots = guests(options.linux)
    boots = {name: boot for name, boot in boots.items() if not options.only or name in options.only}
    wrong = 0
    with ExitStack() as stack:
        for _ in range(options.load):
            busy = subprocess.Popen([sys.executable, "-c", LOAD])
            stack.callback(busy.wait)
            stack.callback(busy.kill)
        expected = alone(boots)
        for pcpus in (1, 2):
            started = time.monotonic()
            outcomes = disturbed(boots, pcpus, options.rounds, options.seed)
            for name, seen in outcomes:
                for difference in differences(expected[name], seen):
                    wrong += 1
                    print(f"{name}, {pcpus} pCPUs: {difference}")
            print(f"{pcpus} pCPUs: {len(outcomes)} runs ({time.monotonic() - started:.1f} s)", flush=True)
    print(f"{len(boots)} guests, {wrong} differences")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
