"""Making room in a host's memory: pages that nobody has used for a while go to the swap file.

A VM that takes one of the last frames is left at the end of its block, and comes here on its own time, while others go
on. Pages of VMs that are on no pCPU are taken, and of the one that comes; one that others have on a pCPU is left alone,
and so is one that has no more than was promised for sure. Pages that were used since they were looked at last stay.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, cast

from hypervisor.engine.interposition.interpose import guard
from hypervisor.errors import ConfigError
from hypervisor.memory import map_words as w
from hypervisor.memory.balloons import step_of
from hypervisor.memory.swap_file import SwapFile
from hypervisor.memory.swapper import Picks, Swapper
from hypervisor.units import PAGE_SHIFT

if TYPE_CHECKING:
    from hypervisor.engine.pcpu import PCpu
    from hypervisor.memory import GuestMemory
    from hypervisor.memory.page_map import PageMap
    from hypervisor.run.frame_sharing import Housing, Mergeable

PATIENCE_S = 0.2
"""How long a VM is waited for that is on a pCPU."""
ROUNDS = 3
"""The first one takes marks off, so the second finds pages; the third is for who was passed before."""


class FrameSwapping:
    """Swaps pages of one host out. They come back when they are stored to; until then they are read where they lie."""

    def __init__(self, host: Housing, file: SwapFile) -> None:
        self._host = weakref.ref(host)
        self._file = file
        self._memory = memory = host.memory
        self.low = step_of(memory.size >> PAGE_SHIFT)
        """Room is made when there are fewer frames left than this; then for twice as many."""
        self._swapper = Swapper(memory, file)
        self._hand = 0
        signals = guard().signals
        signals.add_swap(memory.table)
        self._unwatch = weakref.finalize(self, signals.remove_swap, memory.table)
        self._unwatch.atexit = False
        memory.swaps(self.make_room, self.low)

    @property
    def written(self) -> int:
        """Pages that have gone to the file so far."""
        return self._swapper.written

    def make_room(self, frames: int = 0, memory: GuestMemory | None = None, pcpu: PCpu | None = None) -> None:
        """Let there be at least so many free frames that whoever comes first may take, and some more, if that can be.
        ``memory`` is of a VM that the caller has, on ``pcpu`` if it is on one.
        """
        host = self._host()
        if host is None:
            return
        goal = max(frames, self.low) + self.low
        if self._memory.few(max(frames, self.low)):
            for _ in range(ROUNDS):
                if any(self._swap_in(host, zone, goal, memory, pcpu) for zone in self._zones(host)):
                    break
        left = self._memory.unreserved >> PAGE_SHIFT
        # where none could be made, look again when half of what is left is gone
        self._memory.low = self.low if left >= self.low else left // 2

    def _zones(self, host: Housing) -> Iterator[tuple[Mergeable, int]]:
        """All zones of all VMs with something in them, each once, from the one on where the hand stands."""
        every = []
        for one in list(host.vms):
            vm = cast("Mergeable", one)
            every += [(vm, zone) for zone, leaf in enumerate(vm.memory.pages.base) if leaf]
        for _ in every:
            self._hand = (self._hand + 1) % len(every)
            yield every[self._hand]

    def _swap_in(
        self, host: Housing, zone: tuple[Mergeable, int], goal: int, memory: GuestMemory | None, pcpu: PCpu | None
    ) -> bool:
        """Swap pages of a zone out, unless others work with it; whether there is as much room now as was wanted."""
        vm, number = zone
        most = goal - (self._memory.unreserved >> PAGE_SHIFT)
        if most <= 0:
            return True

        def visited(work: Callable[[], int]) -> None:
            """Do it while nobody else has the VM, and have forgotten what has changed."""
            if vm.memory is memory:
                if _at_rest(vm, work) and pcpu is not None:
                    pcpu.memory.flush()
            else:
                _visit(host, vm, work, waits=pcpu is None)

        self._swap(vm.memory.pages, number, most, visited)
        return not self._memory.few(goal)

    def _swap(self, pages: PageMap, zone: int, most: int, visited: Callable[[Callable[[], int]], None]) -> None:
        """Pages are picked and come to show their slots while nobody else has the VM, and are written while anybody
        may.
        """
        found: list[Picks] = []

        def pick() -> int:
            found.append(self._swapper.pick(pages, zone, most))
            return found[0].changed

        try:
            visited(pick)
            if found and found[0].count and self._swapper.write(found[0]):
                visited(lambda: self._swapper.show(pages, found[0]))
        finally:
            for picks in found:
                self._swapper.drop(picks)

    def stand_still(self) -> None:
        """This thread is about to fork the process."""
        self._swapper.stand_still()

    def go_on(self) -> None:
        """It has, and this is the parent."""
        self._swapper.go_on()

    def forked(self) -> None:
        """This is another process, in which nobody swaps: the file is the parent's."""
        self._memory.swaps(None, w.NEVER)
        self._swapper.forked()

    def close(self) -> None:
        """Give the file back, when no VM is there any more."""
        self._memory.swaps(None, w.NEVER)
        self._file.hide(self._memory.address + self._memory.slots)
        self._file.close()
        self._unwatch()


def _visit(host: Housing, vm: Mergeable, work: Callable[[], int], *, waits: bool) -> None:
    """Do something with the memory of a VM that the caller does not have, if nobody has it; one that is on a pCPU is
    waited for if the caller has none.
    """
    place = vm.place
    with host.placing:  # nobody puts it on a pCPU meanwhile
        if place.fresh or place.closed:
            return
        if place.loaded is None:
            _at_rest(vm, work)
            return
    if not waits:
        return
    try:
        with place.entered(lambda: place.closed, time.monotonic() + PATIENCE_S) as hold:
            if hold.pcpu is not None and _at_rest(vm, work):
                hold.pcpu.memory.flush()
    except ConfigError:  # it was closed, or who has it waits for this thread
        return


def _at_rest(vm: Mergeable, work: Callable[[], int]) -> int:
    """What came of it; nothing if somebody works with the VM's memory."""
    if not vm.memory.at_rest.acquire(blocking=False):
        return 0
    try:
        return 0 if vm.closed else work()
    finally:
        vm.memory.at_rest.release()


__all__ = ["FrameSwapping"]
