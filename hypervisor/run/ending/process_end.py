"""The end of the process while threads still run guests, and the beginning of another one that has none of them.

Python ends daemon threads where they are, and then frees what they use: an engine would be freed while it runs. So the
runs end first.
"""

from __future__ import annotations

import atexit
import os
import time
import weakref
from typing import TYPE_CHECKING, Protocol

from hypervisor.outcome.result import Reason

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hypervisor.run.sharing.share import Share

PATIENCE_S = 2.0
"""How long the process waits for handlers that do not come back, in host seconds."""


class Ending(Protocol):
    """A run that can be ended (`hypervisor.run.runner.Runner`)."""

    def finish_from_outside(self, reason: Reason, message: str) -> None:
        """End the run from any thread, at the guest's next block."""
        ...


class Tenant(Protocol):
    """A VM on a host."""

    @property
    def share(self) -> Share:
        """What it is to get of the processors."""
        ...

    @property
    def runner(self) -> Ending | None:
        """Its run, None between runs."""
        ...

    def abandon(self, why: str) -> None:
        """It is another process's."""
        ...

    def close(self) -> None:
        """Give back what it has of the host."""
        ...


class Housing(Protocol):
    """A host."""

    def forks(self) -> None:
        """This thread is about to fork the process."""
        ...

    def has_forked(self) -> None:
        """It has, and this is the parent."""
        ...

    def forked(self) -> None:
        """The process was forked, and this is the child."""
        ...

    @property
    def vms(self) -> Sequence[Tenant]:
        """The VMs on it."""
        ...


_hosts: weakref.WeakSet[Housing] = weakref.WeakSet()


def remember(host: Housing) -> None:
    """End the runs on this host before the process ends, and before whatever the host has loaded ends with it: what is
    registered last comes first.
    """
    _hosts.add(host)
    atexit.unregister(_end_runs)
    atexit.register(_end_runs)


def _forks() -> None:
    for host in list(_hosts):
        host.forks()


def _has_forked() -> None:
    for host in list(_hosts):
        host.has_forked()


def _forked() -> None:
    for host in list(_hosts):
        host.forked()


os.register_at_fork(before=_forks, after_in_parent=_has_forked, after_in_child=_forked)


def _end_runs() -> None:
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        running = [runner for host in _hosts for vm in host.vms if (runner := vm.runner) is not None]
        if not running:
            return
        for runner in running:
            runner.finish_from_outside(Reason.STOPPED, "the process ends")
        time.sleep(0.001)


__all__ = ["Tenant", "remember"]
