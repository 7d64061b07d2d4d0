"""Making room in a host's memory: pages that nobody has used for a while go to the swap file.

A VM that takes one of the last frames is left at the end of its block, and comes here on its own time, while others go
on. Pages of VMs that are on no pCPU are taken, and of the one that comes; one that others have on a pCPU is left alone,
and so is one that has no more than was promised for sure. Pages that were used since they were looked at last stay.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

from hypervisor.errors import ConfigError
from hypervisor.memory import map_words as w
from hypervisor.memory.swap_file import SwapFile
from hypervisor.memory.swapper import Swapper
from hypervisor.units import PAGE_SHIFT

if TYPE_CHECKING:
    from hypervisor.engine.pcpu import PCpu
    from hypervisor.memory import GuestMemory
    from hypervisor.run.frame_sharing import Housing, Mergeable

LEAST_FRAMES, MOST_FRAMES = 64, 4096
"""Room is made when there are fewer frames left than a part of all, within these bounds; then for twice as many."""
PART = 16
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
        self.low = min(max((memory.size >> PAGE_SHIFT) // PART, LEAST_FRAMES), MOST_FRAMES)
        """Fewer frames than this are few."""
        self._swapper = Swapper(memory, file)
        self._hand = 0
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
        if vm.memory is memory:
            if self._swap(vm, number, goal) and pcpu is not None:
                pcpu.memory.flush()
        elif vm.memory.pages.alone > vm.memory.pages.kept:
            self._swap_others(host, vm, number, goal, waits=pcpu is None)
        return not self._memory.few(goal)

    def _swap_others(self, host: Housing, vm: Mergeable, zone: int, goal: int, *, waits: bool) -> None:
        """Of a VM that the caller does not have. One that is on a pCPU is waited for if the caller has none."""
        place = vm.place
        with host.placing:  # nobody puts it on a pCPU meanwhile
            if place.fresh or place.closed:
                return
            if place.loaded is None:
                self._swap(vm, zone, goal)
                return
        if not waits:
            return
        try:
            with place.entered(lambda: place.closed, time.monotonic() + PATIENCE_S) as hold:
                if hold.pcpu is not None and self._swap(vm, zone, goal):
                    hold.pcpu.memory.flush()
        except ConfigError:  # it was closed, or who has it waits for this thread
            return

    def _swap(self, vm: Mergeable, zone: int, goal: int) -> int:
        """How many of its pages show something else now, or lost their marks."""
        if not vm.memory.at_rest.acquire(blocking=False):
            return 0
        try:
            most = goal - (self._memory.unreserved >> PAGE_SHIFT)
            return 0 if vm.closed or most <= 0 else self._swapper.swap(vm.memory.pages, zone, most)
        finally:
            vm.memory.at_rest.release()

    def forked(self) -> None:
        """This is another process, in which nobody swaps: the file is the parent's."""
        self._swapper.forked()
        self._memory.swaps(None, w.NEVER)

    def close(self) -> None:
        """Give the file back, when no VM is there any more."""
        self._memory.swaps(None, w.NEVER)
        self._file.close()


__all__ = ["FrameSwapping"]
