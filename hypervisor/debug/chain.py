"""The chain of events that ended in a crash: what each was, what caused the first, and why each was not delivered."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from hypervisor.arch.vectors import NMI, PF, VECTORS, title
from hypervisor.debug.autopsy import Autopsy, autopsy, matches
from hypervisor.debug.cause import cause, page_walk, selector
from hypervisor.debug.delivery import Attempt
from hypervisor.debug.delivery import Event as Raised
from hypervisor.debug.instruction import at_rip
from hypervisor.outcome.crash_record import Link
from hypervisor.traps.history import EXCEPTION, EXTERNAL, SOFTWARE, Event


def first_event(chain: Sequence[Any], delivered: list[Event]) -> tuple[Raised | None, list[Event]]:
    """The first event of the chain, to deliver again, and the events that were delivered before it."""
    if not chain:
        return None, delivered
    fault = chain[0]
    if not delivered or delivered[-1].vector != fault.vector:
        return Raised(fault.vector, fault.error, EXCEPTION, fault.address), delivered
    remembered = delivered[-1]
    origin = remembered.origin or EXCEPTION
    error = fault.error if origin == EXCEPTION else None
    return Raised(fault.vector, error, origin, fault.address, not remembered.info >> 26 & 1), delivered[:-1]


def reconstruct(vcpu: Any, chain: Sequence[Any], first: Raised | None) -> Autopsy | None:
    """The deliveries that failed, made again; None if that does not lead to what the engine saw."""
    found = None if first is None else autopsy(vcpu, first)
    return found if found is not None and matches(found, chain) else None


def links(vcpu: Any, chain: Sequence[Any], first: Raised | None, found: Autopsy | None) -> Iterator[Link]:
    """The chain with what each delivery would have used and why it failed."""
    attempts = list(found.attempts) if found is not None else []
    for number, fault in enumerate(chain):
        made: Attempt | None = None
        if attempts and attempts[0].event.vector == fault.vector:
            made = attempts.pop(0)
        walk = ""
        why = ""
        if fault.vector == PF and fault.address is not None:
            walk = str(page_walk(vcpu, fault.error or 0, fault.address))
        raised = first if number == 0 else made.event if made is not None else None
        interrupts = raised is not None and raised.origin != EXCEPTION
        if number == 0 and not interrupts:
            why = cause(vcpu, fault.vector, fault.error, fault.address, at_rip(vcpu))
        error = None if interrupts else fault.error
        yield Link(
            fault.vector,
            error,
            fault.address,
            _name(fault.vector, raised),
            why,
            walk if number == 0 else "",
            made.gate_words if made is not None else "",
            made.stack_words if made is not None else "",
            ""
            if made is None
            else made.refusal.why
            if made.refusal is not None
            else _switch(vcpu, chain[number + 1 :]),
        )


def _switch(vcpu: Any, following: Sequence[Any]) -> str:
    """Why a task gate led nowhere, from the fault that followed."""
    fault = following[0] if following else None
    if fault is None:
        return ""
    known = VECTORS.get(fault.vector)
    why = f": {selector(vcpu, fault.error)}" if fault.error and fault.vector != PF else ""
    return f"the switch to the gate's task was refused with {known.mnemonic if known else fault.vector}{why}"


def _name(vector: int, raised: Raised | None) -> str:
    if raised is not None and raised.origin == EXTERNAL and vector != NMI:
        return f"interrupt {vector:#x}"
    if raised is not None and raised.origin == SOFTWARE and raised.from_int_n:
        return f"INT {vector:#x}"
    return title(vector) or f"vector {vector:#x}"
