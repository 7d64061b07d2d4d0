"""Pausing a run: a debugger gets the VM between two instructions, on the thread that runs it, and the run then goes on.

While it attends, the VM is as between two runs: handlers may be registered, registers and memory written, and the vCPU
stepped. The VM's time stands still, and so does the run's ``timeout``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

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


__all__ = ["Debugger"]
