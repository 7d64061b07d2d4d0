"""One gdb at the other end: which vCPU it looks at, and how the guest runs, steps and stops for it.

All of this happens on the VM's thread while the guest waits. What packets say is in `hypervisor.debug.gdb.commands`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypervisor.debug.gdb.gdb_memory import Memory
from hypervisor.debug.gdb.remembered import Remembered
from hypervisor.debug.gdb.stops import Cause, Stops

SIGINT, SIGTRAP, SIGSEGV = 2, 5, 11
"""Signals as gdb numbers them."""

ONE = range(0)
"""The addresses in which a single step goes on stepping: none."""


class Session:
    """The state of a connection. ``running`` means that gdb waits for a stop reply; ``interrupted`` says whether it
    has sent something meanwhile, or has gone.
    """

    def __init__(
        self, vm: Any, interrupted: Callable[[], bool] = lambda: False, remembered: Remembered | None = None
    ) -> None:
        self.vm = vm
        self.remembered = remembered or Remembered(vm)
        self.vcpu = vm.vcpus[0]
        self.stops = Stops(vm)
        self.memory = Memory(vm)
        self.running = False
        self.acknowledges = True
        self.left = False
        """gdb has detached, or killed the VM."""
        self.over = False
        """The run has ended, and the guest is only looked at."""
        self._interrupted = interrupted
        self._sleeper: Any = None

    # --- stopping -----------------------------------------------------------------------------------------------------

    def stop(self, signal: int, cause: Cause | None = None, vcpu: Any = None) -> bytes:
        """The stop reply; the vCPU that stopped is the one that gdb then looks at."""
        self.vcpu = self.vm.vcpus[cause.vcpu] if cause is not None else vcpu or self.vcpu
        self.running = False
        self.stops.causes.clear()
        self._wake_no_more()
        words = "" if cause is None else cause.words
        return f"T{signal:02x}thread:{self.vcpu.number + 1:x};{words}".encode()

    def why_stopped(self) -> bytes | None:
        """The stop reply, if the guest has come to a breakpoint or the like; None if it can go on."""
        vcpu, self.stops.touching = self.stops.touching, None
        if vcpu is not None:
            self._step_once(vcpu)
        if self.stops.causes:
            return self.stop(SIGTRAP, self.stops.causes[0])
        if self._sleeper is not None and self._sleeper.activity == "running":
            return self.stop(SIGTRAP, vcpu=self._sleeper)
        return None

    # --- running ------------------------------------------------------------------------------------------------------

    def go(self) -> None:
        """Let the guest run; the stop reply comes later."""
        self.running = True

    def step(self, vcpu: Any, within: range = ONE) -> bytes | None:
        """Step a vCPU, and on while it stays ``within`` a range of addresses; the others stand still. The stop reply,
        or None if that comes later.
        """
        self.running = True
        while not self.over:
            if vcpu.activity != "running":
                self._sleep(vcpu)
                return None
            self._step_once(vcpu)
            if self.vm.runner.finished:
                return None
            if self.stops.causes:
                return self.stop(SIGTRAP, self.stops.causes[0])
            if vcpu.linear_rip not in within or self.stops.at(vcpu.linear_rip):
                return self.stop(SIGTRAP, vcpu=vcpu)
            if self._interrupted():
                return self.stop(SIGINT, vcpu=vcpu)
            if self.vm.runner.stop_requested:
                return None
        return None

    def go_back(self, name: str) -> int:
        """Have the machine become what it was when it was given this name, even if its run has ended since; breakpoints
        stay. How many pages of memory were others. Raises `ConfigError`.
        """
        changed = self.remembered.go_back(name)
        self.over = False
        self.stops.touching = None
        self.stops.causes.clear()
        self._wake_no_more()
        return changed

    def kill(self) -> None:
        """End the run."""
        self.vm.request_stop("killed by gdb")
        self.leave()

    def leave(self) -> None:
        """gdb goes: nothing of it stays behind, and the guest runs on."""
        self._wake_no_more()
        self.stops.clear()
        self.running = self.left = True

    def _step_once(self, vcpu: Any) -> None:
        self.stops.stepping = True
        try:
            vcpu.step(1)
        finally:
            self.stops.stepping = False

    def _sleep(self, vcpu: Any) -> None:
        """A step of a vCPU that sleeps takes until an interrupt has woken it: then `why_stopped` says so."""
        self._sleeper = vcpu
        self.vm.traps.interrupt(self._woken, name="gdb.wake", mode="observe")

    def _woken(self, vcpu: Any, exit: Any) -> None:
        if vcpu is self._sleeper:
            self.vm.request_pause()

    def _wake_no_more(self) -> None:
        if self._sleeper is not None:
            self._sleeper = None
            self.vm.traps.remove("gdb.wake")
