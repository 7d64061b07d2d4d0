"""Far JMP and CALL in protected mode (AMD64 APM volume 3; volume 2, 4.7.2, 4.10 and 4.11)."""

from __future__ import annotations

from hypervisor.arch.exits import ExitKind as K
from hypervisor.arch.segments import SELECTOR, SELECTOR_INDEX, SELECTOR_RPL, SELECTOR_TI
from hypervisor.arch.vectors import GP
from hypervisor.arch.vectors import SS as SS_FAULT
from hypervisor.engine import block as b_
from hypervisor.engine import layout as l_
from hypervisor.engine.jit import kernel, ld32, ld64, s64, st64
from hypervisor.engine.kernels.memory.access import sync_hflags
from hypervisor.engine.kernels.memory.supervisor import clear
from hypervisor.engine.kernels.segments.code_segments import (
    is_reserved,
    long_mode,
    named,
    refused_target,
    refused_unless,
)
from hypervisor.engine.kernels.segments.descriptors import (
    canonical,
    descriptor,
    descriptor_base,
    descriptor_limit,
    dpl_of,
    high_word,
    is_big,
    is_code,
    is_conforming,
    is_long,
    load_code,
    load_stack,
    mark_accessed,
    set_segment,
    type_of,
    within_table,
)
from hypervisor.engine.kernels.segments.program_stack import READY, frame, item, no_room, pushed, stack_mask
from hypervisor.engine.kernels.segments.stacks import pointer, pointer64, push, push64, rights, room, stack_segment
from hypervisor.engine.kernels.stopping.in_place import refuse, refuse_nested, restore
from hypervisor.engine.kernels.stopping.reporting import settle, stop

_ENV, _HFLAGS, _EIP, _RSP, _N_VECTOR = b_.ENV, l_.HFLAGS, l_.EIP, l_.RSP, b_.N_VECTOR
_CPL, _DPL, _BIG = l_.HF_CPL, l_.SEG_DPL_SHIFT, l_.SEG_BIG
_CS, _SS = (l_.SEGS + l_.SEG_SIZE * n for n in (l_.CS, l_.SS))
_PLACE, _W_VECTOR, _W_LEVEL, _EVENT_RIP, _NOW = b_.PLACE, b_.W_VECTOR, b_.W_LEVEL, b_.EVENT_RIP, b_.NOW
_TASK_GATE, _TSS16, _GATE16, _TO_TASK, _TSS32, _GATE = int(K.TASK_GATE), 1, 4, 5, 9, 12

_JUMPED, _CALLED = b_.JUMPED, b_.CALLED


@kernel
def switch_task(b, selector, why, following):  # type: ignore[no-untyped-def]
    """Leave the guest at this instruction for a task switch; ``following`` is the RIP behind it."""
    restore(b, ld64(b + _PLACE))
    settle(b)
    length = (following - ld64(ld64(b + _ENV) + _EIP)) & 15  # RIP is not cut to 32 bits where code has run over the end
    st64(b + _NOW, ld64(b + _NOW) + length)
    st64(b + _W_VECTOR, selector)
    st64(b + _W_LEVEL, why)
    st64(b + _EVENT_RIP, following)
    return stop(b, _TASK_GATE, 0)


@kernel
def _enter(b, selector, d, cpl, target):  # type: ignore[no-untyped-def]
    """Go on in another code segment."""
    load_code(b, (selector & SELECTOR) | cpl, d)
    st64(ld64(b + _ENV) + _EIP, target)
    sync_hflags(b)
    return READY


@kernel
def _refused_code(b, selector, d, cpl):  # type: ignore[no-untyped-def]
    """Whether a code segment may not be entered without a gate: then the instruction has been refused."""
    dpl = dpl_of(d)
    if is_conforming(d):
        allowed = dpl <= cpl
    else:
        allowed = dpl == cpl and selector & SELECTOR_RPL <= cpl
    return refused_unless(b, selector, d, allowed and not is_reserved(b, d))


@kernel
def _refused_gate(b, selector, d, cpl):  # type: ignore[no-untyped-def]
    """Whether a system descriptor is none that a far transfer may go through: then the instruction has been refused."""
    kind, dpl = type_of(d), dpl_of(d)
    if long_mode(b):
        known = kind == _GATE
    else:
        known = kind == _TSS16 or kind == _GATE16 or kind == _TO_TASK or kind == _TSS32 or kind == _GATE
    return refused_unless(b, selector, d, known and dpl >= cpl and dpl >= selector & SELECTOR_RPL)


@kernel
def _is_task(d):  # type: ignore[no-untyped-def]
    kind = type_of(d)
    return kind == _TSS16 or kind == _TSS32 or kind == _TO_TASK


@kernel
def _code_or_call_gate(b, selector, cpl, why, following):  # type: ignore[no-untyped-def]
    """The descriptor of the code segment or call gate that JMP or CALL names. 0 where it goes no further: it has been
    refused, or leads to another task.
    """
    d = named(b, selector)
    if d == 0:
        return 0
    if is_code(d):
        return 0 if _refused_code(b, selector, d, cpl) else d
    if _refused_gate(b, selector, d, cpl):
        return 0
    if _is_task(d):
        return switch_task(b, selector, why, following)
    return d


@kernel
def _offset(b, selector, d):  # type: ignore[no-untyped-def]
    """Where a call gate leads to. In long mode its other half is read, and may be wrong: N_VECTOR tells."""
    low = (d & 0xFFFF) | ((d >> 32) & 0xFFFF0000)
    if long_mode(b) == 0:
        return low & 0xFFFF if type_of(d) == _GATE16 else low
    high = 0
    wrong = not within_table(b, (selector & SELECTOR_INDEX) + 8 | (selector & SELECTOR_TI))
    if not wrong:
        high = descriptor(b, (selector & SELECTOR_INDEX) + 8 | (selector & SELECTOR_TI))
        if ld64(b + _N_VECTOR) >= 0:
            return 0
        wrong = type_of(high) != 0
    if wrong:
        st64(b + _N_VECTOR, GP)
        st64(b + b_.N_ERROR, selector & SELECTOR)
        return 0
    return s64(low | high << 32)


@kernel
def _refused_behind_gate(b, selector, d, cpl, called):  # type: ignore[no-untyped-def]
    """Whether a call gate's code segment may not be entered: then the instruction has been refused."""
    dpl = dpl_of(d)
    good = is_code(d) and (dpl <= cpl if called or is_conforming(d) else dpl == cpl)
    return refused_unless(b, selector, d, good and (long_mode(b) == 0 or (is_long(d) and not is_big(d))))


@kernel
def far_jump(b, selector, target, following):  # type: ignore[no-untyped-def]
    """JMP to another code segment, through a call gate, or to another task."""
    clear(b)
    cpl = ld32(ld64(b + _ENV) + _HFLAGS) & _CPL
    selector &= 0xFFFF
    d = _code_or_call_gate(b, selector, cpl, _JUMPED, following)
    if d == 0:
        return READY
    if is_code(d) == 0:
        target = _offset(b, selector, d)
        if ld64(b + _N_VECTOR) >= 0:
            return refuse_nested(b)
        selector = (d >> 16) & 0xFFFF
        d = named(b, selector)
        if d == 0 or _refused_behind_gate(b, selector, d, cpl, 0):
            return READY
    if refused_target(b, d, target):
        return READY
    mark_accessed(b, selector, d)
    if ld64(b + _N_VECTOR) >= 0:
        return refuse_nested(b)
    return _enter(b, selector, d, cpl, target)


@kernel
def _call_inner64(b, selector, d, target, following):  # type: ignore[no-untyped-def]
    """Enter an inner privilege level in long mode."""
    env = ld64(b + _ENV)
    dpl = dpl_of(d)
    sp = pointer64(b, 4 + 8 * dpl, 0)
    if ld64(b + _N_VECTOR) >= 0:
        return refuse_nested(b)
    if not (canonical(sp - 8) and canonical(sp - 32)):
        return refuse(b, SS_FAULT, 0)
    if refused_target(b, d, target):
        return READY
    mark_accessed(b, selector, d)
    how = rights(b, dpl)
    sp = push64(b, sp, ld32(env + _SS), how, 0)
    sp = push64(b, sp, ld64(env + _RSP), how, 0)
    sp = push64(b, sp, ld32(env + _CS), how, 0)
    sp = push64(b, sp, following, how, 0)
    if ld64(b + _N_VECTOR) >= 0:
        return refuse_nested(b)
    set_segment(b, _SS, dpl, 0, 0, dpl << _DPL)
    st64(env + _RSP, sp)
    return _enter(b, selector, d, dpl, target)


@kernel
def _call_inner(b, selector, d, target, following, size, parameters):  # type: ignore[no-untyped-def]
    """Enter an inner privilege level through a legacy gate, which copies parameters to the new stack."""
    env = ld64(b + _ENV)
    dpl = dpl_of(d)
    pair = pointer(b, dpl, 0)
    if ld64(b + _N_VECTOR) >= 0:
        return refuse_nested(b)
    sp, ss = pair & 0xFFFFFFFF, (pair >> 32) & 0xFFFF
    sd = stack_segment(b, ss, dpl, 0)
    if sd == 0:
        return refuse_nested(b)
    flags, base = high_word(sd), descriptor_base(sd)
    mask = 0xFFFFFFFF if flags & _BIG else 0xFFFF
    if not room(flags, descriptor_limit(sd), sp, mask, size, 4 + parameters):
        return refuse(b, SS_FAULT, ss & SELECTOR)
    if refused_target(b, d, target):
        return READY
    if parameters:
        how = frame(b, size, parameters, 0)
        if how != READY:
            return how
    mark_accessed(b, selector, d)
    mark_accessed(b, ss, sd)
    how = rights(b, dpl)
    top = push(b, base, sp & mask, mask, size, ld32(env + _SS), how, 0)
    top = push(b, base, top, mask, size, ld64(env + _RSP), how, 0)
    for n in range(parameters):
        top = push(b, base, top, mask, size, item(b, parameters - 1 - n), how, 0)
    top = push(b, base, top, mask, size, ld32(env + _CS), how, 0)
    top = push(b, base, top, mask, size, following, how, 0)
    if ld64(b + _N_VECTOR) >= 0:
        return refuse_nested(b)
    load_stack(b, ss, sd)
    st64(env + _RSP, (sp & ~mask) | top)
    return _enter(b, selector, d, dpl, target)


@kernel
def far_call(b, selector, target, shift, following):  # type: ignore[no-untyped-def]
    """CALL to another code segment, through a call gate, or to another task."""
    clear(b)
    env = ld64(b + _ENV)
    cpl = ld32(env + _HFLAGS) & _CPL
    selector &= 0xFFFF
    size, mask, parameters = 2 << shift, stack_mask(b), 0
    d = _code_or_call_gate(b, selector, cpl, _CALLED, following)
    if d == 0:
        return READY
    if is_code(d) == 0:
        target = _offset(b, selector, d)
        if ld64(b + _N_VECTOR) >= 0:
            return refuse_nested(b)
        size, parameters = 2 if type_of(d) == _GATE16 else 4, (d >> 32) & 0x1F
        if long_mode(b):
            size, mask = 8, -1
        selector = (d >> 16) & 0xFFFF
        d = named(b, selector)
        if d == 0 or _refused_behind_gate(b, selector, d, cpl, 1):
            return READY
        if is_conforming(d) == 0 and dpl_of(d) < cpl:
            if size == 8:
                return _call_inner64(b, selector, d, target, following)
            return _call_inner(b, selector, d, target, following, size, parameters)
    if no_room(b, mask, size) or refused_target(b, d, target):
        return READY
    mark_accessed(b, selector, d)
    if ld64(b + _N_VECTOR) >= 0:
        return refuse_nested(b)
    how = pushed(b, mask, size, ld32(env + _CS), following)
    if how != READY:
        return how
    return _enter(b, selector, d, cpl, target)


__all__ = ["far_call", "far_jump", "switch_task"]
