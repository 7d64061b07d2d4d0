"""Sharing frames that hold the same among the VMs of a host: who looks for them, when, and how often.

A zone of a VM (2 MiB) at a time: while the VM is on no pCPU, or between two of its blocks, on a pCPU that is lent for
that, as for any visit. No guest sees anything of it but time, of the host's clock.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol, cast

from hypervisor.errors import ConfigError
from hypervisor.memory import GuestMemory, HostMemory
from hypervisor.memory import map_words as w
from hypervisor.memory.frame_index import FrameIndex, MergeCounts
from hypervisor.run.threads.thread_gate import Gate
from hypervisor.units import PAGE_SHIFT

if TYPE_CHECKING:
    from hypervisor.engine.pcpu import PCpu
    from hypervisor.run.sharing.hold import Hold

PAGES_PER_SECOND = 25_000
"""Pages that a scan in the background meets: those of 100 MiB."""
PATIENCE_S = 0.5
"""How long a VM is waited for that is on a pCPU, before the others are looked at: a handler may take its time."""
MIN_ROUND_S = 0.2
"""A round takes at least so long: pages that are used meanwhile are in use."""
STOP_S = 10.0
TELL_S = 0.1
"""How often it is told how far a scan has come."""
STAND_STILL_S = 2 * PATIENCE_S


Progress = Callable[[int, int], object]


class Placed(Protocol):
    """Where a VM is (`hypervisor.run.sharing.placing.Place`)."""

    closed: bool

    @property
    def fresh(self) -> bool:
        """Whether it has never been on a pCPU."""
        ...

    @property
    def loaded(self) -> PCpu | None:
        """The pCPU that holds its state."""
        ...

    def entered(self, called_off: Callable[[], bool], end_at: float | None = None) -> AbstractContextManager[Hold]:
        """Wait for a pCPU; unless that was called off the VM is on it during the block."""
        ...


class Mergeable(Protocol):
    """A VM whose frames may be shared (`hypervisor.run.machine.Machine`)."""

    memory: GuestMemory
    shares_frames: bool
    closed: bool

    @property
    def place(self) -> Placed:
        """Where it is."""
        ...


class Housing(Protocol):
    """A host (`hypervisor.run.host.CoreHost`)."""

    memory: HostMemory
    pcpus: list[PCpu]
    placing: Any
    """Held while VMs come to pCPUs and leave them."""

    @property
    def vms(self) -> Sequence[object]:
        """Its VMs."""
        ...


class FrameSharing:
    """Merges frames of one host, when it is asked to (`scan`) or in the background (`start`).

    A page takes part when nobody has used its frame since the round before; pages of zeros show the frame of zeros at
    once, others the frame of the first pages that were met with the same contents. VMs with ``sharing=False`` are left
    alone. What a VM stores to is its own again.
    """

    def __init__(self, host: Housing) -> None:
        self._host = weakref.ref(host)
        self._index: FrameIndex | None = None
        self._scanning = threading.Lock()
        """Held while the index is used, and for a zone."""
        self._stopped_by = 0
        self._thread: threading.Thread | None = None
        self._ends = Gate()

    # --- what it has done ---------------------------------------------------------------------------------------------

    @property
    def counts(self) -> MergeCounts:
        """Since the host is there."""
        return MergeCounts() if self._index is None else self._index.counts

    @property
    def frames(self) -> list[int]:
        """The frames that stand for all that hold the same; each has a reference more for that."""
        return [] if self._index is None else self._index.frames

    @property
    def saved(self) -> int:
        """Bytes of frames that would be there if each page had its own again: as many as pages show merged frames, less
        those frames.
        """
        host = self._host()
        return 0 if host is None else sum(host.memory.references(one) - 2 for one in self.frames) << PAGE_SHIFT

    # --- rounds -------------------------------------------------------------------------------------------------------

    def scan(self, rounds: int = 1, progress: Progress | None = None) -> MergeCounts:
        """Look at each page of each VM so many times; what came of it. The first round finds which pages are in use,
        the second which are alike, and the third has all of these. ``progress`` is called with how many pages have been
        looked at, and of how many, each `TELL_S`; what it raises ends the scan.

        It is done in a thread of its own, where no KeyboardInterrupt comes.
        """
        ends, before = Gate(), self.counts
        zones, whole = 0, rounds * self._zones_there()

        def work() -> None:
            nonlocal zones
            for _ in range(rounds):
                for _ in self.zones(lambda: ends.is_open):
                    zones += 1

        thread = threading.Thread(target=work, name="hypervisor-scan", daemon=True)
        thread.start()
        try:
            while progress is not None and thread.is_alive():
                thread.join(TELL_S)
                if thread.is_alive():
                    progress(min(zones, whole) * w.LEAF_PAGES, whole * w.LEAF_PAGES)
            thread.join()
            if progress is not None:
                progress(whole * w.LEAF_PAGES, whole * w.LEAF_PAGES)
        finally:
            ends.open()
        return MergeCounts(*(now - then for now, then in zip(self.counts, before, strict=True)))

    def start(self, pages_per_second: int = PAGES_PER_SECOND) -> None:
        """Scan in the background, round after round, until `stop`, or until the host is closed or forgotten."""
        if not isinstance(pages_per_second, int) or pages_per_second <= 0:
            raise ConfigError(f"pages_per_second={pages_per_second!r}: give a number of pages, for example 25000.")
        self.stop()
        self._ends = Gate()
        work = (weakref.ref(self), self._ends, w.LEAF_PAGES / pages_per_second)
        self._thread = threading.Thread(target=_work, args=work, name="hypervisor-sharing", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Scan no longer. What is shared stays so."""
        thread, self._thread = self._thread, None
        self._ends.open()
        if thread is not None and thread is not threading.current_thread():
            thread.join(STOP_S)

    def close(self) -> None:
        """Let go of all frames; who shows one alone has it for itself again."""
        self.stop()
        with self._scanning:
            if self._index is not None:
                self._index.clear()

    def forget_unused(self) -> None:
        """Give back merged frames that no VM shows any more."""
        if self._index is not None and self._scanning.acquire(blocking=False):
            try:
                self._index.prune()
            finally:
                self._scanning.release()

    def stand_still(self) -> None:
        """Begin with no further zone until `go_on`: this thread is about to fork the process, and a child could not go
        on from the middle of one. A zone that takes long, because who has the VM waits for this thread, is not waited
        for.
        """
        if self._scanning.acquire(timeout=STAND_STILL_S):
            self._stopped_by = threading.get_ident()

    def go_on(self) -> None:
        """See `stand_still`."""
        if self._stopped_by == threading.get_ident():
            self._stopped_by = 0
            self._scanning.release()

    def forked(self) -> None:
        """This is another process, which has none of the threads."""
        self._scanning, self._thread, self._ends = threading.Lock(), None, Gate()
        self._stopped_by = 0
        host = self._host()
        for vm in () if host is None else host.vms:
            cast(Mergeable, vm).memory.forked()

    def zones(self, ends: Callable[[], bool]) -> Iterator[None]:
        """A round, from zone to zone; it goes no further when the answer is that it ends."""
        host = self._host()
        if host is None or not host.pcpus:
            return
        with self._scanning:
            index = self._index = self._index or FrameIndex(host.memory)
            index.prune()
            index.begin_round()
        for vm in [cast(Mergeable, vm) for vm in host.vms]:
            pages = vm.memory.pages
            for zone in range(pages.zones if vm.shares_frames else 0):
                if not pages.base[zone]:
                    continue
                with self._scanning:
                    goes_on = not ends() and self._merge_in(host, index, vm, zone)
                if not goes_on:
                    break
                yield

    def _zones_there(self) -> int:
        """How many zones a round meets, of the VMs that there are now."""
        host = self._host()
        vms = [] if host is None else [cast(Mergeable, vm) for vm in host.vms]
        return sum(sum(map(bool, vm.memory.pages.base)) for vm in vms if vm.shares_frames)

    def _merge_in(self, host: Housing, index: FrameIndex, vm: Mergeable, zone: int) -> bool:
        """Merge pages of a zone, unless others work with the VM's memory; whether the VM can be looked at."""
        place = vm.place
        with host.placing:  # nobody puts it on a pCPU meanwhile
            if place.fresh or place.closed:
                return False
            if place.loaded is None:
                self._merge(index, vm, zone)
                return True
        end_at = time.monotonic() + PATIENCE_S
        try:
            with place.entered(lambda: place.closed, end_at) as hold:
                if hold.pcpu is None:
                    return False
                if self._merge(index, vm, zone):
                    hold.pcpu.memory.flush()
                return True
        except ConfigError:  # it was closed, or who has it waits for this thread
            return False

    def _merge(self, index: FrameIndex, vm: Mergeable, zone: int) -> int:
        if not vm.memory.at_rest.acquire(blocking=False):
            return 0
        try:
            return 0 if vm.closed else index.merge(vm.memory.pages, zone)
        finally:
            vm.memory.at_rest.release()


def _work(sharing: weakref.ref[FrameSharing], ends: Gate, pause: float) -> None:
    """Scan until it is to end, or nobody knows the host any more."""
    while not ends.is_open:
        found = sharing()
        if found is None:
            return
        began = time.monotonic()
        for _ in found.zones(lambda: ends.is_open):
            if ends.wait(pause):
                return
        del found
        if ends.wait(max(MIN_ROUND_S - (time.monotonic() - began), pause)):
            return


__all__ = ["FrameSharing"]
