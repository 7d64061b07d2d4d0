"""A world of three machines with loss, reordering and duplicates, again and again: every run must be the first one.

``python -m tests.world.repeat --runs 1000`` runs it on one pCPU and on two, built anew and forked, under each kind of
load in turn, and compares how each guest ended, its console, its clock, a digest of each part of its state (exits and
memory are among them), every byte of what was captured, and what is left in the network. It says what differed, and
ends with status 1 if anything did.
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import hypervisor as hv
from hypervisor.errors import ConfigError
from tests.meanwhile import again_and_again, kick

LINK = hv.Link(latency=60e-6, bandwidth=100e6, loss=0.1, duplicate=0.1, reorder=0.2)
PINGS = 6
LINES = {"a": "10.0.0.1", "b": f"10.0.0.2 10.0.0.1 {PINGS}", "c": f"10.0.0.3 10.0.0.1 {PINGS}"}
SEED = 7

Outcome = dict[str, Any]


def made(host: Any, capture: Path, line: dict[str, str] = LINES, cpus: int = 1) -> hv.World:
    """Three machines, of which two ping the third."""
    world = hv.World(host=host, seed=SEED)
    world.lan().capture(capture)
    for name, text in line.items():
        vm = world.create_vm("ping", name=name, memory="4M", append=text, cpus=cpus)
        world.lan().connect(vm, LINK)
    return world


def outcome(world: hv.World, results: dict[str, hv.RunResult], capture: Path | None = None) -> Outcome:
    """All that must repeat."""
    found: Outcome = {}
    for name, vm in world.vms.items():
        found[f"{name} ended"] = results[name].reason.value
        found[f"{name} says"] = vm.console.text
        found[f"{name} clock"] = vm.clock.now_ns
        for part, state in vm.state().parts.items():
            if part.startswith("vcpu ") and not state.cpu.words["rest_end"]:
                state.cpu.words["rest_at"] = 0  # where a block was left once, which is the host's doing: it is over
            found[f"{name} {part}"] = hashlib.sha256(repr(state).encode()).hexdigest()[:16]
    for name, lan in world.lans.items():
        found[f"network {name}"] = hashlib.sha256(repr(lan.network.state()).encode()).hexdigest()[:16]
        lan.network.flush()
    if capture is not None:
        found["capture"] = hashlib.sha256(capture.read_bytes()).hexdigest()[:16]
    return found


def in_order(world: hv.World, rng: random.Random) -> dict[str, hv.RunResult]:
    """As a user runs it."""
    return world.run(timeout=600)


def shuffled(world: hv.World, rng: random.Random) -> dict[str, hv.RunResult]:
    """Each machine starts when it likes."""
    vms = list(world.vms.values())
    rng.shuffle(vms)
    for vm in vms:
        vm.start(timeout=600)
        time.sleep(rng.random() * 0.01)
    return world.wait()


def interrupted(world: hv.World, rng: random.Random) -> dict[str, hv.RunResult]:
    """Stopped and begun again, machines and the whole world."""
    over = {hv.Reason.POWERED_OFF, hv.Reason.IDLE}
    results: dict[str, hv.RunResult] = {}
    while not results or not all(one.reason in over for one in results.values()):
        world.start(timeout=600)
        time.sleep(rng.random() * 0.02)
        if rng.random() < 0.5:
            rng.choice(list(world.vms.values())).request_stop()
        else:
            world.stop()
        results |= world.wait()
    return results


Way = Callable[[hv.World, random.Random], dict[str, hv.RunResult]]


@contextmanager
def beside(world: hv.World, rng: random.Random, action: Callable[[hv.VM], object], seconds: float) -> Iterator[None]:
    """Something is done to a machine at random moments."""

    def act() -> None:
        action(rng.choice(list(world.vms.values())))

    with again_and_again(act, seconds, rng):
        yield


def _pause(vm: hv.VM) -> None:
    with vm.paused():
        time.sleep(0.001)


def _snapshot(world: hv.World) -> None:
    try:
        world.snapshot().close()
    except ConfigError:  # a run began or ended just then
        pass


def _burn(until: float) -> None:
    while time.monotonic() < until:
        pass


@contextmanager
def busy_processes(world: hv.World, rng: random.Random) -> Iterator[None]:
    """Other processes want the host's CPUs."""
    found = [
        multiprocessing.get_context("spawn").Process(target=_burn, args=(time.monotonic() + 5,), daemon=True)
        for _ in range(3)
    ]
    for one in found:
        one.start()
    try:
        yield
    finally:
        for one in found:
            one.kill()
            one.join()


@contextmanager
def busy_thread(world: hv.World, rng: random.Random) -> Iterator[None]:
    """Another thread of this process wants the interpreter."""
    over = threading.Event()
    thread = threading.Thread(target=lambda: [None for _ in iter(over.is_set, True)])
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextmanager
def neighbours(world: hv.World, rng: random.Random) -> Iterator[None]:
    """Other machines want the pCPUs."""
    with ExitStack() as stack:
        for _ in range(2):
            vm = stack.enter_context(
                world.host.create_vm(b"\xff\xc0\xeb\xfc", memory="1M", format="flat", at=0x10000, mode=32)
            )
            vm.start()
        yield


@contextmanager
def nothing(world: hv.World, rng: random.Random) -> Iterator[None]:
    """A quiet host."""
    yield


LOADS: dict[str, tuple[Way, Callable[[hv.World, random.Random], Any]]] = {
    "quiet": (in_order, nothing),
    "started in any order": (shuffled, nothing),
    "stopped and begun again": (interrupted, nothing),
    "kicked": (in_order, lambda world, rng: beside(world, rng, kick, 0.0003)),
    "looked at": (in_order, lambda world, rng: beside(world, rng, hv.VM.look, 0.0003)),
    "paused": (in_order, lambda world, rng: beside(world, rng, _pause, 0.001)),
    "snapshots taken": (in_order, lambda world, rng: again_and_again(lambda: _snapshot(world), 0.01, rng)),
    "beside neighbours": (shuffled, neighbours),
    "beside a busy thread": (in_order, busy_thread),
    "beside busy processes": (in_order, busy_processes),
}


class Bench:
    """A host, with the world as it is at power-on, from which forks go on."""

    def __init__(self, cpus: int, folder: Path) -> None:
        self.host: Any = hv.Host(memory="256M", cpus=cpus)
        self.folder = folder
        with made(self.host, folder / "first.pcap") as world:
            self.begin = world.snapshot()

    def run(self, load: str, seed: int, *, fork: bool) -> Outcome:
        """One run; a world that is built anew, or a fork."""
        way, around = LOADS[load]
        rng, capture = random.Random(seed), self.folder / "run.pcap"
        with self.begin.fork() if fork else made(self.host, capture) as world:
            if fork:
                world.lan().capture(capture)
            with around(world, rng):
                results = way(world, rng)
            return outcome(world, results, capture)

    def close(self) -> None:
        self.host.close()


def differences(one: Outcome, other: Outcome) -> list[str]:
    """What of two runs is not the same."""
    return [
        f"{key}: {one.get(key)!r} and {other.get(key)!r}" for key in {**one, **other} if one.get(key) != other.get(key)
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--load", choices=list(LOADS))
    options = parser.parse_args()
    failed, began = 0, time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        benches = [Bench(cpus, Path(folder)) for cpus in (1, 2)]
        expected = benches[0].run("quiet", 0, fork=False)
        print(*(f"{key}: {value!r}" for key, value in expected.items() if "says" in key or "clock" in key), sep="\n")
        counts: dict[str, int] = {}
        for number in range(options.runs):
            load = options.load or list(LOADS)[number // 4 % len(LOADS)]
            bench = benches[number % 2]
            found = differences(expected, bench.run(load, number, fork=number % 4 < 2))
            counts[load] = counts.get(load, 0) + 1
            failed += bool(found)
            for line in found[:8]:
                print(f"run {number}, {load}, {len(bench.host.pcpus)} pCPUs: {line}", flush=True)
        for bench in benches:
            bench.close()
    print(*(f"{load}: {count} runs" for load, count in counts.items()), sep="\n")
    seconds = time.monotonic() - began
    print(f"{options.runs - failed} of {options.runs} runs were the same, in {seconds:.0f} s")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
