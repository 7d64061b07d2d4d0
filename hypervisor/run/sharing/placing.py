"""A VM's place: on which physical CPU it runs, what is saved when another VM needs that one, and its counters.

A VM is gang-placed: all its vCPUs are on one pCPU, by turns (`hypervisor.run.sharing.turns`). When a run ends its state
stays loaded where it is, until another VM takes the pCPU or this one goes to another.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from hypervisor.arch.exits import ExitKind
from hypervisor.engine.kept_events import KeptEvents
from hypervisor.errors import ConfigError
from hypervisor.run.sharing.share import Allowance, Share
from hypervisor.run.sharing.usage import Usage

if TYPE_CHECKING:
    from collections import Counter

    from hypervisor.engine.pcpu import PCpu
    from hypervisor.engine.tables import GuestTables
    from hypervisor.run.host import CoreHost
    from hypervisor.run.sharing.hold import Hold
    from hypervisor.run.sharing.turns import Turns
    from hypervisor.run.vm_clock import VmClock


VISIT_S = 0.0002
"""How often who is to work with what is saved of a VM looks whether another thread still looks at it, in host seconds.
"""


class Place:
    """Where one VM is. It is the `owner` of the pCPU that its state is loaded on."""

    clock: VmClock
    """The VM's clock, which it is given once that is made."""

    def __init__(
        self,
        name: str,
        host: CoreHost,
        tables: GuestTables,
        turns: Turns,
        stats: Counter[str],
        host_events: Counter[str],
    ) -> None:
        """``stats`` and ``host_events`` are where the counters of the pCPUs are added up."""
        self.name = name
        self.closed = False
        """Whether the VM is, and gets no pCPU any more."""
        self._host, self._tables, self._turns = host, tables, turns
        self._stats, self._host_events = stats, host_events
        self.pcpu: PCpu | None = None
        """The pCPU that runs the VM at the moment."""
        self.last: PCpu | None = None
        """The pCPU that ran it last; its state is still there unless that has another owner."""
        self.share = Share()
        """What it is to get of the host's processors."""
        self.used_s = 0.0
        """Host seconds for which runs and steps have held up a pCPU."""
        self.had_s = 0.0
        """The same, to be compared among those that want pCPUs (`hypervisor.run.sharing.policies.at_home`)."""
        self.usage = Usage()
        """Where the time of runs and steps has gone, up to the last slice's end."""
        self.allowance = Allowance()
        self._events = KeptEvents()
        self._thread = 0
        self._standing = threading.RLock()
        """Held by who works with what is saved of the VM."""
        self._stands_for = 0
        """The thread that does: no other one puts the VM on a pCPU meanwhile."""

    @property
    def loaded(self) -> PCpu | None:
        """The pCPU that holds the VM's state, None while it is saved."""
        return self.last if self.last is not None and self.last.owner is self else None

    @property
    def fresh(self) -> bool:
        """Whether the VM has never been on a pCPU."""
        return self.last is None

    @property
    def elsewhere(self) -> bool:
        """Whether another thread has the VM on a pCPU at the moment."""
        return self.pcpu is not None and self._thread != threading.get_ident()

    @property
    def here(self) -> bool:
        """Whether this thread has the VM on a pCPU at the moment: it runs it, or visits it."""
        return self.pcpu is not None and self._thread == threading.get_ident()

    @contextmanager
    def held(self) -> Iterator[PCpu]:
        """A pCPU with the VM on it during the block: the one that runs it if this is the thread that does, else any
        for a moment, when the VM runs on none. Raises `ConfigError` for a closed VM.
        """
        if self.pcpu is not None and self._thread == threading.get_ident():
            yield self.pcpu
            return
        self._check_open()
        with self.entered(lambda: self.closed) as hold:
            if hold.pcpu is None:
                self._check_open()
            assert hold.pcpu is not None
            yield hold.pcpu

    @contextmanager
    def entered(self, called_off: Callable[[], bool], end_at: float | None = None) -> Iterator[Hold]:
        """Wait for a pCPU (see `RunQueue.holding`); unless that was called off the VM is on it during the block."""
        while True:
            with self._host.queue.holding(self, called_off, end_at) as hold:
                if hold.pcpu is None:
                    yield hold
                    return
                with self._on(hold.pcpu) as there:
                    if there:
                        yield hold
                        return
            with self._standing:  # without a pCPU, which who works with it may wait for
                pass

    @contextmanager
    def on(self, pcpu: PCpu) -> Iterator[None]:
        """The VM is on this pCPU during the block, which this thread has been given for that: for a run, beside which
        nobody works with what is saved of the VM.
        """
        with self._on(pcpu) as there:
            assert there, f"{self.name} is run while somebody works with what is saved of it"
            yield

    @contextmanager
    def _on(self, pcpu: PCpu) -> Iterator[bool]:
        """The same for whoever comes: whether it is there, or somebody works with what is saved of it."""
        try:
            there = self.take(pcpu)
            if there:
                pcpu.begin()
            yield there
        finally:
            if self._thread == threading.get_ident():
                self.pcpu = None
            pcpu.let_go()

    def _check_open(self) -> None:
        if self.closed:
            raise ConfigError(f"The VM {self.name} is closed, and its state is gone.")

    def take(self, pcpu: PCpu) -> bool:
        """Put the VM on a pCPU, which the caller holds; whether it may come there. Raises `ConfigError` for a closed
        VM.
        """
        turns, last, thread = self._turns, self.last, threading.get_ident()
        with self._host.placing:
            if self._stands_for and self._stands_for != thread:
                return False
            if not (pcpu.owner is self and pcpu.loaded is turns.current.state):
                self._check_open()
                if isinstance(owner := pcpu.owner, Place):
                    owner.leave(pcpu)
                    self._host.left.add(owner)
                if last is not None and last is not pcpu and last.owner is self:
                    self.leave(last)
                for vcpu in turns.vcpus:  # the engine takes turns by itself
                    vcpu.state.tlb.unpack()
                turns.enter(pcpu, turns.current)
                pcpu.report.put_back_events(self._events.ring)
                pcpu.report.forget_counts()
                pcpu.bind(self._tables)
                self.clock.entered(pcpu)
                self.last = pcpu
                pcpu.owner = self  # at the end: an interrupt on the way leaves a pCPU that belongs to nobody
            self._thread, self.pcpu = thread, pcpu
            return True

    def leave(self, pcpu: PCpu) -> None:
        """Save what lies on a pCPU that the VM leaves."""
        self.collect(pcpu)
        self._events.ring = pcpu.report.keep_events()
        self._turns.leave(pcpu.report.now)
        self.clock.left(pcpu)
        pcpu.unload()
        pcpu.owner = None

    def set_aside(self) -> None:
        """Others have had its pCPU for a while: let its vCPUs take little memory. While nobody can place it."""
        if self.loaded is None and not self.closed:
            self._events.pack()
            for vcpu in self._turns.vcpus:
                vcpu.state.set_aside()

    @contextmanager
    def standing(self) -> Iterator[None]:
        """What is saved of the VM is all that there is of it during the block: no other thread puts it on a pCPU. Those
        that would look at it for a moment, as who scans its memory does, wait. Between runs only.
        """
        with self._standing:
            before, self._stands_for = self._stands_for, threading.get_ident()
            try:
                self.set_down()
                yield
            finally:
                self._stands_for = before

    def set_down(self) -> None:
        """Save the VM's state from the pCPU where its last run left it. Between runs only."""
        while True:
            with self._host.placing:
                if not self.elsewhere:
                    if self.loaded is not None:
                        self.leave(self.loaded)
                    return
            time.sleep(VISIT_S)  # another thread looks at it, for a moment

    def forget(self) -> None:
        """The VM becomes another one, which has been on no pCPU. While it is set down."""
        with self._host.placing:
            self.last = None

    def give_up(self) -> None:
        """The VM is being closed: nothing of it stays on a pCPU."""
        for pcpu in self._host.pcpus:
            pcpu.part(self._tables)
        with self._host.placing:  # whoever takes it after this finds the VM closed
            if self.loaded is None:
                return
        with self._host.queue.holding(self) as hold:
            if hold.pcpu is not None and self.loaded is hold.pcpu:  # still: others may have taken it meanwhile
                self.leave(hold.pcpu)
                hold.pcpu.unbind()

    def collect_loaded(self) -> None:
        """As `collect`, between two turns on a pCPU, if the VM's state is still on one."""
        with self._host.placing:  # whoever takes that does so first
            if self.loaded is not None:
                self.collect(self.loaded)

    def collect(self, pcpu: PCpu) -> None:
        """Take the pCPU's counters over into the VM's statistics."""
        exits, events = pcpu.report.take_counts()
        for kind, count in exits:
            self._stats[ExitKind(kind).name.lower()] += count
        for name, count in events:
            self._host_events[name] += count

    def exits(self) -> dict[str, int]:
        """Exits by kind up to now, also those that a pCPU has counted and that have not been taken over. From any
        thread."""
        with self._host.placing:
            counts = self._stats.copy()
            if self.loaded is not None:
                for kind, count in self.loaded.report.exit_counts():
                    counts[ExitKind(kind).name.lower()] += count
        return dict(counts)

    def put_back_events(self, kept: bytes) -> None:
        """Continue another ring, which `events` told. While the VM is set down."""
        self._events.ring = kept

    def events(self) -> bytes:
        """The ring of the last events, as `hypervisor.engine.report.Report.keep_events` takes it out of a pCPU."""
        loaded = self.loaded
        return self._events.ring if loaded is None else loaded.report.keep_events()


__all__ = ["Place"]
