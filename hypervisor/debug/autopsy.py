"""How a fault became a triple fault: each delivery of the chain, with the check that refused it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hypervisor.arch.vectors import DF, PF, VECTORS, Severity
from hypervisor.debug.delivery import Attempt, Event, attempt
from hypervisor.traps.history import EXCEPTION

LONGEST = 8
"""Attempts after which a chain has ended in one way or another: contributory faults become double faults."""


@dataclass(frozen=True)
class Autopsy:
    """The attempts in order. ``end`` is "shutdown", "delivered" or "task gate"; ``chain`` is what the engine records:
    every exception, those included that a double fault replaced.
    """

    attempts: tuple[Attempt, ...]
    end: str
    chain: tuple[tuple[int, int | None], ...]


def autopsy(vcpu: Any, first: Event) -> Autopsy:
    """Deliver ``first`` on paper, and what its failure raises, to the end (APM volume 2, 8.2.9)."""
    attempts: list[Attempt] = []
    chain: list[tuple[int, int | None]] = []
    event = first
    while len(attempts) < LONGEST:
        chain.append((event.vector, event.error))
        made = attempt(vcpu, event)
        attempts.append(made)
        refusal = made.refusal
        if refusal is None:
            return Autopsy(tuple(attempts), "task gate" if made.task_gate else "delivered", tuple(chain))
        address = refusal.page.gva if refusal.page is not None and refusal.vector == PF else None
        second = Event(refusal.vector, refusal.error, EXCEPTION, address)
        if event.origin == EXCEPTION and event.vector == DF:
            chain.append((second.vector, second.error))
            return Autopsy(tuple(attempts), "shutdown", tuple(chain))
        if event.origin == EXCEPTION and _doubles(event.vector, second.vector):
            chain.append((second.vector, second.error))
            second = Event(DF, 0)
        event = second
    return Autopsy(tuple(attempts), "endless", tuple(chain))


def _doubles(first: int, second: int) -> bool:
    """Whether two exceptions make a double fault."""
    return _severity(first) is Severity.PAGE_FAULT or (
        _severity(first) is Severity.CONTRIBUTORY and _severity(second) is Severity.CONTRIBUTORY
    )


def _severity(vector: int) -> Severity:
    known = VECTORS.get(vector)
    return known.severity if known is not None and vector <= PF else Severity.BENIGN


def matches(found: Autopsy, recorded: Sequence[Any]) -> bool:
    """Whether the autopsy came to what the engine recorded: faults with ``vector`` and ``error``, oldest first."""
    theirs = [(fault.vector, fault.error or 0) for fault in recorded]
    ours = [(vector, error or 0) for vector, error in found.chain]
    if found.end == "task gate":  # how a task switch fails is not made again
        return len(theirs) > len(ours) and theirs[: len(ours)] == ours
    return found.end == "shutdown" and ours[: len(theirs)] == theirs
