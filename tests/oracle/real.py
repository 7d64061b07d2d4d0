"""Real mode: the interrupt vector table. APM volume 2, 8.6; SDM volume 3, 20.1.4."""

from __future__ import annotations

from dataclasses import replace

from .event import Attempt
from .linear import GuestFaultError
from .stack import Stack
from .state import AC, IF, MASK32, RF, RSP, TF, State

STACK, GENERAL_PROTECTION = 12, 13


def deliver_real(attempt: Attempt) -> State:
    """Push FLAGS, CS and IP and load CS:IP from the table; CS keeps its limit and attributes.

    Real mode has no error codes: none is pushed, and faults on the way carry 0.
    """
    state, vector = attempt.state, attempt.event.vector
    if vector * 4 + 3 > state.idtr.limit:
        raise GuestFaultError(GENERAL_PROTECTION, 0)
    entry = int.from_bytes(attempt.linear.read_system(state.idtr.base + vector * 4, 4), "little")
    ip, selector = entry & 0xFFFF, entry >> 16

    stack = Stack(state.segs["ss"], state.regs[RSP] & MASK32, 0)
    stack.require_room(2, 3, GuestFaultError(STACK, 0))
    if ip > state.segs["cs"].limit:
        raise GuestFaultError(GENERAL_PROTECTION, 0)
    after = state.copy()
    values = [attempt.pushed_flags(), state.segs["cs"].selector, attempt.return_rip()]
    after.regs[RSP] = stack.push(attempt.linear, 2, values)
    after.segs["cs"] = replace(state.segs["cs"], selector=selector, base=selector << 4)
    after.rip = ip
    after.rflags &= ~(IF | TF | RF | AC)
    return after
