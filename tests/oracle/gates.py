"""What legacy and long protected mode share: the IDT entry, the code segment, the flags."""

from __future__ import annotations

from .event import Attempt, TaskGateError
from .segments import (
    INTERRUPT16,
    INTERRUPT32,
    TASK_GATE,
    TRAP16,
    TRAP32,
    Descriptor,
    Gate,
    decode_gate,
    null,
    read_descriptor,
)
from .state import IF, NT, RF, TF, VM, State

LEGACY_GATES = (TASK_GATE, INTERRUPT16, TRAP16, INTERRUPT32, TRAP32)
LONG_GATES = (INTERRUPT32, TRAP32)
INVALID_TSS, NOT_PRESENT, STACK, GENERAL_PROTECTION = 10, 11, 12, 13


def read_gate(attempt: Attempt) -> Gate:
    """The event's gate, after the checks of limit, type, DPL (software only) and presence, in this order."""
    state, event = attempt.state, attempt.event
    size = 16 if state.long_mode else 8
    at = event.vector * size
    if at + size - 1 > state.idtr.limit:
        raise attempt.idt_fault(GENERAL_PROTECTION)
    gate = decode_gate(attempt.linear.read_system(state.idtr.base + at, size))
    if not gate.system or gate.type not in (LONG_GATES if state.long_mode else LEGACY_GATES):
        raise attempt.idt_fault(GENERAL_PROTECTION)
    if event.software and gate.dpl < state.cpl:
        raise attempt.idt_fault(GENERAL_PROTECTION)
    if not gate.present:
        raise attempt.idt_fault(NOT_PRESENT)
    if gate.type == TASK_GATE:
        raise TaskGateError(gate.selector)
    return gate


def read_code(attempt: Attempt, gate: Gate) -> Descriptor:
    """The handler's code segment: not null, inside its table, code, not less privileged, present."""
    state, selector = attempt.state, gate.selector
    if null(selector):
        raise attempt.fault(GENERAL_PROTECTION)
    code = read_descriptor(attempt.linear, state, selector)
    if code is None or not code.code or code.dpl > state.cpl:
        raise attempt.fault(GENERAL_PROTECTION, selector)
    if state.long_mode and (not code.long or code.big):
        if not code.present:
            attempt.unsettled.add("long-code-type-or-present")
        raise attempt.fault(GENERAL_PROTECTION, selector)
    if not code.present:
        raise attempt.fault(NOT_PRESENT, selector)
    return code


def handler_flags(state: State, gate: Gate) -> int:
    """RFLAGS in the handler."""
    cleared = TF | NT | RF | VM | (IF if gate.interrupt else 0)
    return state.rflags & ~cleared
