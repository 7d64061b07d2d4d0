"""Who gets a pCPU next: first come, first served, each for a slice of the host's time while others wait.

A pCPU that becomes free is handed to the one that has waited longest, so nobody who comes later can overtake, least of
all the VM that has just left it. The first in the queue looks after the slices: when one is over it marks the holder
and kicks its pCPU, and the VM leaves at its next block. Where that is, is the host's doing, and changes nothing that
the guest does.

An interrupt (KeyboardInterrupt) may come between any two lines here. All that the queue knows is one list, which
changes in single steps; what is free, and who is next, follows from it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from hypervisor.errors import ConfigError

if TYPE_CHECKING:
    from hypervisor.engine.pcpu import PCpu

SLICE_S = 0.02
"""Host seconds for which a VM keeps its pCPU while another one waits."""

_FOREVER = -1


class Customer(Protocol):
    """A VM, as far as the queue knows one (`hypervisor.run.sharing.placing.Place`)."""

    name: str
    last: PCpu | None
    """The pCPU that ran it last."""


class Hold:
    """One wish for a pCPU, from the asking to the giving back."""

    def __init__(self, vm: Customer, called_off: Callable[[], bool], end_at: float | None) -> None:
        self.vm = vm
        self.pcpu: PCpu | None = None
        """None while it waits, and when it was called off."""
        self.over = False
        """Whether the slice is over, and somebody waits."""
        self.since = 0.0
        self.rouse: Callable[[], None] | None = None
        """Wakes a holder that sleeps, and whose pCPU is anybody's who wants one."""
        self.thread = threading.get_ident()
        self.called_off = called_off
        self.end_at = end_at
        self.arrived = self.ended = False
        self._gate = threading.Lock()
        self._gate.acquire()

    def wake(self) -> None:
        """Let `sleep` return, now or when it is called. With the queue's lock only."""
        if self._gate.locked():
            self._gate.release()

    def sleep(self, seconds: float) -> None:
        """Until `wake`, or so many seconds."""
        self._gate.acquire(timeout=seconds)


class RunQueue:
    """The pCPUs of a host, and the VMs that have one or wait for one. A VM has one at most."""

    def __init__(self, pcpus: list[PCpu]) -> None:
        self._pcpus = list(pcpus)
        self._lock = threading.Lock()
        self._holds: list[Hold] = []
        self._closed = False

    @property
    def contended(self) -> bool:
        """Whether a VM waits for a pCPU."""
        return any(hold.pcpu is None for hold in self._holds)

    @contextmanager
    def holding(
        self, vm: Customer, called_off: Callable[[], bool] = lambda: False, end_at: float | None = None
    ) -> Iterator[Hold]:
        """A pCPU for the time of a ``with`` block, the one that the VM ran on last if that is free.

        It has none (``hold.pcpu`` is None) if the wish was called off: ``called_off()``, asked when it is woken, or
        ``end_at`` (of time.monotonic) has come. Raises `ConfigError` when the host is closed, or when the wait
        could never end.
        """
        hold = Hold(vm, called_off, end_at)
        try:
            self._wait(hold)
            yield hold
        finally:
            interrupt: BaseException | None = None
            while not hold.ended:
                try:
                    self._end(hold)
                except BaseException as error:
                    interrupt = error
            if interrupt is not None:
                raise interrupt

    def begin(self, hold: Hold) -> None:
        """The guest is about to run: its slice begins now, however long it took to get there."""
        with self._lock:
            hold.since, hold.over = time.monotonic(), False

    def rest(self, hold: Hold, rouse: Callable[[], None]) -> bool:
        """The VM is about to sleep: whether it may do so on its pCPU, until ``rouse`` is called as somebody comes."""
        with self._lock:
            if self.contended:
                return False
            hold.rouse = rouse
            return True

    def resume(self, hold: Hold) -> bool:
        """It has slept: whether it still has its pCPU."""
        with self._lock:
            hold.rouse = None
            hold.since = time.monotonic()
            return not hold.over

    def wake(self, vm: Customer) -> None:
        """Let those who wait for this VM ask whether their wish was called off."""
        with self._lock:
            for hold in self._holds:
                if hold.vm is vm and hold.pcpu is None:
                    hold.wake()

    def close(self) -> None:
        """Nobody gets a pCPU any more, and those who wait are told."""
        self._closed = True
        with self._lock:
            for hold in self._holds:
                hold.wake()

    # --- under the lock -----------------------------------------------------------------------------------------------

    def _wait(self, hold: Hold) -> None:
        with self._lock:
            self._holds.append(hold)
            self._hand_out()
        while True:
            with self._lock:
                if self._closed:
                    raise ConfigError("The host is closed, and its VMs with it; create another host.")
                if hold.pcpu is not None:
                    hold.arrived = True
                    return
                now = time.monotonic()
                if hold.called_off() or (hold.end_at is not None and now >= hold.end_at):
                    return
                self._check_hope(hold)
                seconds = self._press(hold, now)
                if hold.end_at is not None:
                    left = min(hold.end_at - now, threading.TIMEOUT_MAX)
                    seconds = left if seconds == _FOREVER else min(seconds, left)
            hold.sleep(seconds)

    def _end(self, hold: Hold) -> None:
        with self._lock:
            if hold in self._holds:
                self._holds.remove(hold)
            self._hand_out()
            hold.ended = True

    def _hand_out(self) -> None:
        """Give free pCPUs to those who came first, and see that somebody looks after the slices."""
        running = [hold for hold in self._holds if hold.pcpu is not None]
        taken, busy = {hold.pcpu for hold in running}, {hold.vm for hold in running}
        free = [pcpu for pcpu in self._pcpus if pcpu not in taken]
        first = True
        for hold in self._holds:
            if hold.pcpu is None and free and hold.vm not in busy:
                pcpu = _best(free, hold.vm)
                free.remove(pcpu)
                busy.add(hold.vm)
                hold.since = time.monotonic()
                hold.pcpu = pcpu
            if hold.pcpu is None:
                if first:
                    hold.wake()
                first = False
            elif not hold.arrived:
                hold.wake()

    def _press(self, hold: Hold, now: float) -> float:
        """The first who waits tells those whose slice is over to leave; host seconds until there is more to do."""
        waiting = [one for one in self._holds if one.pcpu is None]
        if waiting[0] is not hold:
            return _FOREVER
        running = [one for one in self._holds if one.pcpu is not None]
        running.sort(key=lambda one: (one.rouse is None, one.since))
        by_vm = {one.vm: one for one in running}
        again = _FOREVER if not running else SLICE_S
        for one in waiting:
            target = by_vm.get(one.vm) or (running[0] if running else None)
            if target is None or target not in running:
                continue
            running.remove(target)
            left = 0.0 if target.rouse else target.since + SLICE_S - now
            if left > 0:
                again = min(again, left)
                continue
            target.over = True
            if target.rouse:
                target.rouse()
            elif target.pcpu is not None:
                target.pcpu.kick()
        return again

    def _check_hope(self, hold: Hold) -> None:
        """Raise `ConfigError` if everybody that ``hold`` waits for waits in turn, in the handler of a VM that runs."""
        stuck = {one.thread for one in self._holds if one.pcpu is None}
        running = [one for one in self._holds if one.pcpu is not None]
        hopeless = len(running) == len(self._pcpus) and all(one.thread in stuck for one in running)
        by_vm = {one.vm: one for one in running}
        wanted: Customer | None = hold.vm
        for _ in range(len(running)):  # who has the VM may wait for another VM, and so on
            holder = by_vm.get(wanted) if wanted is not None else None
            if holder is None:
                break
            if holder.thread == hold.thread:
                hopeless = True
            wanted = next((one.vm for one in self._holds if one.pcpu is None and one.thread == holder.thread), None)
        if hopeless:
            names = ", ".join(one.vm.name for one in running if one.thread == hold.thread) or "another VM"
            raise ConfigError(
                f"The VM {hold.vm.name} waits for a pCPU in a handler of {names}, which keeps its own pCPU until that "
                "returns: the wait would never end. Use the other VM between runs, or give the host more cpus."
            )


def _best(free: list[PCpu], vm: Customer) -> PCpu:
    """The pCPU that costs least: where the VM ran last, else one with nothing on it."""
    last = vm.last
    if last in free:
        return last
    return next((pcpu for pcpu in free if pcpu.owner is None), free[0])


__all__ = ["SLICE_S", "Hold", "RunQueue"]
