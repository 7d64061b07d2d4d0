"""Cases that need nobody in Python while they run: `hypervisor.engine.repeating` for a VM.

Where it can be told beforehand that somebody may be asked (a condition, a log, several vCPUs), there are none. What is
found on the way is left to `VM.run`, which begins from the same moment, so both ways end alike; so is a case that takes
long, or that somebody disturbs in its middle. The words for an end are those that `VM.run` found for the first one of
its kind.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from hypervisor.arch.apic_page import ApicPage
from hypervisor.arch.exits import ExitKind
from hypervisor.devices.debug_ports import DebugExit
from hypervisor.engine.repeating.series import IN_PYTHON, TIME, Series, ShortEnd
from hypervisor.engine.repeating.starting_point import Area, Place, StartingPoint
from hypervisor.outcome.result import Reason
from hypervisor.units import FOREVER_NS, PAGE_MASK, PAGE_SHIFT, PAGE_SIZE, by_pages
from hypervisor.vcpu.breakpoints import NONE
from hypervisor.vm.repeating.short_task import ShortTask

if TYPE_CHECKING:
    from hypervisor.engine.pcpu import PCpu
    from hypervisor.vm.running import Runs

LONGEST_S = 0.1
"""Host time after which the case that runs is left to `VM.run`."""
_LENGTH_SIZE = 4
_MOST_KINDS = 4096
"""Kinds of ends whose words are kept."""


class Words(NamedTuple):
    """What is said of an end."""

    reason: Reason
    message: str
    status: int | None


class Where(NamedTuple):
    """Where a case's bytes go, and how many there are: linear addresses, or a register."""

    at: int
    size: int
    length: int | str | None


class Found(NamedTuple):
    """How a case ended, and the words for it if they are not those of its kind."""

    end: ShortEnd
    words: Words | None = None


NOT_SHORT = Found(ShortEnd(IN_PYTHON, 0, 0, 0, {}))


class ShortCases:
    """Of a VM that stands at the moment where all cases begin, and is set down. `close` it behind the last one."""

    def __init__(
        self, vm: Runs, where: Where, limit_ns: int, timeout: float | None, zones: Sequence[tuple[int, int]]
    ) -> None:
        """``timeout`` is each case's, in host seconds; ``zones`` are all that have memory: from one on, how many."""
        self._vm, self._where, self._limit_ns = vm, where, limit_ns
        self._timeout = LONGEST_S if timeout is None else min(timeout, LONGEST_S)
        self._words: dict[tuple[int, int, int], Words] = {}
        self._content, self._length = self._place(where.at, where.size), None
        self.point: StartingPoint | None = None
        """Where all cases begin, as soon as one has."""
        vm.place.set_down()
        self._memory = vm.memory.freeze()
        self._areas = [Area(zone, self._memory.leaf_at(zone), count) for zone, count in zones]
        self.possible = self._content is not None and self._nobody_is_asked()
        """Whether a case may be one."""
        if isinstance(where.length, int):
            self._length = self._place(where.length, _LENGTH_SIZE)
            self.possible = self.possible and self._length is not None

    def close(self) -> None:
        """Give the memory back that was kept."""
        self._memory.close()

    def _place(self, at: int, size: int) -> Place | None:
        """Where a range of linear addresses is in the base map; None where not all of it can be written."""
        vm, pages = self._vm, []
        for part, _ in by_pages(at, size):
            page = vm.vcpu.translate(part) & ~PAGE_MASK
            regions = vm.memory.ram_within(page, PAGE_SIZE)
            if len(regions) != 1 or (regions[0].base, regions[0].size) != (page, PAGE_SIZE):
                return None
            pages.append(page >> PAGE_SHIFT)
        return Place(pages, at & PAGE_MASK)

    def _nobody_is_asked(self) -> bool:
        vm = self._vm
        if vm.clock.wall or len(vm.vcpus) != 1 or vm.debugger is not None or vm.inbox.recording is not None:
            return False
        return not (vm.watchers or vm.listeners or vm.inbox.points) and vm.breakpoints is NONE

    def ends(self, cases: Sequence[bytes]) -> list[Found]:
        """How the first of these ended, one at least. The VM stands at the moment before and after; ends that are
        `IN_PYTHON` are for `VM.run` to find.
        """
        fitting = next((n for n, case in enumerate(cases) if len(case) > self._where.size), len(cases))
        if fitting == 0:
            return [NOT_SHORT]
        task = ShortTask(self._vm, self._timeout, lambda pcpu: self.series(pcpu, cases[:fitting]))
        self._vm.do(task)
        self.possible = task.possible
        found = [Found(end) for end in task.found]
        if len(found) < fitting:
            found.append(self._disturbed(task))
        return found

    def _disturbed(self, task: ShortTask) -> Found:
        """The end of a case that had begun, or would have next, when the task ended."""
        if task.stopped is None:
            return NOT_SHORT
        virtual_ns, edges = task.inside or (0, b"")
        end = ShortEnd(TIME, 0, 0, virtual_ns, sparse(edges))
        return Found(end, Words(task.stopped.reason, task.stopped.message, task.stopped.status))

    def series(self, pcpu: PCpu, cases: Sequence[bytes]) -> Series | None:
        """These cases, of the VM that is on this pCPU; None where somebody listens to what they end by."""
        vm = self._vm
        if vm.tables.listen >> ExitKind.PORT_OUT & 1:
            return None
        if self.point is None:
            others = self._words_of_others()
            self.point = StartingPoint(pcpu, vm.vcpu.state, vm.turns, self._areas, others, vm.tables.coverage)
            assert self._content is not None
            register = self._where.length if isinstance(self._where.length, str) else None
            self.point.aim(self._content, self._length or register)
            timer = vm.clock.timers.next_ns()
            self.point.limit(self._limit_ns, FOREVER_NS if timer is None else timer, self._exit_ports())
        return Series(self.point, pcpu, cases)

    def _words_of_others(self) -> list[tuple[int, int]]:
        """Where what the engine changes without asking lies, and its sizes: the words of compiled handlers, and whether
        they have raised; the local APIC; registers of devices that count who reads them.
        """
        vm = self._vm
        served: list[Any] = [one.compiled.memory for one in vm.traps.compiled() if one.compiled is not None]
        served += {id(register): register for _, _, register in (*vm.ports.timed(), *vm.mmio.timed())}.values()
        found = [(ctypes.addressof(one), ctypes.sizeof(one)) for one in served]
        apic = vm.vcpu.words.apic_at
        return [*found, (apic, ctypes.sizeof(ApicPage))] if apic else found

    def _exit_ports(self) -> range:
        device = self._vm.devices.get("debugexit")
        for mapping in self._vm.ports:
            if mapping.device is device and isinstance(device, DebugExit):
                return range(mapping.start, mapping.start + 1)
        return range(0)

    def words(self, end: ShortEnd) -> Words | None:
        """Those for an end, if they are known."""
        return self._words.get(end[:3])

    def learn(self, end: ShortEnd, words: Words) -> None:
        """What `VM.run` says of a case that ended so."""
        if len(self._words) < _MOST_KINDS:
            self._words[end[:3]] = words


def sparse(edges: bytes) -> dict[int, int]:
    """Where a map of edges is not zero, and what it says there."""
    if not edges:
        return {}
    import numpy as np  # which takes longer to import than all of this

    rows = np.frombuffer(edges, np.uint8).reshape(-1, 8)
    used = np.flatnonzero(rows.view(np.uint64))
    row, column = rows[used].nonzero()
    return dict(zip((8 * used[row] + column).tolist(), rows[used][row, column].tolist(), strict=True))


__all__ = ["NOT_SHORT", "Found", "ShortCases", "Where", "Words", "sparse"]
