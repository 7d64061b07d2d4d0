"""Runs a machine until QEMU would end, and says with what status QEMU would.

=====  =============================================================================================
0      power-off; a reset or a triple fault with ``-no-reboot``; ``quit``, Ctrl-A x; SIGINT, SIGTERM, SIGHUP
n      a write to isa-debug-exit: ``(value << 1) | 1``, cut to 8 bits
1      an error of the command line, of an image, or of ours
128+n  another signal
=====  =============================================================================================
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Sequence
from typing import Any

from hypervisor.cli.qemu.command import Command
from hypervisor.run.ending.conditions import Condition

SIGNALS_THAT_QUIT = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""QEMU ends by itself when one comes, and so with status 0."""


class Ended(Condition):
    """The process is to end: who asks for that just before a run begins is heard at its beginning."""

    looks_at_guest = False
    text = "the machine is to end"

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def holds(self) -> bool:
        """Whether it was asked for."""
        return self._machine.over


class Machine:
    """A VM and what QEMU does around its runs. `run` is called once; the rest may be called from any thread."""

    def __init__(self, vm: Any, command: Command, say: Callable[[str], object]) -> None:
        self.vm = vm
        self.busy_in = ""
        self._command = command
        self._say = say
        self._told = False
        self.over = False
        self._go_on = False
        self._stands = command.stopped and command.gdb_port is None
        self._pressed = ""
        self._changed = threading.Condition()
        self.listeners: list[Callable[[str, dict[str, Any]], object]] = []
        """Told of events by QMP's name and data; on any thread."""
        vm.listeners.append(self._heard)
        self.when_crashed: Callable[[Sequence[Any]], object] = lambda chain: None
        """Told of a triple fault: the chain of events of its report."""

    # --- what the monitor asks for ------------------------------------------------------------------------------------

    @property
    def status(self) -> str:
        """What ``info status`` says."""
        return "paused" if self._stands else "running"

    def stop(self) -> None:
        """Stand still until `go_on`."""
        if not self._stands:
            self._stands = True
            self.vm.pause()
            self._tell("STOP")

    def go_on(self) -> None:
        """Run again; a machine that has ended starts again, as QEMU's does."""
        with self._changed:
            stood = self._stands
            self._stands, self._go_on = False, True
            self._changed.notify_all()
        if stood:
            self._tell("RESUME")
        self.vm.resume()

    def reset(self) -> None:
        """The reset button."""
        self._pressed = "host-qmp-system-reset"
        self.vm.reset()
        with self._changed:
            self._go_on = True
            self._changed.notify_all()

    def quit(self) -> None:
        """End the run, and the process with status 0."""
        self.over = True
        self._tell("SHUTDOWN", guest=False, reason="host-qmp-quit")
        self.request_stop("quit")

    def request_stop(self, text: str, urgent: bool = False) -> None:
        """End the run, for whatever reason."""
        with self._changed:
            self.over = True
            self._changed.notify_all()
        self.vm.resume()
        self.vm.request_stop(text, urgent=urgent)

    def _tell(self, event: str, **data: Any) -> None:
        for listener in self.listeners:
            listener(event, data)

    def _heard(self, category: str, text: str, vcpu: Any) -> None:
        if category == "reset" and text == "reset":
            self._tell("RESET", guest=not self._pressed, reason=self._pressed or "guest-reset")
            self._pressed = ""

    # --- the run ------------------------------------------------------------------------------------------------------

    def run(self) -> int:
        """Run until the process is to end; its exit status, signals left aside."""
        if self._stands or self._go_on:
            self._until_asked()
        while not self.over:
            status = self._run_once()
            if status is not None:
                return status
        return 0

    def _run_once(self) -> int | None:
        """A run from here to what ends it; None if the machine goes on."""
        self._go_on = False  # what was asked of a machine that ran
        result = self.vm.run(until=Ended(self))
        match result.reason.value:
            case "debug-exit":
                return (result.status or 0) & 0xFF
            case "powered-off":
                return self._ended("guest-shutdown")
            case "reset":
                return self._ended("guest-reset")
            case "crashed":
                return self._triple_fault(result)
            case "halted" | "idle":
                self._wait(result)
            case "host-error":
                self._say(result.message)
                return 1
        return None

    def _ended(self, reason: str) -> int | None:
        """QEMU would end, or stand still for good if it may not."""
        self._tell("SHUTDOWN", guest=True, reason=reason)
        if self._command.shutdown:
            return 0
        self._stand()
        return None

    def _triple_fault(self, result: Any) -> int | None:
        """The processor has shut down, which resets a PC. What led there is said once."""
        self.when_crashed(result.crash.chain if result.crash is not None else ())
        if not self._told:
            self._told = True
            self._say(str(result.crash or result.message))
        if not self._command.reboot:
            return self._ended("guest-reset")
        self.vm.reset()
        return None

    def _wait(self, result: Any) -> None:
        """Nothing can wake the guest but a reset: QEMU waits for ever, and so does this."""
        if not self._told:
            self._told = True
            hint = f" Likely mistake: {result.hint}" if result.hint else ""
            self._say(f"the guest has halted for good, and stays so until it is reset or ended.{hint}")
        self._until_asked()

    def _stand(self) -> None:
        self._stands = True
        self._until_asked()

    def _until_asked(self) -> None:
        with self._changed:
            while not (self.over or self._go_on):
                self._changed.wait()
            self._go_on = False
