"""Long mode: 64-bit gates, IST, an aligned stack without segment checks. APM volume 2, 8.9."""

from __future__ import annotations

from .event import Attempt
from .gates import GENERAL_PROTECTION, INVALID_TSS, STACK, handler_flags, read_code, read_gate
from .linear import GuestFaultError
from .paging import canonical
from .segments import mark_accessed
from .state import MASK64, RSP, Segment, State

IST1, RSP0 = 0x24, 0x04


def deliver_long(attempt: Attempt) -> State:
    """Deliver from 64-bit or compatibility mode through a 64-bit interrupt or trap gate."""
    state, linear = attempt.state, attempt.linear
    gate = read_gate(attempt)
    code = read_code(attempt, gate)
    cpl = state.cpl if code.conforming else code.dpl

    rsp = state.regs[RSP]
    if gate.ist:
        rsp = _tss_stack(attempt, IST1 + 8 * (gate.ist - 1))
    elif cpl != state.cpl:
        rsp = _tss_stack(attempt, RSP0 + 8 * cpl)
    frame = [
        state.segs["ss"].selector,
        state.regs[RSP],
        attempt.pushed_flags(),
        state.segs["cs"].selector,
        attempt.return_rip(),
    ]
    if attempt.error is not None:
        frame.append(attempt.error)
    top = rsp & ~0xF
    slots = [top - 8 * (n + 1) & MASK64 for n in range(len(frame))]
    if canonical(top) != canonical(slots[0]) or canonical(slots[0]) != canonical(slots[-1]):
        attempt.unsettled.add("stack-at-the-canonical-edge")
    if not all(canonical(slot) for slot in slots):
        if not canonical(gate.offset):
            attempt.unsettled.add("stack-or-rip-first")
        raise attempt.fault(STACK)
    if not canonical(gate.offset):
        raise attempt.fault(GENERAL_PROTECTION)

    after = state.copy()
    for slot, value in zip(slots, frame, strict=True):
        linear.push_at(slot, value.to_bytes(8, "little"), cpl)
    mark_accessed(linear, code)
    after.regs[RSP] = slots[-1]
    after.segs["cs"] = code.load(gate.selector & ~3 | cpl)
    if cpl != state.cpl:
        after.segs["ss"] = Segment(cpl, 0, 0, cpl << 5)
    after.cpl = cpl
    after.rip = gate.offset
    after.rflags = handler_flags(state, gate)
    return after


def _tss_stack(attempt: Attempt, at: int) -> int:
    """A stack pointer from the 64-bit TSS."""
    tr = attempt.state.tr
    if at + 7 > tr.limit:
        raise GuestFaultError(INVALID_TSS, tr.selector & 0xFFFC | attempt.event.ext)
    return int.from_bytes(attempt.linear.read_system(tr.base + at, 8), "little")
