"""Segment descriptors, and the segment registers' hidden parts (AMD64 APM volume 2, 4.7 and 4.8)."""

from __future__ import annotations

from hypervisor.engine import block as b_
from hypervisor.engine import layout as l_
from hypervisor.engine.jit import kernel, ld32, ld64, st32, st64
from hypervisor.engine.kernels.by_pointer import read_bytes, write_bytes
from hypervisor.engine.kernels.memory.supervisor import IMPLICIT

_ENV = b_.ENV
_GDT_BASE, _GDT_LIMIT = l_.GDT + l_.SEG_BASE, l_.GDT + l_.SEG_LIMIT
_LDT_BASE, _LDT_LIMIT, _LDT = l_.LDT + l_.SEG_BASE, l_.LDT + l_.SEG_LIMIT, l_.LDT
_CS, _SS = l_.SEGS + l_.SEG_SIZE * l_.CS, l_.SEGS + l_.SEG_SIZE * l_.SS
_BASE, _LIMIT, _FLAGS = l_.SEG_BASE, l_.SEG_LIMIT, l_.SEG_FLAGS


@kernel
def set_segment(b, at, selector, base, limit, flags):  # type: ignore[no-untyped-def]
    """Replace a segment register; ``flags`` is the descriptor's high word."""
    env = ld64(b + _ENV)
    st32(env + at, selector)
    st64(env + at + _BASE, base)
    st32(env + at + _LIMIT, limit)
    st32(env + at + _FLAGS, flags)
    return 0


@kernel
def descriptor(b, selector):  # type: ignore[no-untyped-def]
    """The 8-byte descriptor of a selector; outside its table 0, which has neither S nor P."""
    env = ld64(b + _ENV)
    if selector & 4:
        base, limit = ld64(env + _LDT_BASE), ld32(env + _LDT_LIMIT)
    else:
        base, limit = ld64(env + _GDT_BASE), ld32(env + _GDT_LIMIT)
    if (selector & 0xFFF8) + 7 > limit:
        return 0
    return read_bytes(b, base + (selector & 0xFFF8), 8)


@kernel
def within_table(b, selector):  # type: ignore[no-untyped-def]
    """Whether a selector's descriptor lies within its table's limit."""
    env = ld64(b + _ENV)
    limit = ld32(env + _LDT_LIMIT) if selector & 4 else ld32(env + _GDT_LIMIT)
    if selector & 4 and ld32(env + _LDT) & 0xFFFC == 0:
        return False
    return (selector & 0xFFF8) + 7 <= limit


@kernel
def descriptor_base(d):  # type: ignore[no-untyped-def]
    """Base of a legacy descriptor."""
    return ((d >> 16) & 0xFFFFFF) | ((d >> 32) & 0xFF000000)


@kernel
def descriptor_limit(d):  # type: ignore[no-untyped-def]
    """Limit of a legacy descriptor in bytes, granularity applied."""
    limit = (d & 0xFFFF) | ((d >> 32) & 0xF0000)
    if (d >> 55) & 1:
        limit = (limit << 12) | 0xFFF
    return limit


@kernel
def load_code(b, selector, d):  # type: ignore[no-untyped-def]
    """Load CS from a descriptor."""
    flags = ((d >> 32) & 0xFFFFFFFF) | 0x100
    return set_segment(b, _CS, selector, descriptor_base(d), descriptor_limit(d), flags)


@kernel
def load_stack(b, selector, d):  # type: ignore[no-untyped-def]
    """Load SS from a descriptor, and with it the privilege level."""
    flags = ((d >> 32) & 0xFFFFFFFF) | 0x100
    return set_segment(b, _SS, selector, descriptor_base(d), descriptor_limit(d), flags)


@kernel
def mark_accessed(b, selector, d):  # type: ignore[no-untyped-def]
    """Set the accessed bit of a code or data descriptor in memory, as loading it does."""
    if (d >> 40) & 1 == 0:
        env = ld64(b + _ENV)
        base = ld64(env + _LDT_BASE) if selector & 4 else ld64(env + _GDT_BASE)
        at = base + (selector & 0xFFF8) + 5
        write_bytes(b, at, 1, ((d >> 40) & 0xFF) | 1, IMPLICIT)
    return 0


@kernel
def canonical(va):  # type: ignore[no-untyped-def]
    """Whether bits 63:47 of an address are the same."""
    return (va >> 47) == 0 or (va >> 47) == -1
