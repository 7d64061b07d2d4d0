"""Cases that need nobody in Python while they run: `hypervisor.engine.repeating.short_runs` for a VM.

Where it can be told beforehand that somebody may be asked (a condition, a handler, several vCPUs), there are none. What
is found on the way is left to `VM.run`, which begins from the same moment, so both ways end alike. So are the words for
an end: those that `VM.run` found for the first one of its kind.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from hypervisor.arch.exits import ExitKind
from hypervisor.devices.debug_ports import DebugExit
from hypervisor.engine.repeating.short_runs import ShortEnd, ShortRuns, Stop
from hypervisor.outcome.result import Reason
from hypervisor.run.serving.interception import apply
from hypervisor.units import FOREVER_NS, PAGE_MASK, PAGE_SHIFT, by_pages
from hypervisor.vcpu.breakpoints import NONE

if TYPE_CHECKING:
    from hypervisor.engine.pcpu import PCpu
    from hypervisor.run.machine import Machine

LONGEST_NS = 100_000_000
"""Virtual time of a case that is not too long: nobody can interrupt one, and a pCPU takes some at once."""
_MOST_KINDS = 4096
"""Kinds of ends whose words are kept."""


class Words(NamedTuple):
    """What is said of an end."""

    reason: Reason
    message: str
    status: int | None


class Place(NamedTuple):
    """Where a case's bytes go, and how many there are: linear addresses, or a register."""

    at: int
    size: int
    length: int | str | None


class ShortCases:
    """Of a VM that stands at the moment where all cases begin. ``put_back`` makes its memory what it is then."""

    def __init__(self, vm: Machine, where: Place, limit_ns: int, put_back: Callable[[], object]) -> None:
        self._vm, self._where, self._limit_ns, self._put_back = vm, where, limit_ns, put_back
        self._known: dict[tuple[Stop, int, int], Words] = {}
        self._runs: ShortRuns | None = None
        self._on: PCpu | None = None
        self._input, self._length = self._pages(where.at, where.size), []
        if isinstance(where.length, int):
            self._length = self._pages(where.length, 4)

    def _pages(self, at: int, size: int) -> list[int]:
        """The pages of the base map of a range of linear addresses; none where one of them cannot be written."""
        vm, pages = self._vm, []
        for part, _ in by_pages(at, size):
            gpa = vm.vcpus[0].translate(part)
            regions = vm.memory.ram_within(gpa & ~PAGE_MASK, PAGE_MASK + 1)
            if len(regions) != 1 or regions[0].size != PAGE_MASK + 1 or regions[0].base != gpa & ~PAGE_MASK:
                return []
            pages.append(gpa >> PAGE_SHIFT)
        return pages

    @property
    def possible(self) -> bool:
        """Whether a case may be one."""
        vm = self._vm
        if vm.clock.wall or len(vm.vcpus) != 1 or self._limit_ns > LONGEST_NS:
            return False
        if vm.watchers or vm.listeners or vm.breakpoints is not NONE or any(vm.traps.compiled()):
            return False
        return bool(self._input) and (bool(self._length) or not isinstance(self._where.length, int))

    def ends(self, cases: Sequence[bytes]) -> list[tuple[ShortEnd, Words | None, Any] | None]:
        """How each case ended, with words for it if they are known and what its coverage counted; None for one that is
        to be run by `VM.run`. The VM stands at the same moment before and after.
        """
        vm = self._vm
        with vm.place.entered(lambda: False) as hold:
            pcpu = hold.pcpu
            assert pcpu is not None
            apply(vm, pcpu)
            if vm.tables.listen >> ExitKind.PORT_OUT & 1:
                return [None] * len(cases)
            if self._runs is None or self._on is not pcpu:
                self._on = pcpu
                self._runs = ShortRuns(
                    pcpu, vm.vcpus[0].state, vm.turns, self._put_back, self._exit_ports(), vm.tables.coverage
                )
            runs = self._runs
            timers = vm.clock.timers.next_ns()
            until = FOREVER_NS if timers is None else timers
            found: list[tuple[ShortEnd, Words | None, Any] | None] = []
            try:
                for case in cases:
                    runs.begin()
                    end = runs.run(self._limit_ns, until) if self._put(runs, case) else None
                    if end is None:
                        found.append(None)
                    else:
                        edges = b"" if vm.tables.coverage is None else vm.tables.coverage.edges
                        found.append((end, self._known.get(end[:3]), edges))
            finally:
                runs.close()
            return found

    def _exit_ports(self) -> range:
        device = self._vm.devices.get("debugexit")
        for mapping in self._vm.ports:
            if mapping.device is device and isinstance(device, DebugExit):
                return range(mapping.start, mapping.start + 1)
        return range(0)

    def _put(self, runs: ShortRuns, case: bytes) -> bool:
        at, size, length = self._where
        if len(case) > size:
            return False
        if isinstance(length, str):
            self._vm.vcpus[0].registers.set(length, len(case))
        elif length is not None and not runs.write(self._length, length & PAGE_MASK, len(case).to_bytes(4, "little")):
            return False
        return runs.write(self._input, at & PAGE_MASK, case)

    def learn(self, end: ShortEnd, words: Words) -> None:
        """What `VM.run` says of a case that ended so."""
        if len(self._known) < _MOST_KINDS:
            self._known[end[:3]] = words


__all__ = ["Place", "ShortCases", "Words"]
