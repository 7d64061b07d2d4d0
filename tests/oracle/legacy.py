"""Protected and virtual-8086 mode: APM volume 2, 8.7 and 8.8; SDM volume 2, INT n."""

from __future__ import annotations

from .event import Attempt
from .gates import GENERAL_PROTECTION, INVALID_TSS, STACK, handler_flags, read_code, read_gate
from .segments import INTERRUPT32, TRAP32, TSS16_AVAILABLE, TSS16_BUSY, Descriptor, mark_accessed, null, read_descriptor
from .stack import Stack
from .state import MASK16, MASK32, RSP, Segment, State


def deliver_protected(attempt: Attempt) -> State:
    """Deliver through a 16- or 32-bit interrupt or trap gate."""
    state = attempt.state
    gate = read_gate(attempt)
    size = 4 if gate.type in (INTERRUPT32, TRAP32) else 2
    code = read_code(attempt, gate)
    inner = not code.conforming and code.dpl < state.cpl
    if state.v86 and (code.conforming or code.dpl != 0):
        raise attempt.fault(GENERAL_PROTECTION, gate.selector)

    cpl = code.dpl if inner else state.cpl
    old_ss, old_esp = state.segs["ss"], state.regs[RSP] & MASK32
    frame = [attempt.pushed_flags(), state.segs["cs"].selector, attempt.return_rip()]
    if attempt.error is not None:
        frame.append(attempt.error)
    if inner:
        selector, esp, descriptor = _inner_stack(attempt, code.dpl)
        stack = Stack(descriptor, esp, cpl)
        frame = [old_ss.selector, old_esp, *frame]
        if state.v86:
            frame = [state.segs[name].selector for name in ("gs", "fs", "ds", "es")] + frame
        no_room = attempt.fault(STACK, selector)
    else:
        stack = Stack(old_ss, old_esp, cpl)
        no_room = attempt.fault(STACK)
    stack.require_room(size, len(frame), no_room)
    if gate.offset > code.limit:
        raise attempt.fault(GENERAL_PROTECTION)

    after = state.copy()
    after.regs[RSP] = stack.push(attempt.linear, size, frame)
    mark_accessed(attempt.linear, code)
    after.segs["cs"] = code.load(gate.selector & ~3 | cpl)
    if inner:
        mark_accessed(attempt.linear, descriptor)
        after.segs["ss"] = descriptor.load(selector)
        if not descriptor.big and (esp ^ old_esp) >> 16:
            attempt.unsettled.add("esp-high-half")
    if state.v86:
        after.segs.update({name: Segment() for name in ("ds", "es", "fs", "gs")})
    after.cpl = cpl
    after.rip = gate.offset
    after.rflags = handler_flags(state, gate)
    return after


def _inner_stack(attempt: Attempt, dpl: int) -> tuple[int, int, Descriptor]:
    """SS:ESP for privilege ``dpl`` from the TSS, and SS's descriptor after all its checks."""
    state, linear = attempt.state, attempt.linear
    tr = state.tr
    narrow = tr.type in (TSS16_AVAILABLE, TSS16_BUSY)
    at, width = (2 + 4 * dpl, 2) if narrow else (4 + 8 * dpl, 4)
    if at + width + 1 > tr.limit:
        raise attempt.fault(INVALID_TSS, tr.selector)
    if not narrow and at + 7 > tr.limit:
        attempt.unsettled.add("tss-limit-padding")  # the padding word after SS: older SDMs count it
    if narrow and at + 4 > tr.limit:
        attempt.unsettled.add("tss-limit-padding")
    raw = linear.read_system(tr.base + at, width + 2)
    esp = int.from_bytes(raw[:width], "little") & (MASK16 if narrow else MASK32)
    selector = int.from_bytes(raw[width:], "little")

    if null(selector):
        raise attempt.fault(INVALID_TSS)
    if selector & 3 != dpl:
        raise attempt.fault(INVALID_TSS, selector)
    descriptor = read_descriptor(linear, state, selector)
    if descriptor is None or descriptor.dpl != dpl or not descriptor.writable_data:
        raise attempt.fault(INVALID_TSS, selector)
    if not descriptor.present:
        raise attempt.fault(STACK, selector)
    return selector, esp, descriptor
