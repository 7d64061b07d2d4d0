"""Event delivery: exceptions, software and external interrupts, in every mode (AMD64 APM volume 2, chapter 8).

`deliver` enters the guest's handler or reports what hardware would do instead: escalate to a double fault, shut down,
or go through a task gate (which `hypervisor.engine.task_switch` performs, uncompiled, because it is rare).

The file is long because the modes share their checks, and the order of checks is easiest to follow in one place.
"""

from __future__ import annotations

from hypervisor.arch.flags import (
    CR0_PE,
    RFLAGS_AC,
    RFLAGS_IF,
    RFLAGS_IOPL,
    RFLAGS_NT,
    RFLAGS_RF,
    RFLAGS_TF,
    RFLAGS_VM,
)
from hypervisor.arch.segments import SELECTOR
from hypervisor.arch.vectors import AC, BR, DE, DF, GP, MF, NM, NP, PF, TS, UD, XF
from hypervisor.arch.vectors import SS as SS_FAULT
from hypervisor.engine import block as b_
from hypervisor.engine import layout as l_
from hypervisor.engine.jit import kernel, ld32, ld64, s64, st32, st64
from hypervisor.engine.kernels.by_pointer import read_bytes
from hypervisor.engine.kernels.memory.access import read_flags, sync_hflags, write_flags
from hypervisor.engine.kernels.memory.page_walk import IMPLICIT
from hypervisor.engine.kernels.memory.supervisor import both_pages, clear, direct, nested
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
    is_present,
    load_code,
    load_stack,
    mark_accessed,
    set_segment,
    type_of,
    within_table,
)
from hypervisor.engine.kernels.segments.stacks import (
    pointer,
    pointer64,
    push,
    push64,
    rights,
    room,
    stack_segment,
    straight,
)

_ENV, _CR0, _CR2, _EIP, _HFLAGS = b_.ENV, l_.CR0, l_.CR2, l_.EIP, l_.HFLAGS
_CPL, _LMA, _SHADOW = l_.HF_CPL, l_.HF_LMA, l_.HF_INHIBIT_IRQ
_IDT_BASE, _IDT_LIMIT = l_.IDT + l_.SEG_BASE, l_.IDT + l_.SEG_LIMIT
_CS, _SS, _DS, _ES, _FS, _GS = (l_.SEGS + l_.SEG_SIZE * n for n in (l_.CS, l_.SS, l_.DS, l_.ES, l_.FS, l_.GS))
_BASE, _LIMIT, _FLAGS, _DPL, _BIG = l_.SEG_BASE, l_.SEG_LIMIT, l_.SEG_FLAGS, l_.SEG_DPL_SHIFT, l_.SEG_BIG
_N_VECTOR, _N_ERROR, _N_ADDRESS, _N_COUNT, _CHAIN = b_.N_VECTOR, b_.N_ERROR, b_.N_ADDRESS, b_.N_COUNT, b_.CHAIN
_W_VECTOR, _W_ERROR, _W_LEVEL, _CHAIN_ENTRIES = b_.W_VECTOR, b_.W_ERROR, b_.W_LEVEL, b_.CHAIN_ENTRIES
_RSP = l_.RSP
_EVENT_RIP, _CS64 = b_.EVENT_RIP, l_.HF_CS64

EXCEPTION, SOFTWARE, EXTERNAL, PRIVILEGED = 0, 1, 2, 3
"""Where an event comes from. INT1 is PRIVILEGED: its gate's DPL is not checked. INT3 and INTO are SOFTWARE | 4, without
the check of IOPL in virtual-8086 mode."""
OK, SHUTDOWN, TASK_GATE = 0, 1, 2
"""What became of a delivery."""

_WITH_ERROR = sum(1 << vector for vector in (DF, TS, NP, SS_FAULT, GP, PF, AC))
_FAULTS = _WITH_ERROR & ~(1 << DF) | sum(1 << vector for vector in (DE, BR, UD, NM, MF, XF))
_CONTRIBUTORY = sum(1 << vector for vector in (DE, TS, NP, SS_FAULT, GP))
_CLEARED = RFLAGS_TF | RFLAGS_NT | RFLAGS_RF | RFLAGS_VM
_REAL_MODE_CLEARS = RFLAGS_IF | RFLAGS_TF | RFLAGS_RF | RFLAGS_AC
_TASK, _INTERRUPT16, _TRAP16, _INTERRUPT, _TRAP = 5, 6, 7, 14, 15  # types of gates (APM volume 2, table 4-6)
_WIDE_GATE, _TRAP_GATE = 8, 1  # bits of them


@kernel
def has_error(vector):  # type: ignore[no-untyped-def]
    """Whether an exception pushes an error code (APM volume 2, table 8-1)."""
    return vector < 32 and (_WITH_ERROR >> vector) & 1 == 1


@kernel
def _flags_image(flags, vector, kind):  # type: ignore[no-untyped-def]
    """The flags that an event pushes: a fault's have RF set, so that the instruction's breakpoint does not repeat."""
    if kind == 0 and vector < 32 and (_FAULTS >> vector) & 1:
        return flags | RFLAGS_RF
    return flags


@kernel
def _deliver_real(b, vector, inside):  # type: ignore[no-untyped-def]
    env = ld64(b + _ENV)
    if vector * 4 + 3 > ld32(env + _IDT_LIMIT):
        return nested(b, GP, 0)  # real mode has no error codes
    entry = read_bytes(b, ld64(env + _IDT_BASE) + vector * 4, 4)
    if ld64(b + _N_VECTOR) >= 0:
        return 0
    flags = read_flags(b, inside)
    base, sp = ld64(env + _SS + _BASE), ld64(env + _RSP)
    mask = 0xFFFFFFFF if ld32(env + _SS + _FLAGS) & _BIG else 0xFFFF
    if not room(ld32(env + _SS + _FLAGS), ld32(env + _SS + _LIMIT), sp, mask, 2, 3):
        return nested(b, SS_FAULT, 0)
    if entry & 0xFFFF > ld32(env + _CS + _LIMIT):
        return nested(b, GP, 0)
    top = push(b, base, sp & mask, mask, 2, flags, 0, 0)
    top = push(b, base, top, mask, 2, ld32(env + _CS), 0, 0)
    top = push(b, base, top, mask, 2, ld64(b + _EVENT_RIP), 0, 0)
    if ld64(b + _N_VECTOR) >= 0:
        return 0
    st64(env + _RSP, (sp & ~mask) | top)
    st32(env + _CS, (entry >> 16) & 0xFFFF)
    st64(env + _CS + _BASE, ((entry >> 16) & 0xFFFF) << 4)
    st64(env + _EIP, entry & 0xFFFF)
    write_flags(b, flags & ~_REAL_MODE_CLEARS, inside)
    sync_hflags(b)
    return 0


@kernel
def _code_segment(b, selector, cpl, ext, long_mode):  # type: ignore[no-untyped-def]
    """Check an interrupt gate's code segment; its descriptor, or 0 with a fault recorded."""
    error = (selector & SELECTOR) | ext
    if selector & SELECTOR == 0:
        nested(b, GP, ext)
        return 0
    if not within_table(b, selector):
        nested(b, GP, error)
        return 0
    d = descriptor(b, selector)
    if ld64(b + _N_VECTOR) >= 0:
        return 0
    if not is_code(d) or dpl_of(d) > cpl:
        nested(b, GP, error)
        return 0
    if long_mode and (is_long(d) == 0 or is_big(d)):
        nested(b, GP, error)
        return 0
    if is_present(d) == 0:
        nested(b, NP, error)
        return 0
    return d


@kernel
def _deliver_long(b, vector, error, kind, inside):  # type: ignore[no-untyped-def]
    env = ld64(b + _ENV)
    ext = 0 if kind & 3 == 1 else 1
    idt_error = vector * 8 + 2 + ext
    if vector * 16 + 15 > ld32(env + _IDT_LIMIT):
        return nested(b, GP, idt_error)
    at = ld64(env + _IDT_BASE) + vector * 16
    if at & 0xFFF > 4080:
        both_pages(b, at, 0, IMPLICIT)
    low = read_bytes(b, at, 8)
    high = read_bytes(b, at + 8, 8)
    if ld64(b + _N_VECTOR) >= 0:
        return 0
    gate = type_of(low)
    cpl = ld32(env + _HFLAGS) & _CPL
    if gate != _INTERRUPT and gate != _TRAP:
        return nested(b, GP, idt_error)
    if kind & 3 == 1 and dpl_of(low) < cpl:
        return nested(b, GP, idt_error)
    if is_present(low) == 0:
        return nested(b, NP, idt_error)
    selector = (low >> 16) & 0xFFFF
    d = _code_segment(b, selector, cpl, ext, 1)
    if d == 0:
        return 0
    target = s64((low & 0xFFFF) | ((low >> 32) & 0xFFFF0000) | (high << 32))
    dpl = dpl_of(d)
    if is_conforming(d):
        dpl = cpl
    ist = (low >> 32) & 7
    rsp = ld64(env + _RSP)
    sp = rsp
    ss = ld32(env + _SS)
    if ist or dpl < cpl:
        sp = pointer64(b, 0x24 + 8 * (ist - 1) if ist else 4 + 8 * dpl, ext)
        if ld64(b + _N_VECTOR) >= 0:
            return 0
    sp &= ~15
    coded = kind & 3 == 0 and has_error(vector)
    frame = 48 if coded else 40
    if not (canonical(sp - 8) and canonical(sp - frame)):
        return nested(b, SS_FAULT, ext)
    if not canonical(target):
        return nested(b, GP, ext)
    flags = read_flags(b, inside)
    how = rights(b, dpl)
    delta = direct(b, sp - frame, frame, how)
    sp = push64(b, sp, ss, how, delta)
    sp = push64(b, sp, rsp, how, delta)
    sp = push64(b, sp, _flags_image(flags, vector, kind), how, delta)
    sp = push64(b, sp, ld32(env + _CS), how, delta)
    sp = push64(b, sp, ld64(b + _EVENT_RIP), how, delta)
    if coded:
        sp = push64(b, sp, error, how, delta)
    mark_accessed(b, selector, d)
    if ld64(b + _N_VECTOR) >= 0:
        return 0
    st64(env + _RSP, sp)
    if dpl < cpl:
        set_segment(b, _SS, dpl, 0, 0, dpl << _DPL)
    load_code(b, (selector & ~3) | dpl, d)
    st64(env + _EIP, target)
    flags &= ~_CLEARED
    if gate == _INTERRUPT:
        flags &= ~RFLAGS_IF
    write_flags(b, flags, inside)
    sync_hflags(b)
    return 0


@kernel
def _is_gate(kind):  # type: ignore[no-untyped-def]
    """Whether the IDT may have this type of system descriptor, outside long mode."""
    return kind == _TASK or kind == _INTERRUPT16 or kind == _TRAP16 or kind == _INTERRUPT or kind == _TRAP


@kernel
def _deliver_protected(b, vector, error, kind, inside):  # type: ignore[no-untyped-def]
    env = ld64(b + _ENV)
    ext = 0 if kind & 3 == 1 else 1
    idt_error = vector * 8 + 2 + ext
    flags = read_flags(b, inside)
    vm = flags & RFLAGS_VM
    if vm and kind == 1 and flags & RFLAGS_IOPL != RFLAGS_IOPL:
        return nested(b, GP, 0)
    if vector * 8 + 7 > ld32(env + _IDT_LIMIT):
        return nested(b, GP, idt_error)
    gate = read_bytes(b, ld64(env + _IDT_BASE) + vector * 8, 8)
    if ld64(b + _N_VECTOR) >= 0:
        return 0
    kind_of_gate = type_of(gate)
    cpl = ld32(env + _HFLAGS) & _CPL
    if not _is_gate(kind_of_gate):
        return nested(b, GP, idt_error)
    if kind & 3 == 1 and dpl_of(gate) < cpl:
        return nested(b, GP, idt_error)
    if is_present(gate) == 0:
        return nested(b, NP, idt_error)
    if kind_of_gate == _TASK:
        return TASK_GATE
    selector = (gate >> 16) & 0xFFFF
    d = _code_segment(b, selector, cpl, ext, 0)
    if d == 0:
        return 0
    wide = kind_of_gate & _WIDE_GATE
    target = (gate & 0xFFFF) | ((gate >> 32) & 0xFFFF0000) if wide else gate & 0xFFFF
    size = 4 if wide else 2
    dpl = dpl_of(d)
    if is_conforming(d):
        dpl = cpl
    if vm and dpl != 0:
        return nested(b, GP, (selector & SELECTOR) | ext)
    esp = ld64(env + _RSP)
    old_ss = ld32(env + _SS)
    sd = 0
    ss = 0
    if dpl < cpl:
        pair = pointer(b, dpl, ext)
        if ld64(b + _N_VECTOR) >= 0:
            return 0
        sp, ss = pair & 0xFFFFFFFF, (pair >> 32) & 0xFFFF
        sd = stack_segment(b, ss, dpl, ext)
        if sd == 0:
            return 0
        base = descriptor_base(sd)
        stack_flags, limit = high_word(sd), descriptor_limit(sd)
    else:
        sp = esp
        base = ld64(env + _SS + _BASE)
        stack_flags, limit = ld32(env + _SS + _FLAGS), ld32(env + _SS + _LIMIT)
    mask = 0xFFFFFFFF if stack_flags & _BIG else 0xFFFF
    coded = kind & 3 == 0 and has_error(vector)
    items = 3 + (1 if coded else 0) + (2 if dpl < cpl else 0) + (4 if vm else 0)
    if not room(stack_flags, limit, sp, mask, size, items):
        return nested(b, SS_FAULT, (ss & SELECTOR) | ext)
    if target > descriptor_limit(d):
        return nested(b, GP, ext)
    how = rights(b, dpl)
    delta = straight(b, base, sp, mask, size * items, how)
    top = sp & mask
    if vm:
        top = push(b, base, top, mask, size, ld32(env + _GS), how, delta)
        top = push(b, base, top, mask, size, ld32(env + _FS), how, delta)
        top = push(b, base, top, mask, size, ld32(env + _DS), how, delta)
        top = push(b, base, top, mask, size, ld32(env + _ES), how, delta)
    if dpl < cpl:
        top = push(b, base, top, mask, size, old_ss, how, delta)
        top = push(b, base, top, mask, size, esp, how, delta)
    top = push(b, base, top, mask, size, _flags_image(flags, vector, kind), how, delta)
    top = push(b, base, top, mask, size, ld32(env + _CS), how, delta)
    top = push(b, base, top, mask, size, ld64(b + _EVENT_RIP), how, delta)
    if coded:
        top = push(b, base, top, mask, size, error, how, delta)
    mark_accessed(b, selector, d)
    if dpl < cpl:
        mark_accessed(b, ss, sd)
    if ld64(b + _N_VECTOR) >= 0:
        return 0
    if vm:
        set_segment(b, _ES, 0, 0, 0, 0)
        set_segment(b, _DS, 0, 0, 0, 0)
        set_segment(b, _FS, 0, 0, 0, 0)
        set_segment(b, _GS, 0, 0, 0, 0)
    if dpl < cpl:
        load_stack(b, (ss & ~3) | dpl, sd)
        st64(env + _RSP, (sp & ~mask) | top)
    else:
        st64(env + _RSP, (esp & ~mask) | top)
    load_code(b, (selector & ~3) | dpl, d)
    st64(env + _EIP, target)
    flags &= ~_CLEARED
    if kind_of_gate & _TRAP_GATE == 0:
        flags &= ~RFLAGS_IF
    write_flags(b, flags, inside)
    sync_hflags(b)
    return 0


@kernel
def _chain(b, vector, error, address):  # type: ignore[no-untyped-def]
    count = ld64(b + _N_COUNT)
    if count < _CHAIN_ENTRIES:
        at = b + _CHAIN + 24 * count
        st64(at, vector)
        st64(at + 8, error)
        st64(at + 16, address)
    st64(b + _N_COUNT, count + 1)
    return 0


@kernel
def deliver(b, vector, error, kind, rip, inside):  # type: ignore[no-untyped-def]
    """Deliver an event; OK, SHUTDOWN or TASK_GATE (then W_VECTOR, W_ERROR and W_LEVEL hold vector, error and kind).

    ``rip`` is what the event pushes: the next instruction for a software interrupt, else the present one. ``inside``
    says whether a hook is running (see `read_flags`). CR2 must be set for a page fault before the call.
    """
    env = ld64(b + _ENV)
    st64(b + _N_COUNT, 0)
    if ld32(env + _HFLAGS) & _CS64 == 0:
        rip &= 0xFFFFFFFF
    st64(b + _EVENT_RIP, rip)
    while True:
        clear(b)
        _chain(b, vector, error, ld64(env + _CR2) if vector == PF and kind == 0 else 0)
        hflags = ld32(env + _HFLAGS)
        result = 0
        if ld64(env + _CR0) & CR0_PE == 0:
            _deliver_real(b, vector, inside)
        elif hflags & _LMA:
            _deliver_long(b, vector, error, kind, inside)
        else:
            result = _deliver_protected(b, vector, error, kind, inside)
        if result == TASK_GATE:
            st64(b + _W_VECTOR, vector)
            st64(b + _W_ERROR, error)
            st64(b + _W_LEVEL, kind)
            return TASK_GATE
        second = ld64(b + _N_VECTOR)
        if second < 0:
            st32(env + _HFLAGS, ld32(env + _HFLAGS) & ~_SHADOW)  # the event ends an interrupt shadow
            return OK
        if second == PF:
            st64(env + _CR2, ld64(b + _N_ADDRESS))
        second_error = ld64(b + _N_ERROR)
        first_contributory = vector < 32 and (_CONTRIBUTORY >> vector) & 1
        second_contributory = (_CONTRIBUTORY >> second) & 1
        if kind == 0 and vector == DF:
            _chain(b, second, second_error, ld64(b + _N_ADDRESS))
            return SHUTDOWN
        both = first_contributory and second_contributory
        if kind == 0 and (both or (vector == PF and (second_contributory or second == PF))):
            _chain(b, second, second_error, ld64(b + _N_ADDRESS))
            vector = DF
            error = 0
        else:
            vector = second
            error = second_error
        kind = 0
        st64(b + _EVENT_RIP, ld64(env + _EIP))  # a fault of the delivery points at the instruction


__all__ = ["EXCEPTION", "EXTERNAL", "OK", "PRIVILEGED", "SHUTDOWN", "SOFTWARE", "TASK_GATE", "deliver"]
