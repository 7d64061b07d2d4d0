"""Who has which pCPU, and who waits for one.

A pCPU that becomes free is handed over, not put up for grabs, so the VM that has just left it cannot take it again
before the others. A visit (a thread that looks at a VM for a moment) is served when it has waited longest; among tasks
the host's scheduler chooses. When a slice is over and somebody waits, the holder is marked and its pCPU kicked,
and the VM leaves at its next opportunity. Where that is, is the host's doing, and changes nothing that the guest does.

An interrupt (KeyboardInterrupt) may come between any two lines here, and a signal's handler may call `wake` there. All
that the queue knows is three lists, which change in single steps; what is free, and who is next, follows from them. Who
finds the lock taken leaves a note, which the one who has it reads behind.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from hypervisor.errors import ConfigError
from hypervisor.run.sharing import hope
from hypervisor.run.sharing.accounts import Accounts
from hypervisor.run.sharing.allotment import Allotment
from hypervisor.run.sharing.hold import Customer, Hold
from hypervisor.run.sharing.resting import Resting
from hypervisor.run.sharing.scheduler import RoundRobin, Scheduler
from hypervisor.run.sharing.slices import PATIENCE_S
from hypervisor.run.sharing.task import Next, Task, going
from hypervisor.run.sharing.usage import PCpuUsage, Usage
from hypervisor.run.threads.patience import Patience
from hypervisor.run.threads.pcpu_thread import PCpuThread
from hypervisor.run.threads.starting import start
from hypervisor.run.threads.watch import NEVER, Watch

if TYPE_CHECKING:
    from hypervisor.engine.pcpu import PCpu

_FOREVER = -1

CLOSED = "The host is closed, and its VMs with it; create another host."
FORKED = (
    "The host was running VMs when this process was forked, and only the parent goes on with them; create another host."
)


class RunQueue:
    """The pCPUs of a host with their threads, and what wants them. A VM has one at most."""

    def __init__(self, pcpus: list[PCpu], policy: Scheduler | None = None, watch: Watch | None = None) -> None:
        self._pcpus = list(pcpus)
        self._scheduler = policy or RoundRobin()
        self._watch = watch or Watch()
        self._slices = self._watch.alarm(self.look)
        self._wakings = self._watch.alarm(self.look)
        self._closed = ""
        self.patience = Patience()
        """Of those who wait for tasks."""
        self._begin()

    def _begin(self) -> None:
        self._threads = {
            pcpu: PCpuThread(f"hypervisor-pcpu{number}", lambda thread, pcpu=pcpu: self._serve(thread, pcpu))  # type: ignore[misc]
            for number, pcpu in enumerate(self._pcpus)
        }
        self._lock: Any = threading.RLock()  # which knows its owner
        self._allotment = Allotment(self._pcpus, self._scheduler, lambda task: self._notes.append(task.place))
        self._holds = self._allotment.holds
        self._accounts = Accounts(self._pcpus)
        self._resting = Resting(self._wakings)
        self._apart: list[Task] = []
        """Those for which a thread of their own has yet to begin."""
        self._others: list[threading.Thread] = []
        """Such threads."""
        self._notes: deque[Customer] = deque()

    @property
    def contended(self) -> bool:
        """Whether a VM waits for a pCPU."""
        return self._allotment.contended

    @property
    def scheduler(self) -> Scheduler:
        """Who chooses among VMs that wait."""
        return self._scheduler

    def switch(self, scheduler: Scheduler) -> None:
        """Let another one do so from now on."""
        self._scheduler = scheduler
        self.change(lambda allotment: allotment.switch(scheduler))

    def change(self, change: Callable[[Allotment], None]) -> None:
        """Change the rules, and give pCPUs by the new ones."""
        with self._lock:
            change(self._allotment)
            self._hand_out()
        self._read_notes()

    # --- where the time has gone --------------------------------------------------------------------------------------

    def usage(self, vm: Customer) -> Usage:
        """Of a VM, up to now."""
        with self._lock:
            found = self._accounts.of_vm(vm, self._holds, [*self._resting, *self._apart])
        self._read_notes()
        return found

    def usage_of_pcpus(self) -> list[PCpuUsage]:
        """Of each pCPU, up to now."""
        with self._lock:
            found = [self._accounts.of_pcpu(pcpu, self._holds) for pcpu in self._pcpus]
        self._read_notes()
        return found

    @property
    def closed(self) -> str:
        """Why nobody gets a pCPU any more; empty while they do."""
        return self._closed

    # --- visits -------------------------------------------------------------------------------------------------------

    @contextmanager
    def holding(
        self, vm: Customer, called_off: Callable[[], bool] = lambda: False, end_at: float | None = None
    ) -> Iterator[Hold]:
        """A pCPU for the time of a ``with`` block, the one that the VM ran on last if that is free. It is lent to this
        thread; the pCPU's own one waits meanwhile.

        It has none (``hold.pcpu`` is None) if the wish was called off: ``called_off()``, asked when it is woken, or
        ``end_at`` (of time.monotonic) has come. Raises `ConfigError` when the host is closed, or when the wait
        could never end.
        """
        hold = Hold(vm, None, called_off, end_at)
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

    # --- tasks --------------------------------------------------------------------------------------------------------

    def submit(self, task: Task) -> None:
        """Have a task executed. Raises `ConfigError` when the host is closed, or when the task could never begin."""
        try:
            with self._lock:
                if self._closed:
                    raise ConfigError(self._closed)
                if self._holds and task.waiters and not task.called_off:
                    hold = Hold(task.place, task)
                    hope.check(hold, [*self._holds, hold], len(self._pcpus), threading.get_ident())
                going.add(task)
                if task.called_off:
                    self._put_apart(task)
                else:
                    self._enqueue(task)
                try:
                    self._hand_out()
                except RuntimeError:  # no thread can be started for it
                    self._take_back(task)
                    raise
        finally:
            self._read_notes()

    def _take_back(self, task: Task) -> None:
        """As if a task had not been submitted."""
        for hold in [hold for hold in self._holds if hold.task is task]:
            self._holds.remove(hold)
            self._allotment.forget(hold, task)
        if task in self._apart:
            self._apart.remove(task)

    def knows(self, task: Task) -> bool:
        """Whether a task has been taken on."""
        with self._lock:
            known = task.begun or task in self._apart or any(hold.task is task for hold in self._holds)
        self._read_notes()
        return known

    def check_hope(self, vm: Customer) -> None:
        """Raise `ConfigError` if this thread would wait for ever for what a VM does."""
        try:
            with self._lock:
                for hold in self._holds:
                    if hold.vm is vm and hold.task is not None:
                        hope.check(hold, self._holds, len(self._pcpus), threading.get_ident())
        finally:
            self._read_notes()

    def begin(self, hold: Hold) -> None:
        """The guest is about to run: its slice begins now, however long it took to get there."""
        with self._lock:
            hold.begin()
            if self.contended or hold.firm:
                self._press()
            hold.goes(self._resting.next_at)
        self._read_notes()

    def look(self, hold: Hold | None = None) -> None:
        """One that rested, or was held back, may want a pCPU by now; ``hold`` looks again when the next one may."""
        with self._lock:
            self._hand_out()
            if hold is not None:
                hold.look_at = self._resting.next_at
        self._read_notes()

    def rest(self, hold: Hold, rouse: Callable[[], None]) -> bool:
        """The VM is about to sleep: whether it may do so on its pCPU, until ``rouse`` is called as somebody comes."""
        with self._lock:
            may = not self.contended and not hold.spent
            if may:
                hold.asleep_since = time.monotonic()
                hold.rouse = rouse
        self._read_notes()
        return may

    def resume(self, hold: Hold) -> bool:
        """It has slept: whether it still has its pCPU, for another slice."""
        with self._lock:
            hold.awakes()
        self._read_notes()
        return not hold.over

    def wake(self, vm: Customer) -> None:
        """Let those who wait for this VM ask whether their wish was called off, and a task of it that rests go on. From
        any thread, and in a signal's handler, too.
        """
        self._notes.append(vm)
        self._read_notes()

    def close(self) -> None:
        """Nobody gets a pCPU any more, and those who wait are told."""
        self._closed = self._closed or CLOSED
        with self._lock:
            for hold in self._holds:
                hold.wake()
        closing = [one.close for one in (self._slices, self._wakings)]
        for close in [*closing, *(thread.close for thread in self._threads.values()), self._accounts.close]:
            close()
        for other in self._others:
            if other.is_alive() and other is not threading.current_thread():
                other.join()

    def forked(self) -> bool:
        """This is another process now, which has none of the threads; whether anybody had a pCPU, or wanted one. Nobody
        gets one then: what they were doing is never finished here.
        """
        used = bool(self._holds or self._resting or self._apart)
        going.clear()
        self._begin()
        if used:
            self._closed = FORKED
        return used

    # --- the pCPUs' threads -------------------------------------------------------------------------------------------

    def _serve(self, thread: PCpuThread, pcpu: PCpu) -> bool:
        """Execute what the pCPU was given to, on its thread; whether there was something."""
        with self._lock:
            hold = next((one for one in self._holds if one.pcpu is pcpu and one.task and not one.arrived), None)
            if hold is not None:
                hold.thread = threading.get_ident()
                self._accounts.arrives(hold, pcpu)
                hold.arrived = True
                self._leave_other_places(hold.task, hold)
        self._read_notes()
        if hold is None or hold.task is None:
            return False
        thread.trace(hold.task.tracer)
        following = hold.task.execute(hold.task.slice, hold)
        self._leave(hold, hold.task, following)
        return True

    def _leave(self, hold: Hold, task: Task, following: Next) -> None:
        with self._lock:
            self._holds.remove(hold)
            hold.ended = True
            seconds, whole = self._accounts.leaves(hold)
            goes_on = following is Next.READY and not task.called_off
            self._allotment.leaves(hold, task, seconds, whole, goes_on=goes_on)
            if not goes_on:
                self._go_on(task, following, hold.until)
            self._hand_out(hold.until)
        self._read_notes()
        if following is Next.OVER:
            task.ends()

    def _go_on(self, task: Task, following: Next, since: float) -> None:
        """Put a task where it wants to be, with the lock."""
        if following is Next.OVER:
            return
        task.idle_since = since
        if following is Next.APART or task.called_off:
            self._put_apart(task)
        elif task.woken and not task.stands:
            self._enqueue(task)
        else:
            self._resting.add(task)

    def _put_apart(self, task: Task) -> None:
        task.wants_apart = True
        if task not in self._apart:
            self._apart.append(task)

    def _serve_apart(self, task: Task) -> None:
        """Execute what needs no pCPU, in a thread of its own."""
        with self._lock:
            wanted = task.wants_apart
            if wanted:
                task.wants_apart = task.woken = False
                self._apart.remove(task)
                self._leave_other_places(task)
        self._read_notes()
        if not wanted:
            return
        if task.tracer is not None and sys.gettrace() is None:
            sys.settrace(task.tracer)
        following = task.execute(task.apart)
        with self._lock:
            goes_on = following is Next.READY or (following is Next.RESTS and not task.stands)  # it was woken meanwhile
            if goes_on and not task.called_off:
                self._enqueue(task)
            else:
                now = time.monotonic()
                self._accounts.wakes(task, now)  # up to here
                self._go_on(task, following, now)
            self._hand_out()
        self._read_notes()
        if following is Next.OVER:
            task.ends()

    # --- under the lock -----------------------------------------------------------------------------------------------

    def _read_notes(self) -> None:
        """Do what was asked for while this thread had the lock, as a signal's handler may. Behind each time it had.

        A lock that is taken by a call may stay taken, as an interrupt comes behind it; one that a ``with`` takes not.
        """
        while self._notes and not self._lock._is_owned():
            with self._lock:
                while self._notes:
                    self._look_at(self._notes[0])
                    self._notes.popleft()  # behind it: interrupted, it is looked at again
                self._hand_out()

    def _look_at(self, vm: Customer) -> None:
        for hold in [one for one in self._holds if one.vm is vm]:
            if hold.task is None:
                if hold.pcpu is None:
                    hold.wake()
            elif hold.pcpu is not None:
                hold.task.woken = True
            elif hold.task.called_off:  # in an order in which this can be interrupted, and done again
                self._put_apart(hold.task)
                self._allotment.forget(hold, hold.task)
                self._holds.remove(hold)
        for task in [one for one in self._resting if one.place is vm]:
            if task.called_off or not task.stands:
                self._unrest(task)

    def _leave_other_places(self, task: Task | None, here: Hold | None = None) -> None:
        """A task is about to be executed: an interrupt may have come while it had its new place and the old one."""
        self._holds[:] = [hold for hold in self._holds if hold.task is not task or hold is here]
        self._resting.remove(task)

    def _unrest(self, task: Task) -> None:
        if task.called_off:
            self._put_apart(task)
        elif not any(hold.task is task for hold in self._holds):
            self._enqueue(task)
        self._resting.remove(task)  # behind it: interrupted, this is done again

    def _enqueue(self, task: Task) -> None:
        """A task wants a pCPU that did not before."""
        now = time.monotonic()
        self._accounts.wakes(task, now)
        self._allotment.enqueue(task, now)

    def _wait(self, hold: Hold) -> None:
        with self._lock:
            self._holds.append(hold)
            self._hand_out()
        self._read_notes()
        seconds: float | None = 0.0
        while seconds is not None:
            hold.sleep(seconds)
            try:
                seconds = self._left_to_wait(hold)
            finally:
                self._read_notes()

    def _left_to_wait(self, hold: Hold) -> float | None:
        """For how many seconds a visit is to sleep, for ever if they are negative; None when it need not wait."""
        with self._lock:
            if self._closed:
                raise ConfigError(self._closed)
            if hold.pcpu is not None:
                hold.arrived = True
                return None
            now = time.monotonic()
            if hold.called_off() or (hold.end_at is not None and now >= hold.end_at):
                return None
            hope.check(hold, self._holds, len(self._pcpus), hold.thread)
            return _FOREVER if hold.end_at is None else min(hold.end_at - now, threading.TIMEOUT_MAX)

    def _end(self, hold: Hold) -> None:
        with self._lock:
            if hold in self._holds:
                self._accounts.returns(hold)
                self._holds.remove(hold)
            self._hand_out()
            hold.ended = True
        self._read_notes()

    def _hand_out(self, since: float | None = None) -> None:
        """Wake who is due, give free pCPUs to those who are next, and see that somebody looks after the slices. One
        pCPU has been free ``since`` then (of time.monotonic).
        """
        now = time.monotonic()
        for task in self._resting.due(now):
            self._unrest(task)
        self._resting.look_again(now)
        self._allotment.hand_out(since)
        for hold in self._holds:
            if hold.pcpu is not None and not hold.arrived:
                if hold.task is None:
                    hold.wake()
                else:
                    self._threads[hold.pcpu].wake()
        for task in list(self._apart):
            thread = threading.Thread(target=self._serve_apart, args=(task,), name="hypervisor-apart", daemon=True)
            self._others = [*filter(threading.Thread.is_alive, self._others), thread]
            start(thread)
        self._press()

    def _press(self) -> None:
        """Have those leave whose slice is over, and look again when the next one may be."""
        if (again := self._allotment.press()) < NEVER:
            self._slices.set(max(again, time.monotonic() + PATIENCE_S))


__all__ = ["CLOSED", "RunQueue"]
