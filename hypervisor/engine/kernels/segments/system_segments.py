"""LLDT and LTR (AMD64 APM volume 2, 4.8.3 and 12.2.4; volume 3)."""

from __future__ import annotations

from hypervisor.arch.segments import SELECTOR, SELECTOR_INDEX, SELECTOR_TI
from hypervisor.arch.vectors import GP, NP
from hypervisor.engine import block as b_
from hypervisor.engine import layout as l_
from hypervisor.engine.costs import SYSTEM_SEGMENT_NS
from hypervisor.engine.jit import kernel, ld32, ld64, s64, st64
from hypervisor.engine.kernels.by_pointer import read_bytes, write_bytes
from hypervisor.engine.kernels.memory.page_walk import IMPLICIT
from hypervisor.engine.kernels.memory.supervisor import clear
from hypervisor.engine.kernels.segments.descriptors import (
    canonical,
    descriptor,
    descriptor_base,
    descriptor_limit,
    high_word,
    is_present,
    set_segment,
    type_of,
)
from hypervisor.engine.kernels.stopping.in_place import refuse, refuse_nested

_ENV, _HFLAGS, _N_VECTOR, _LONG, _NOW = b_.ENV, l_.HFLAGS, b_.N_VECTOR, l_.HF_LMA, b_.NOW
_GDT_BASE, _GDT_LIMIT = l_.GDT + l_.SEG_BASE, l_.GDT + l_.SEG_LIMIT
_LDT, _TR = l_.LDT, l_.TR
_LDT_TYPE, _TSS16, _TSS32, _BUSY = 2, 1, 9, 2


@kernel
def _right_type(task, d, long):  # type: ignore[no-untyped-def]
    """Whether a descriptor is an LDT's, or an available TSS's; a TSS of 16 bits is none in long mode."""
    kind = type_of(d)
    if task:
        return kind == _TSS32 or (kind == _TSS16 and long == 0)
    return kind == _LDT_TYPE


@kernel
def load_system_segment(b, task, selector):  # type: ignore[no-untyped-def]
    """LLDT, or LTR if ``task``."""
    env = ld64(b + _ENV)
    selector &= 0xFFFF
    error = selector & SELECTOR
    st64(b + _NOW, ld64(b + _NOW) + SYSTEM_SEGMENT_NS)
    at = _TR if task else _LDT
    if error == 0:
        if task:
            return refuse(b, GP, 0)
        return set_segment(b, at, selector, 0, 0, 0)
    long = ld32(env + _HFLAGS) & _LONG
    if selector & SELECTOR_TI or (selector & SELECTOR_INDEX) + (15 if long else 7) > ld32(env + _GDT_LIMIT):
        return refuse(b, GP, error)
    clear(b)
    d = descriptor(b, selector)
    high = 0
    where = ld64(env + _GDT_BASE) + (selector & SELECTOR_INDEX)
    if long:
        high = read_bytes(b, where + 8, 8)
    if ld64(b + _N_VECTOR) >= 0:
        return refuse_nested(b)
    if not _right_type(task, d, long):
        return refuse(b, GP, error)
    if is_present(d) == 0:
        return refuse(b, NP, error)
    base = s64(descriptor_base(d) | ((high & 0xFFFFFFFF) << 32))
    if type_of(high) or not canonical(base):
        return refuse(b, GP, error)
    if task:
        write_bytes(b, where + 5, 1, ((d >> 40) & 0xFF) | _BUSY, IMPLICIT)
        if ld64(b + _N_VECTOR) >= 0:
            return refuse_nested(b)
    # The register's copy stays available: the check of the I/O permission map wants that type.
    return set_segment(b, at, selector, base, descriptor_limit(d), high_word(d))
