"""A machine that goes on, one that was forked from it, and one that was put back: ``python -m tests.snapshots.exact
[--moments 20] [--seed N] [--firmware] [--linux] [--load N] [NAME...]``.

Each guest is stopped at random moments of its virtual time, and a snapshot is taken. The machine goes on to its end;
two forks do at the same time on another pCPU, kicked and looked at at random; then the machine is put back to the
snapshot and goes on once more, and one of the forks, too. More forks go on in the ways of `tests.snapshots.ways`: one
whose code is forgotten again and again, one that gdb is attached to, one whose coverage is counted. Last, the
snapshots are opened from their files in another process, on a busy host. All must end as the run without a stop:
exits, time, console, registers and every part of the state, memory included.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import hypervisor as hv
from hypervisor.run.sharing import left, scheduler
from hypervisor.vm.casting import mould
from tests.debian import PackageUnavailable
from tests.meanwhile import alongside
from tests.memory.maps import census
from tests.real.disturbed import LOAD, storm
from tests.snapshots.ways import WAYS, run_to
from tests.twins import bios_guest
from tests.twins.guests import FIRMWARE, LINUX, Make, shipped
from tests.twins.resume import Job, Outcome, differences, outcome
from tests.twins.runs import Guest, in_another_process

SLACK_NS = 1_000_000
"""How far behind the end of the run without a stop the others may come: one that has forgotten something may never
end.
"""


class Ending(NamedTuple):
    """How a machine ended that went on from a moment, and how it differs from the run without a stop."""

    guest: str
    moment_ns: int
    who: str
    differences: list[str]


@contextmanager
def _stormy(host: hv.Host, vms: list[hv.VM], seed: int) -> Iterator[None]:
    """The host kicks pCPUs and looks at these VMs during the block; who leaves a pCPU is set aside at once."""
    over, before, cold = threading.Event(), scheduler.SLICE_S, left.COLD_S
    left.COLD_S = 0.0
    try:
        with alongside(lambda: storm(host, vms, over, random.Random(seed)), over.set):
            yield
    finally:
        scheduler.SLICE_S, left.COLD_S = before, cold


@contextmanager
def _third_is_cast() -> Iterator[None]:
    """Of a snapshot's forks the first two are built, and all that follow are cast (`hypervisor.vm.casting.mould`)."""
    with mock.patch.object(mould, "BUILT", 2):
        yield


def _comparable(end: Outcome) -> Outcome:
    """What can be compared with a run that was not stopped: when the host looked, and at whose turn, is not; nor is
    which elements of a string went together, that are one event in reports.
    """
    apart = ("turns", "events")
    parts = {name: part for name, part in end["parts"].items() if name not in apart and not name.startswith("vcpu ")}
    return {**end, "parts": parts}


class Course:
    """One guest, from its start to its end, and what came of those that went on from its moments."""

    def __init__(self, name: str, guest: Guest, folder: Path, seed: int) -> None:
        self._name, self._guest, self._folder, self._seed = name, guest, folder, seed
        self._config = hv.MachineConfig.of(None, guest.options)
        self._rng = random.Random(f"{seed} {name}")
        self._limit_ns = int(guest.limit_s * 1e9)
        self._expected: Outcome = {}
        self._files: list[tuple[int, Job]] = []

    @property
    def jobs(self) -> list[Job]:
        """The files of its moments, for another process."""
        return [job for _, job in self._files]

    def elsewhere(self, ends: list[Outcome]) -> Iterator[Ending]:
        """How `jobs` ended there."""
        for (moment, _), came in zip(self._files, ends, strict=True):
            yield self._ending(moment, "a file in another process", came)

    def here(self, moments: int) -> Iterator[Ending]:
        """How those ended that went on in this process, for each moment."""
        with hv.Host(self._config.size, 2) as host:
            with host.create_vm(self._config) as vm:
                self._guest.person(vm)
                begin = vm.clock.now_ns + 1
                self._expected = _comparable(outcome(vm, self._limit_ns, self._guest.patience_s))
            end = self._expected["time"]
            self._limit_ns = min(self._limit_ns, end + SLACK_NS)
            for moment in sorted(self._rng.randrange(begin, max(end, begin + 1)) for _ in range(moments)):
                with self._stopped(host, moment, begin) as vm:
                    for who, came in self._from_here(host, vm, moment):
                        yield self._ending(moment, who, came)
                census(host.memory, [])
                assert not host.memory.promises

    @contextmanager
    def _stopped(self, host: hv.Host, moment: int, begin: int) -> Iterator[hv.VM]:
        """The guest at this moment, or at an earlier one if what it does there is the last that it does: a machine that
        has ended goes on behind its end, which the run without a stop does not.
        """
        while True:
            with host.create_vm(self._config) as vm:
                self._guest.person(vm)
                if moment <= vm.clock.now_ns or not run_to(vm, moment, self._guest.patience_s):
                    yield vm
                    return
            moment = self._rng.randrange(begin, moment)

    def _ending(self, moment: int, who: str, end: Outcome) -> Ending:
        return Ending(self._name, moment, who, differences(self._expected, _comparable(end)))

    def _from_here(self, host: hv.Host, vm: hv.VM, moment: int) -> Iterator[tuple[str, Outcome]]:
        with _third_is_cast(), vm.snapshot() as snapshot, snapshot.fork() as one, snapshot.fork() as other:
            assert snapshot.casting.mould is not None, snapshot.casting.refused
            file = self._folder / f"{len(self._files)}.hvs"
            snapshot.save(file)
            self._files.append((moment, ("", self._limit_ns, str(file))))
            vms = [vm, one, other]
            assert vm.state() == one.state() == other.state()
            with _stormy(host, vms, self._rng.getrandbits(30)):
                ends = self._all_at_once(vms)
            yield from zip(("the machine", "a fork", "another fork"), ends, strict=True)
            census(host.memory, [vm.memory.pages for vm in host.vms])
            other.close()
            for _ in range(self._rng.randrange(5)):  # it is done in another way from the third time on
                for again in (vm, one):
                    again.revert(snapshot)
                    again.run(virtual_timeout=self._rng.uniform(0, 0.001), timeout=self._guest.patience_s)
            vm.revert(snapshot)
            one.revert(snapshot)
            census(host.memory, [vm.memory.pages for vm in host.vms])
            with snapshot.fork() as fresh:
                assert vm.state() == one.state() == fresh.state()
            ends = self._all_at_once([vm, one])
            yield from zip(("the machine, put back", "a fork, put back"), ends, strict=True)
            for who, way in WAYS.items():
                with snapshot.fork() as fork:
                    yield who, way(fork, self._limit_ns, self._guest.patience_s, self._rng)

    def _all_at_once(self, vms: list[hv.VM]) -> list[Outcome]:
        with ThreadPoolExecutor(len(vms)) as threads:
            return list(threads.map(lambda vm: outcome(vm, self._limit_ns, self._guest.patience_s), vms))


ENDINGS = 5 + len(WAYS) + 1
"""How many there are for each moment."""


def endings(guests: Mapping[str, Guest], folder: Path, moments: int, seed: int) -> Iterator[Ending]:
    """How those ended that went on from each moment of these guests; files are put into ``folder``."""
    courses = []
    for name, guest in guests.items():
        (folder / name).mkdir()
        courses.append(Course(name, guest, folder / name, seed))
        yield from courses[-1].here(moments)
    ends = iter(in_another_process([job for course in courses for job in course.jobs], folder, seed))
    for course in courses:
        yield from course.elsewhere(list(islice(ends, len(course.jobs))))


def guests(firmware: bool, linux: bool) -> dict[str, Make]:
    """All guests, by their names."""
    found: dict[str, Make] = {name: lambda folder, guest=guest: guest for name, guest in shipped().items()}
    found["bios"] = bios_guest.make
    return found | (FIRMWARE if firmware else {}) | (LINUX if linux else {})


def _compared(name: str, make: Make, moments: int, seed: int) -> int:
    """Print what came of one guest; how many ends differ."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            guest = make(Path(folder))
        except PackageUnavailable as problem:
            print(f"{name}: skipped, as {problem}", flush=True)
            return 0
        seen = bad = 0
        for ending in endings({name: guest}, Path(folder), moments, seed):
            seen += 1
            if ending.differences:
                bad += 1
                print(f"{name}, {ending.who} from {ending.moment_ns} ns: {', '.join(ending.differences)} differ")
        print(f"{name}: {seen} ends, from {moments} moments", flush=True)
        return bad


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="guests; by default all that are shipped, and one that asks the BIOS")
    parser.add_argument("--moments", type=int, default=20, help="for each guest")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--firmware", action="store_true", help="GRUB, SeaBIOS, OVMF and memtest86+, too")
    parser.add_argument(
        "--linux",
        action="store_true",
        help="Debian's kernel on 1, 2 and 4 vCPUs, too: by itself, by GRUB, SeaBIOS and OVMF",
    )
    parser.add_argument("--load", type=int, default=0, help="processes that compute all the while")
    given = parser.parse_args()
    chosen = guests(given.firmware, given.linux)
    if given.names:
        every = guests(True, True)
        if unknown := [name for name in given.names if name not in every]:
            parser.error(f"no guest is called {', '.join(unknown)}. There are: {', '.join(every)}.")
        chosen = {name: every[name] for name in given.names}
    with ExitStack() as stack:
        for _ in range(given.load):
            busy = subprocess.Popen([sys.executable, "-c", LOAD])
            stack.callback(busy.wait)
            stack.callback(busy.kill)
        bad = sum(_compared(name, make, given.moments, given.seed) for name, make in chosen.items())
    raise SystemExit(f"{bad} ends differ" if bad else 0)


if __name__ == "__main__":
    main()
