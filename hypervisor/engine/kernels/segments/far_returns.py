"""Far RET and IRET (AMD64 APM volume 3): to the same or an outer privilege level, or to virtual-8086 mode."""

from __future__ import annotations

from hypervisor.arch.flags import (
    RFLAGS_AC,
    RFLAGS_DF,
    RFLAGS_ID,
    RFLAGS_IF,
    RFLAGS_IOPL,
    RFLAGS_IOPL_SHIFT,
    RFLAGS_LOADABLE,
    RFLAGS_NT,
    RFLAGS_RF,
    RFLAGS_TF,
    RFLAGS_VIF,
    RFLAGS_VIP,
    RFLAGS_VM,
)
from hypervisor.arch.segments import SELECTOR, SELECTOR_RPL
from hypervisor.arch.vectors import GP
from hypervisor.arch.vectors import SS as SS_FAULT
from hypervisor.engine import block as b_
from hypervisor.engine import layout as l_
from hypervisor.engine.jit import kernel, ld32, ld64, st32, st64
from hypervisor.engine.kernels.by_pointer import read_bytes
from hypervisor.engine.kernels.memory.access import sync_hflags, write_flags
from hypervisor.engine.kernels.memory.supervisor import clear
from hypervisor.engine.kernels.segments.code_segments import (
    is_64_bit,
    is_reserved,
    long_mode,
    named,
    refused_target,
    refused_unless,
)
from hypervisor.engine.kernels.segments.descriptors import (
    descriptor,
    dpl_of,
    is_big,
    is_code,
    is_conforming,
    is_present,
    is_writable_data,
    load_code,
    load_stack,
    mark_accessed,
    set_segment,
    within_table,
)
from hypervisor.engine.kernels.segments.far_branches import switch_task
from hypervisor.engine.kernels.segments.load_segment import make_null
from hypervisor.engine.kernels.segments.program_stack import READY, frame, item, stack_mask
from hypervisor.engine.kernels.stopping.in_place import refuse, refuse_nested

_ENV, _HFLAGS, _EFLAGS, _EIP, _RSP, _N_VECTOR = b_.ENV, l_.HFLAGS, l_.EFLAGS, l_.EIP, l_.RSP, b_.N_VECTOR
_SEGS, _SIZE, _BASE, _LIMIT, _FLAGS = l_.SEGS, l_.SEG_SIZE, l_.SEG_BASE, l_.SEG_LIMIT, l_.SEG_FLAGS
_CS, _SS, _TR_BASE = l_.SEGS + l_.SEG_SIZE * l_.CS, l_.SEGS + l_.SEG_SIZE * l_.SS, l_.TR + l_.SEG_BASE
_CS64, _RETURNED = l_.HF_CS64, b_.RETURNED
_ANYBODYS, _IF, _IOPL, _NT = l_.CC_MASK | RFLAGS_TF | RFLAGS_DF | RFLAGS_NT, RFLAGS_IF, RFLAGS_IOPL, RFLAGS_NT
_WIDE, _VIRTUAL, _VM = RFLAGS_RF | RFLAGS_AC | RFLAGS_ID, RFLAGS_VIF | RFLAGS_VIP, RFLAGS_VM
_CPL, _DPL, _CONFORMING_CODE = l_.HF_CPL, l_.SEG_DPL_SHIFT, l_.SEG_CODE | l_.SEG_CONFORMING
_V86_SEGMENT, _RF, _KEEP_RF = 0xF300, RFLAGS_RF, b_.KEEP_RF


@kernel
def _load_flags(b, image, size, cpl, iopl_changes):  # type: ignore[no-untyped-def]
    """Take the flags that IRET may change at this privilege from the stack."""
    old = ld64(ld64(b + _ENV) + _EFLAGS)
    mask = _ANYBODYS
    if cpl <= (old & RFLAGS_IOPL) >> RFLAGS_IOPL_SHIFT:
        mask |= _IF
    if iopl_changes:
        mask |= _IOPL
    if size > 2:
        mask |= _WIDE
        if iopl_changes:
            mask |= _VIRTUAL
    if old & image & mask & _RF:
        st64(b + _KEEP_RF, 1)
    return write_flags(b, (old & ~mask) | (image & mask), 1)


@kernel
def _refused_code(b, selector, d, cpl):  # type: ignore[no-untyped-def]
    """Whether there is no returning to this code segment: then the instruction has been refused."""
    rpl, dpl = selector & SELECTOR_RPL, dpl_of(d)
    good = is_code(d) and rpl >= cpl and (dpl <= rpl if is_conforming(d) else dpl == rpl)
    return refused_unless(b, selector, d, good and not is_reserved(b, d))


@kernel
def _stack(b, selector, rpl, wide):  # type: ignore[no-untyped-def]
    """The stack segment that is returned to: its descriptor, 0 for a null one, -1 where the instruction was refused."""
    if selector & SELECTOR == 0:
        if wide and rpl < 3:
            return 0
        refuse(b, GP, 0)
        return -1
    d = 0
    if within_table(b, selector):
        d = descriptor(b, selector)
        if ld64(b + _N_VECTOR) >= 0:
            refuse_nested(b)
            return -1
    if not is_writable_data(d) or selector & SELECTOR_RPL != rpl or dpl_of(d) != rpl:
        refuse(b, GP, selector & SELECTOR)
        return -1
    if is_present(d) == 0:
        refuse(b, SS_FAULT, selector & SELECTOR)
        return -1
    return d


@kernel
def _null_what_is_too_privileged(b, cpl):  # type: ignore[no-untyped-def]
    """Data segments that the outer level may not use become null."""
    env = ld64(b + _ENV)
    long = long_mode(b)
    for n in range(4):
        register = n + 2 if n > 1 else 3 * n  # ES, DS, FS, GS
        at = env + _SEGS + _SIZE * register
        flags = ld32(at + _FLAGS)
        if ld32(at) & SELECTOR and (flags >> _DPL) & 3 < cpl and flags & _CONFORMING_CODE != _CONFORMING_CODE:
            make_null(b, register, 0, long)
    return 0


@kernel
def _to_virtual_8086(b):  # type: ignore[no-untyped-def]
    how = frame(b, 4, 9, 0)
    if how != READY:
        return how
    env = ld64(b + _ENV)
    write_flags(b, item(b, 2) & RFLAGS_LOADABLE, 1)
    for register in range(6):
        n = 1 if register == 1 else (4 if register == 2 else (5 if register == 0 else register + 3))
        selector = item(b, n) & 0xFFFF
        set_segment(b, _SEGS + _SIZE * register, selector, selector << 4, 0xFFFF, _V86_SEGMENT)
    st64(env + _EIP, item(b, 0) & 0xFFFF)
    st64(env + _RSP, item(b, 3))
    sync_hflags(b)
    return READY


@kernel
def _return(b, size, interrupt, released):  # type: ignore[no-untyped-def]
    """Return by a frame of 2 items, or 3 for IRET, and the outer stack behind them."""
    clear(b)
    env = ld64(b + _ENV)
    hflags = ld32(env + _HFLAGS)
    cpl, in_64_bit = hflags & _CPL, hflags & _CS64
    items = 2 + interrupt
    how = frame(b, size, 5 if interrupt and in_64_bit else items, released)
    if how != READY:
        return how
    target, selector, image = item(b, 0), item(b, 1) & 0xFFFF, item(b, 2)
    if interrupt and size == 4 and image & _VM and cpl == 0 and long_mode(b) == 0:
        return _to_virtual_8086(b)
    rpl = selector & SELECTOR_RPL
    switch = rpl > cpl or (interrupt and in_64_bit)
    if switch:
        how = frame(b, size, items + 2, released)
        if how != READY:
            return how
    d = named(b, selector)
    if d == 0 or _refused_code(b, selector, d, cpl) or refused_target(b, d, target):
        return READY
    wide = is_64_bit(b, d)
    mask = stack_mask(b)
    sp, sd = ld64(env + _RSP) + items * size, 0
    ss = 0
    if switch:
        sp, ss = item(b, items), item(b, items + 1) & 0xFFFF
        sd = _stack(b, ss, rpl, wide)
        if sd == -1:
            return READY
        mask = -1 if wide else (0xFFFFFFFF if is_big(sd) else 0xFFFF)
    mark_accessed(b, selector, d)
    if sd:
        mark_accessed(b, ss, sd)
    if ld64(b + _N_VECTOR) >= 0:
        return refuse_nested(b)
    load_code(b, selector, d)
    if sd:
        load_stack(b, ss, sd)
    elif switch:
        set_segment(b, _SS, ss, 0, 0, rpl << 13)
    if mask == 0xFFFF:
        st64(env + _RSP, (ld64(env + _RSP) & ~0xFFFF) | ((sp + released) & 0xFFFF))
    else:
        st64(env + _RSP, (sp + released) & mask)
    if rpl > cpl:
        _null_what_is_too_privileged(b, rpl)
    st64(env + _EIP, target)
    if interrupt:
        _load_flags(b, image, size, cpl, cpl == 0)
    sync_hflags(b)
    return READY


@kernel
def far_return(b, shift, released):  # type: ignore[no-untyped-def]
    """RET to another code segment."""
    return _return(b, 2 << shift, 0, released & 0xFFFF)


@kernel
def interrupt_return(b, shift, following):  # type: ignore[no-untyped-def]
    """IRET in protected and long mode."""
    env = ld64(b + _ENV)
    if ld64(env + _EFLAGS) & _NT == 0:
        return _return(b, 2 << shift, 1, 0)
    if long_mode(b):
        return refuse(b, GP, 0)
    clear(b)
    link = read_bytes(b, ld64(env + _TR_BASE), 2)
    if ld64(b + _N_VECTOR) >= 0:
        return refuse_nested(b)
    return switch_task(b, link, _RETURNED, following)


@kernel
def real_interrupt_return(b, shift):  # type: ignore[no-untyped-def]
    """IRET in real mode, and in virtual-8086 mode with IOPL 3."""
    how = frame(b, 2 << shift, 3, 0)
    if how != READY:
        return how
    env = ld64(b + _ENV)
    target, selector = item(b, 0), item(b, 1) & 0xFFFF
    if target > ld32(env + _CS + _LIMIT):
        return refuse(b, GP, 0)
    mask = stack_mask(b)
    sp = ld64(env + _RSP)
    st64(env + _RSP, (sp & ~mask) | ((sp + 3 * (2 << shift)) & mask))
    st32(env + _CS, selector)
    st64(env + _CS + _BASE, selector << 4)
    st64(env + _EIP, target)
    virtual = ld64(env + _EFLAGS) & _VM
    return _load_flags(b, item(b, 2), 2 << shift, 3 if virtual else 0, 0 if virtual else 1)
