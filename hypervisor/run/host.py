"""The host: an emulated machine that the hypervisor owns, with physical CPUs and physical memory to share out."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hypervisor.engine.instance.room import CODE_CACHE, LEAST_CODE_CACHE, MOST_CODE_CACHE
from hypervisor.errors import ConfigError
from hypervisor.memory import HostMemory
from hypervisor.memory.swap_file import SwapFile
from hypervisor.run.ending.process_end import Tenant, remember
from hypervisor.run.frame_sharing import FrameSharing
from hypervisor.run.frame_swapping import FrameSwapping
from hypervisor.run.observing.host_events import LIMIT, HostEvents, Telling
from hypervisor.run.settled import Settled
from hypervisor.run.sharing.allotment import Allotment
from hypervisor.run.sharing.left import Left
from hypervisor.run.sharing.policies import by_name
from hypervisor.run.sharing.runqueue import RunQueue
from hypervisor.run.sharing.scheduler import Scheduler
from hypervisor.run.sharing.share import Share
from hypervisor.run.sharing.usage import PCpuUsage
from hypervisor.run.threads.watch import Watch
from hypervisor.units import parse_size

if TYPE_CHECKING:
    from hypervisor.engine.pcpu import PCpu

MAX_PCPUS = 64
MAX_OVERCOMMIT = 16
NEVER_SWAPS = "a host that promises no more than it has never swaps: give overcommit=, too."
PROMISES = f"a host promises 1 to {MAX_OVERCOMMIT} times its memory."


class CoreHost(Settled):
    """Physical CPUs and memory. VMs take turns on the pCPUs (`hypervisor.run.sharing.runqueue`); two VMs on two pCPUs
    run in parallel.

    Each pCPU has a thread of its own, from the first run on, which runs whatever VM the scheduler chooses.
    """

    def __init__(
        self,
        memory: str | int = "1G",
        cpus: int = 1,
        code_cache: str | int = CODE_CACHE,
        scheduler: str | Scheduler | None = None,
        overcommit: float = 1.0,
        swap: str | int | None = None,
        swap_folder: str | os.PathLike[str] | None = None,
    ) -> None:
        """``memory`` in bytes or as text; ``cpus`` is the number of pCPUs. ``code_cache`` is the room that each has for
        translated code of a VM, 1M to 1G; for those of several that have been there it is as much for each, of four at
        most, and 1G for all. When that is full it is emptied, which costs time and is not seen by guests.
        ``scheduler`` chooses among VMs that wait for a pCPU: "credit", "edf", "round-robin", or one of your own;
        without one they get it in turn. ``overcommit`` times as much memory as there is is promised to VMs: each has
        its part of half of it for sure, the rest is anybody's; when that is used up a VM is stopped that wants more
        than its part. Before that, pages that have not been used for a while go to a file of ``swap`` bytes, which has
        no name, in ``swap_folder`` or where the system has temporary files.

        Raises `ConfigError`, `EngineError`.
        """
        if not isinstance(cpus, int) or not 1 <= cpus <= MAX_PCPUS:
            raise ConfigError(f"cpus={cpus!r}: a host has 1 to {MAX_PCPUS} physical CPUs.")
        room, chooses = parse_size(code_cache), by_name.scheduler(scheduler)
        if not LEAST_CODE_CACHE <= room <= MOST_CODE_CACHE:
            raise ConfigError(f"code_cache={code_cache!r}: a physical CPU has 1M to 1G for translated code.")
        if not isinstance(overcommit, (int, float)) or not 1 <= overcommit <= MAX_OVERCOMMIT:
            raise ConfigError(f"overcommit={overcommit!r}: {PROMISES}")
        swap_size = 0 if swap is None else parse_size(swap)
        if swap_size and overcommit == 1:
            raise ConfigError(f"swap={swap!r}: {NEVER_SWAPS}")
        from hypervisor.engine import selftest
        from hypervisor.engine.frame_kernels import frame_kernels
        from hypervisor.engine.pcpu import PCpu

        selftest.quick()
        swap_file = SwapFile(swap_size, swap_folder) if swap_size else None
        self.memory = HostMemory(parse_size(memory), frame_kernels(), overcommit, swap_file)
        self.pcpus: list[PCpu] = []
        try:
            for number in range(cpus):
                self.pcpus.append(PCpu(self.memory, number, room))
        except BaseException:
            for pcpu in self.pcpus:
                pcpu.close()
            raise
        self.telling = Telling()
        self.watch = Watch()
        self.queue = RunQueue(self.pcpus, chooses, self.watch)
        self.granting = threading.Lock()
        """Held while it is found out whether a share can be given."""
        self.placing = threading.Lock()
        """Held while a VM's state moves: it is taken off a pCPU by the VM's own thread or by the next owner's."""
        self.left = Left()
        """Who has left a pCPU for another VM; while `placing` is held."""
        self.vms: list[Tenant] = []
        self.sharing = FrameSharing(self)
        """Finds frames of its VMs that hold the same."""
        self.swapping = None if swap_file is None else FrameSwapping(self, swap_file)
        """Makes room in its memory."""
        self.snapshots: weakref.WeakSet[Any] = weakref.WeakSet()
        """Of its VMs (`hypervisor.vm.snapshot`)."""
        remember(self)
        self.settle()

    # --- sharing the pCPUs --------------------------------------------------------------------------------------------

    @property
    def scheduler(self) -> Scheduler:
        """Who chooses among VMs that wait. It may be changed at any time, also while they run, for another one or the
        name of one: raises `ConfigError` if that cannot keep what VMs have been promised.
        """
        return self.queue.scheduler

    @scheduler.setter
    def scheduler(self, wanted: str | Scheduler) -> None:
        chooses = by_name.scheduler(wanted)
        with self.granting:
            promised: list[Share] = []
            for vm in self.vms:
                by_name.check(chooses, promised, vm.share, len(self.pcpus))
                promised.append(vm.share)
            self.queue.switch(chooses)

    @property
    def usage(self) -> list[PCpuUsage]:
        """Where the time of each pCPU has gone up to now."""
        return self.queue.usage_of_pcpus()

    def grant(self, vm: object, share: Share, give: Callable[[], None]) -> None:
        """Have ``give`` let one of its VMs have this share from now on. Raises `ConfigError` if it cannot have it."""
        with self.granting:
            promised = [other.share for other in self.vms if other is not vm]
            by_name.check(self.scheduler, promised, share, len(self.pcpus))
            give()
            self.queue.change(Allotment.share_changed)

    # --- looking at it ------------------------------------------------------------------------------------------------

    def events(self, limit: int = LIMIT) -> HostEvents:
        """A reader of what becomes of the VMs from now on, which may have up to ``limit`` events waiting."""
        self.check_open()
        return self.telling.reader(limit)

    # --- life ---------------------------------------------------------------------------------------------------------

    def check_open(self) -> None:
        """Raises `ConfigError` when the host has been closed."""
        if not self.pcpus:
            raise ConfigError(self.queue.closed)

    def close(self) -> None:
        """Close every VM and every snapshot, and give the memory back."""
        self.sharing.close()
        for one in (*self.vms, *self.snapshots):
            one.close()
        self.queue.close()
        self.watch.close()
        for pcpu in self.pcpus:
            pcpu.close()
        self.pcpus.clear()
        if self.swapping is not None:
            self.swapping.close()
        self.telling.close()

    def close_if_empty(self) -> None:
        """Close it unless there is a VM or a snapshot on it."""
        if not self.vms and not self.snapshots:
            self.close()

    def forks(self) -> None:
        """This thread is about to fork the process: frames are at rest meanwhile."""
        self.sharing.stand_still()
        if self.swapping is not None:
            self.swapping.stand_still()

    def has_forked(self) -> None:
        """It has, and this is the parent."""
        if self.swapping is not None:
            self.swapping.go_on()
        self.sharing.go_on()

    def forked(self) -> None:
        """The process was forked, and this is the child. A host that ran nothing is a copy, with threads of its own as
        soon as it needs them; one that did is closed, but for its memory, which goes with the process.
        """
        self.placing, self.granting = threading.Lock(), threading.Lock()
        self.telling = Telling()
        self.watch.begin()
        self.sharing.forked()
        if self.swapping is not None:
            self.swapping.forked()
        if self.queue.forked():
            for vm in self.vms:
                vm.abandon(self.queue.closed)
            self.vms.clear()
            self.pcpus.clear()

    def __enter__(self) -> CoreHost:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
