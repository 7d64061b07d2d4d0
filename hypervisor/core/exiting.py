"""The end of the process, while threads still run guests.

Python ends daemon threads where they are, and then frees what they use: an engine would be freed while it runs. So the
runs end first.
"""

from __future__ import annotations

import atexit
import time
import weakref
from typing import TYPE_CHECKING

from hypervisor.core.result import Reason

if TYPE_CHECKING:
    from hypervisor.core.host import CoreHost

PATIENCE_S = 2.0
"""How long the process waits for handlers that do not come back, in host seconds."""

_hosts: weakref.WeakSet[CoreHost] = weakref.WeakSet()


def remember(host: CoreHost) -> None:
    """End the runs on this host before the process ends, and before whatever the host has loaded ends with it: what is
    registered last comes first.
    """
    _hosts.add(host)
    atexit.unregister(_end_runs)
    atexit.register(_end_runs)


def _end_runs() -> None:
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        running = [runner for host in _hosts for vm in host.vms if (runner := vm.runner) is not None]
        if not running:
            return
        for runner in running:
            runner.finish_from_outside(Reason.STOPPED, "the process ends")
        time.sleep(0.001)


__all__ = ["remember"]
