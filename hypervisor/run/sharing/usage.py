"""Where the time of VMs and of pCPUs has gone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hypervisor.run.threads.thread_meter import Reading


@dataclass
class Usage:
    """Of a VM, since it was made, in host seconds. Together they are the time that its runs and steps have taken."""

    run_s: float = 0.0
    """A pCPU computed for it: of the CPU clock of that one's thread."""
    ready_s: float = 0.0
    """It wanted a pCPU, and others had them."""
    blocked_s: float = 0.0
    """It wanted none: it waited for a timer of the wall clock or for input, was paused, had used its cap."""
    waiting_s: float = 0.0
    """It had a pCPU that did not compute: that one's thread waited for the interpreter, which another thread had, or
    for what a handler waits for."""
    stolen_s: float = 0.0
    """It had a pCPU, whose thread waited for a processor of the host's, which other threads or processes had."""

    @property
    def held_s(self) -> float:
        """It had a pCPU."""
        return self.run_s + self.waiting_s + self.stolen_s

    @property
    def total_s(self) -> float:
        """All."""
        return self.held_s + self.ready_s + self.blocked_s

    def add_held(self, since: Reading, now: Reading, slept_s: float) -> None:
        """It had a pCPU between these readings of that one's thread, and slept there for ``slept_s``. (A thread that
        loses its processor while it is read has more stolen from it than time passed until then: it is what passed
        that is told.)
        """
        run = now.cpu - since.cpu
        idle = max(now.wall - since.wall - slept_s - run, 0.0)
        stolen = min(now.stolen - since.stolen, idle)
        self.run_s += run
        self.stolen_s += stolen
        self.waiting_s += idle - stolen
        self.blocked_s += slept_s

    def add_waited(self, seconds: float, *, capped: bool = False) -> None:
        """It waited so long for a pCPU, or because it had used its cap."""
        if capped:
            self.blocked_s += seconds
        else:
            self.ready_s += seconds

    def copy(self) -> Usage:
        """As it is now."""
        return replace(self)


@dataclass(frozen=True)
class PCpuUsage:
    """Of a pCPU, since its host was made, in host seconds."""

    run_s: float
    """Its thread computed, for one VM or another."""
    waiting_s: float
    """A VM had it, and its thread waited for the interpreter, or for what a handler waits for."""
    stolen_s: float
    """A VM had it, and its thread waited for a processor of the host's."""
    lent_s: float
    """Another thread had it, to look at a VM."""
    idle_s: float
    """No VM had it, or one that slept on it."""
    slices: int
    """How often a VM got it to run."""


__all__ = ["PCpuUsage", "Usage"]
