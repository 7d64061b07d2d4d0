"""Segment descriptors, and the segment registers' hidden parts (AMD64 APM volume 2, 4.7 and 4.8)."""

from __future__ import annotations

from hypervisor.arch.segments import SELECTOR, SELECTOR_INDEX, SELECTOR_TI
from hypervisor.engine import block as b_
from hypervisor.engine import layout as l_
from hypervisor.engine.jit import kernel, ld32, ld64, st32, st64
from hypervisor.engine.kernels.by_pointer import read_bytes, write_bytes
from hypervisor.engine.kernels.memory.page_walk import IMPLICIT

_ENV = b_.ENV
_GDT_BASE, _GDT_LIMIT = l_.GDT + l_.SEG_BASE, l_.GDT + l_.SEG_LIMIT
_LDT_BASE, _LDT_LIMIT, _LDT = l_.LDT + l_.SEG_BASE, l_.LDT + l_.SEG_LIMIT, l_.LDT
_CS, _SS = l_.SEGS + l_.SEG_SIZE * l_.CS, l_.SEGS + l_.SEG_SIZE * l_.SS
_BASE, _LIMIT, _FLAGS, _ACCESSED, _GRANULARITY = l_.SEG_BASE, l_.SEG_LIMIT, l_.SEG_FLAGS, l_.SEG_ACCESSED, 55


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
    if selector & SELECTOR_TI:
        base, limit = ld64(env + _LDT_BASE), ld32(env + _LDT_LIMIT)
    else:
        base, limit = ld64(env + _GDT_BASE), ld32(env + _GDT_LIMIT)
    if (selector & SELECTOR_INDEX) + 7 > limit:
        return 0
    return read_bytes(b, base + (selector & SELECTOR_INDEX), 8)


@kernel
def within_table(b, selector):  # type: ignore[no-untyped-def]
    """Whether a selector's descriptor lies within its table's limit."""
    env = ld64(b + _ENV)
    limit = ld32(env + _LDT_LIMIT) if selector & SELECTOR_TI else ld32(env + _GDT_LIMIT)
    if selector & SELECTOR_TI and ld32(env + _LDT) & SELECTOR == 0:
        return False
    return (selector & SELECTOR_INDEX) + 7 <= limit


@kernel
def high_word(d):  # type: ignore[no-untyped-def]
    """A descriptor's high word, which a segment register keeps."""
    return (d >> 32) & 0xFFFFFFFF


@kernel
def type_of(d):  # type: ignore[no-untyped-def]
    """S and type of a descriptor."""
    return (d >> 40) & 0x1F


@kernel
def is_code(d):  # type: ignore[no-untyped-def]
    """Whether a descriptor is a code segment's."""
    return (d >> 43) & 3 == 3


@kernel
def is_conforming(d):  # type: ignore[no-untyped-def]
    """Whether a code segment runs at its caller's privilege."""
    return (d >> 42) & 1


@kernel
def is_system(d):  # type: ignore[no-untyped-def]
    """Whether S is clear: neither code nor data."""
    return (d >> 44) & 1 == 0


@kernel
def is_readable(d):  # type: ignore[no-untyped-def]
    """Whether data, or code, may be read."""
    return (d >> 43) & 1 == 0 or (d >> 41) & 1 == 1


@kernel
def is_writable_data(d):  # type: ignore[no-untyped-def]
    """Whether a descriptor is a data segment's that can be a stack."""
    return (d >> 43) & 3 == 2 and (d >> 41) & 1 == 1


@kernel
def dpl_of(d):  # type: ignore[no-untyped-def]
    """A descriptor's privilege level."""
    return (d >> 45) & 3


@kernel
def is_present(d):  # type: ignore[no-untyped-def]
    """P of a descriptor."""
    return (d >> 47) & 1


@kernel
def is_long(d):  # type: ignore[no-untyped-def]
    """L of a code segment's descriptor."""
    return (d >> 53) & 1


@kernel
def is_big(d):  # type: ignore[no-untyped-def]
    """D/B of a descriptor."""
    return (d >> 54) & 1


@kernel
def descriptor_base(d):  # type: ignore[no-untyped-def]
    """Base of a legacy descriptor."""
    return ((d >> 16) & 0xFFFFFF) | ((d >> 32) & 0xFF000000)


@kernel
def descriptor_limit(d):  # type: ignore[no-untyped-def]
    """Limit of a legacy descriptor in bytes, granularity applied."""
    limit = (d & 0xFFFF) | ((d >> 32) & 0xF0000)
    if (d >> _GRANULARITY) & 1:
        limit = (limit << 12) | 0xFFF
    return limit


@kernel
def load_code(b, selector, d):  # type: ignore[no-untyped-def]
    """Load CS from a descriptor."""
    flags = high_word(d) | _ACCESSED
    return set_segment(b, _CS, selector, descriptor_base(d), descriptor_limit(d), flags)


@kernel
def load_stack(b, selector, d):  # type: ignore[no-untyped-def]
    """Load SS from a descriptor, and with it the privilege level."""
    flags = high_word(d) | _ACCESSED
    return set_segment(b, _SS, selector, descriptor_base(d), descriptor_limit(d), flags)


@kernel
def mark_accessed(b, selector, d):  # type: ignore[no-untyped-def]
    """Set the accessed bit of a code or data descriptor in memory, as loading it does."""
    if high_word(d) & _ACCESSED == 0:
        env = ld64(b + _ENV)
        base = ld64(env + _LDT_BASE) if selector & SELECTOR_TI else ld64(env + _GDT_BASE)
        at = base + (selector & SELECTOR_INDEX) + 5
        write_bytes(b, at, 1, ((d >> 40) & 0xFF) | 1, IMPLICIT)
    return 0


@kernel
def canonical(va):  # type: ignore[no-untyped-def]
    """Whether bits 63:47 of an address are the same."""
    return (va >> 47) == 0 or (va >> 47) == -1
