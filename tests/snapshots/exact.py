"""A machine that goes on, one that was forked from it, and one that was put back: ``python -m tests.snapshots.exact
[--moments 20] [--seed N] [--linux] [NAME...]``.

Each guest is stopped at random moments of its virtual time, and a snapshot is taken. The machine goes on to its end;
two forks do at the same time on another pCPU, kicked and looked at at random; then the machine is put back to the
snapshot and goes on once more, and one of the forks, too. All must end as the run without a stop: exits, time, console
and every part of the state, memory included.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import hypervisor as hv
from hypervisor.run.sharing import scheduler
from tests.memory.maps import census
from tests.real.disturbed import storm
from tests.twins import bios_guest
from tests.twins.guests import linux, shipped
from tests.twins.resume import digest
from tests.twins.runs import Guest


class Ending(NamedTuple):
    """How a machine ended that went on from a moment, and how it differs from the run without a stop."""

    guest: str
    moment_ns: int
    who: str
    differences: list[str]


@contextmanager
def _stormy(host: hv.Host, vms: list[hv.VM], seed: int) -> Iterator[None]:
    """The host kicks pCPUs and looks at these VMs during the block."""
    over, before = threading.Event(), scheduler.SLICE_S
    thread = threading.Thread(target=storm, args=(host, vms, over, random.Random(seed)))
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        scheduler.SLICE_S = before


def _went_on(vm: hv.VM, limit_ns: int) -> dict[str, Any]:
    """How it ends, however often it is stopped."""
    while vm.clock.now_ns < limit_ns:
        result = vm.run(virtual_timeout=(limit_ns - vm.clock.now_ns) / 1e9, timeout=300)
        if result.message != "disturbed":
            return _end(vm, result.reason.value)
    return _end(vm, "")


def _end(vm: hv.VM, reason: str) -> dict[str, Any]:
    """All that can be compared with a run that was not disturbed: when the host looked, and at whose turn, is not."""
    state = vm.state()
    for name in ("turns", *(f"vcpu {number}" for number in range(vm.cpus))):
        del state.parts[name]
    machine = state.parts["machine"]
    machine.exits = dict(sorted(machine.exits.items()))
    return {
        "reason": reason,
        "time": vm.clock.now_ns,
        "exits": dict(vm.stats),
        "console": vm.console.bytes,
        "registers": [vcpu.dump() for vcpu in vm.vcpus],
        "parts": digest(state),
    }


def _differences(expected: dict[str, Any], seen: dict[str, Any]) -> list[str]:
    names = [name for name in expected if name != "parts" and expected[name] != seen[name]]
    parts = expected["parts"].keys() | seen["parts"].keys()
    return names + sorted(part for part in parts if expected["parts"].get(part) != seen["parts"].get(part))


def _all_at_once(vms: list[hv.VM], limit_ns: int) -> list[dict[str, Any]]:
    ends: list[dict[str, Any]] = [{} for _ in vms]

    def go(n: int) -> None:
        ends[n] = _went_on(vms[n], limit_ns)

    threads = [threading.Thread(target=go, args=(n,)) for n in range(len(vms))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return ends


def endings(name: str, guest: Guest, moments: int, seed: int) -> Iterator[Ending]:
    """How all of them ended, for each moment."""
    config = hv.MachineConfig.of(None, guest.options)
    limit_ns, rng = int(guest.limit_s * 1e9), random.Random(f"{seed} {name}")
    with hv.Host(config.size, 2) as host:
        with host.create_vm(config) as vm:
            guest.person(vm)
            expected = _went_on(vm, limit_ns)
        for moment in sorted(rng.randrange(1, max(expected["time"], 2)) for _ in range(moments)):
            with host.create_vm(config) as vm:
                guest.person(vm)
                vm.run(virtual_timeout=moment / 1e9, timeout=300)
                with vm.snapshot() as snapshot, snapshot.fork() as one, snapshot.fork() as other:
                    names = ["the machine", "a fork", "another fork"]
                    vms = [vm, one, other]
                    assert vm.state() == one.state() == other.state()
                    with _stormy(host, vms, rng.getrandbits(30)):
                        ends = _all_at_once(vms, limit_ns)
                    census(host.memory, [vm.memory.pages for vm in host.vms])
                    other.close()
                    vm.revert(snapshot)
                    one.revert(snapshot)
                    census(host.memory, [vm.memory.pages for vm in host.vms])
                    with snapshot.fork() as fresh:
                        assert vm.state() == one.state() == fresh.state()
                    names += ["the machine, put back", "a fork, put back"]
                    ends += _all_at_once([vm, one], limit_ns)
            census(host.memory, [])
            assert not host.memory.promises
            for who, end in zip(names, ends, strict=True):
                yield Ending(name, moment, who, _differences(expected, end))


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="guests; by default all that are shipped, and one that asks the BIOS")
    parser.add_argument("--moments", type=int, default=20, help="for each guest")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--linux", action="store_true", help="Debian's kernel on 1, 2 and 4 vCPUs, too")
    given = parser.parse_args()
    bad = 0
    with tempfile.TemporaryDirectory() as folder:
        guests = {**shipped(), "bios": bios_guest.make(Path(folder))}
        if given.linux:
            guests |= {f"linux {cpus}": linux(Path(folder), cpus) for cpus in (1, 2, 4)}
        for name, guest in guests.items():
            if given.names and name not in given.names:
                continue
            seen = 0
            for ending in endings(name, guest, given.moments, given.seed):
                seen += 1
                if ending.differences:
                    bad += 1
                    print(f"{name}, {ending.who} from {ending.moment_ns} ns: {', '.join(ending.differences)} differ")
            print(f"{name}: {seen} ends, from {given.moments} moments", flush=True)
    raise SystemExit(f"{bad} ends differ" if bad else 0)


if __name__ == "__main__":
    main()
