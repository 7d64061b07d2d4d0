"""Pausing a run between two instructions, after which it goes on: because somebody wants it to stand still (`Pause`),
or for a debugger, in a thread of its own.

Meanwhile the VM is as between two runs: handlers may be registered, registers and memory written, and a debugger may
step the vCPU. The VM's time stands still, and so does the run's ``timeout``. It has no pCPU.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Protocol

from hypervisor.run.threads.thread_gate import Gate

if TYPE_CHECKING:
    from hypervisor.outcome.result import Reason


class Debugger(Protocol):
    """What `VM.debugger` is: at most one, called at the beginning of a run, after `VM.request_pause`, and at its
    end.
    """

    def attend(self, ended: tuple[Reason, str] | None) -> None:
        """Look at the VM, and return when the run is to go on. ``ended`` is how the run has ended, None if it has not:
        then the guest only waits.
        """
        ...

    def wake(self) -> None:
        """The host wants the run to end (``vm.runner.stop_requested``): return from `attend` soon. May be called from
        any thread, and has been if that was so before `attend` was called.
        """
        ...

    def close(self) -> None:
        """The VM is being closed."""
        ...


class DebugServer(Debugger, Protocol):
    """A debugger that somebody connects to (`hypervisor.debug.gdb`)."""

    port: int
    """Where it listens."""

    @property
    def connected(self) -> bool:
        """Whether somebody has."""
        ...


class Pause:
    """The pause of a run that `VM.pause` asks for."""

    def __init__(self) -> None:
        self._by: set[object] = set()
        """Who wants it."""
        self.since: float | None = None
        """When the run came to stand still, of time.monotonic; None while it does not."""
        self._over = False
        self._standing = Gate()
        self._changing = threading.RLock()  # a signal's handler may pause, too

    @property
    def wanted(self) -> bool:
        """Whether somebody does."""
        return bool(self._by)

    def want(self, who: object) -> None:
        """Ask for it; from any thread. A run that stands still when it is asked for does not go on."""
        with self._changing:
            self._by.add(who)

    def want_no_more(self, who: object) -> None:
        """Ask for its end, for which all have to who wanted it; from any thread."""
        with self._changing:
            self._by.discard(who)

    def begin(self) -> None:
        """The run stands still."""
        self.since = time.monotonic()
        self._standing.open()

    def end(self, *, unless_wanted: bool = False) -> float | None:
        """The run goes on; for how many host seconds it stood still, None if it did not."""
        with self._changing:
            if self.since is None or (unless_wanted and self.wanted):
                return None
            since, self.since = self.since, None
            self._standing.wait(0)  # closed
        return time.monotonic() - since

    def over(self) -> None:
        """The run is over: nobody waits any longer."""
        self.since, self._over = None, True
        self._standing.open()

    def wait(self, seconds: float) -> None:
        """Until the run stands still or is over, so many seconds at most."""
        if self._standing.wait(seconds) and (self._over or self.since is not None):
            self._standing.open()  # for whoever else waits


__all__ = ["Debugger", "Pause"]
