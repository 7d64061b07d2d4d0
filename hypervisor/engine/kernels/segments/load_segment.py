"""MOV and POP to a segment register, LDS, LES, LFS, LGS and LSS in protected mode (AMD64 APM volume 2, 4.8 to 4.10);
what LLDT does not look at.
"""

from __future__ import annotations

from hypervisor.arch.segments import SELECTOR, SELECTOR_RPL
from hypervisor.arch.vectors import GP, NP
from hypervisor.arch.vectors import SS as SS_FAULT
from hypervisor.engine import block as b_
from hypervisor.engine import layout as l_
from hypervisor.engine.jit import kernel, ld32, ld64, st32
from hypervisor.engine.kernels.memory.access import sync_hflags
from hypervisor.engine.kernels.memory.supervisor import clear
from hypervisor.engine.kernels.segments.descriptors import (
    descriptor,
    descriptor_base,
    descriptor_limit,
    dpl_of,
    high_word,
    is_code,
    is_conforming,
    is_present,
    is_readable,
    is_system,
    is_writable_data,
    mark_accessed,
    set_segment,
    within_table,
)
from hypervisor.engine.kernels.stopping.in_place import refuse, refuse_nested

_ENV, _HFLAGS, _N_VECTOR = b_.ENV, l_.HFLAGS, b_.N_VECTOR
_SEGS, _SIZE, _FLAGS, _SS, _FS = l_.SEGS, l_.SEG_SIZE, l_.SEG_FLAGS, l_.SS, l_.FS
_CPL = l_.HF_CPL
_CS64, _LMA, _PRESENT, _GDT_LIMIT = l_.HF_CS64, l_.HF_LMA, 1 << 15, l_.GDT + l_.SEG_LIMIT


@kernel
def make_null(b, register, selector, long):  # type: ignore[no-untyped-def]
    """Load a data segment register with a null selector. In long mode FS and GS keep their bases (APM 2, 4.5.3)."""
    env = ld64(b + _ENV)
    at = _SEGS + _SIZE * register
    if long and register >= _FS:
        st32(env + at, selector)
        st32(env + at + _FLAGS, ld32(env + at + _FLAGS) & ~_PRESENT)
        return 0
    return set_segment(b, at, selector, 0, 0, 0)


@kernel
def _check(register, selector, d, cpl):  # type: ignore[no-untyped-def]
    """The exception that a descriptor deserves, or 0."""
    rpl, dpl = selector & SELECTOR_RPL, dpl_of(d)
    if is_system(d):
        return GP
    if register == _SS:
        if not is_writable_data(d) or rpl != cpl or dpl != cpl:
            return GP
    elif not is_readable(d):  # execute-only code
        return GP
    elif not (is_code(d) and is_conforming(d)) and (dpl < cpl or dpl < rpl):  # conforming code may be read by everybody
        return GP
    if is_present(d) == 0:
        return SS_FAULT if register == _SS else NP
    return 0


@kernel
def load_segment(b, register, selector):  # type: ignore[no-untyped-def]
    """Load a data segment register."""
    selector &= 0xFFFF
    hflags = ld32(ld64(b + _ENV) + _HFLAGS)
    cpl = hflags & _CPL
    at = _SEGS + _SIZE * register
    if selector & SELECTOR == 0:
        if register != _SS:
            make_null(b, register, selector, hflags & _CS64)
        elif hflags & _CS64 == 0 or cpl == 3:
            return refuse(b, GP, 0)
        else:
            set_segment(b, at, selector, 0, 0, cpl << 13)
    else:
        if not within_table(b, selector):
            return refuse(b, GP, selector & SELECTOR)
        clear(b)
        d = descriptor(b, selector)
        if ld64(b + _N_VECTOR) >= 0:
            return refuse_nested(b)
        vector = _check(register, selector, d, cpl)
        if vector:
            return refuse(b, vector, selector & SELECTOR)
        mark_accessed(b, selector, d)
        if ld64(b + _N_VECTOR) >= 0:
            return refuse_nested(b)
        flags = high_word(d) | l_.SEG_ACCESSED
        set_segment(b, at, selector, descriptor_base(d), descriptor_limit(d), flags)
    if register < _FS:
        sync_hflags(b)
    return 0
