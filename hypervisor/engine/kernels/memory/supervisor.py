"""Accesses that the CPU makes by itself through the guest's page tables: to descriptors, the TSS, and event stacks.

A fault sets N_VECTOR (and N_ERROR, N_ADDRESS); the caller looks after a group of accesses. After a fault nothing more
is read or written until `clear`.
"""

from __future__ import annotations

from hypervisor.engine import block as b_
from hypervisor.engine import layout as l_
from hypervisor.engine.jit import kernel, ld8, ld16, ld32, ld64, s64, st8, st16, st32, st64
from hypervisor.engine.kernels.by_pointer import translate
from hypervisor.engine.kernels.memory.access import generation_at, host_address, own_address
from hypervisor.engine.kernels.memory.lookaside import find, keep
from hypervisor.engine.kernels.memory.notes import written
from hypervisor.engine.kernels.memory.page_walk import IMPLICIT, PEEK

_ENV, _HFLAGS, _LMA = b_.ENV, l_.HFLAGS, l_.HF_LMA
_W_VECTOR, _W_ERROR = b_.W_VECTOR, b_.W_ERROR
_N_VECTOR, _N_ERROR, _N_ADDRESS = b_.N_VECTOR, b_.N_ERROR, b_.N_ADDRESS
_RAM = b_.RAM


@kernel
def nested(b, vector, error):  # type: ignore[no-untyped-def]
    """Record a fault met while delivering an event; the first one counts."""
    if ld64(b + _N_VECTOR) < 0:
        st64(b + _N_VECTOR, vector)
        st64(b + _N_ERROR, error)
        st64(b + _N_ADDRESS, 0)
    return 0


@kernel
def clear(b):  # type: ignore[no-untyped-def]
    """Forget the recorded fault."""
    st64(b + _N_VECTOR, -1)
    return 0


@kernel
def _resolve(b, va, access, how):  # type: ignore[no-untyped-def]
    if ld64(b + _N_VECTOR) >= 0:
        return -1
    gpa = translate(b, va, access, how)
    if ld64(b + _W_VECTOR) >= 0:
        st64(b + _N_VECTOR, ld64(b + _W_VECTOR))
        st64(b + _N_ERROR, ld64(b + _W_ERROR))
        st64(b + _N_ADDRESS, va)
        return -1
    return gpa


@kernel
def _wrap(b, va):  # type: ignore[no-untyped-def]
    if ld32(ld64(b + _ENV) + _HFLAGS) & _LMA:
        return va
    return va & 0xFFFFFFFF


@kernel
def both_pages(b, va, access, how):  # type: ignore[no-untyped-def]
    """Look at both pages of an access that crosses a border, before the first gets its accessed bit."""
    _resolve(b, va, access, how | PEEK)
    _resolve(b, _wrap(b, (va & ~0xFFF) + 4096), access, how | PEEK)
    return 0


@kernel
def read_bytes(b, va, size):  # type: ignore[no-untyped-def]
    """Read 1, 2, 4, 6 or 8 bytes, little-endian, zero-extended; all ones from where there is no memory."""
    va = _wrap(b, va)
    if (va & 0xFFF) + size <= 4096:
        if ld64(b + _N_VECTOR) >= 0:
            return 0
        delta = find(b, va, 0, IMPLICIT)
        where = va + delta
        if delta == 0:
            gpa = _resolve(b, va, 0, IMPLICIT)
            if ld64(b + _N_VECTOR) >= 0:
                return 0
            where = host_address(b, gpa)
            if where == 0:
                return -1 if size == 8 else (1 << (8 * size)) - 1
            keep(b, va, 0, IMPLICIT, where - va)
        if size == 8:
            return ld64(where)
        if size == 4:
            return ld32(where)
        if size == 6:
            return ld32(where) | ld16(where + 4) << 32
        if size == 2:
            return ld16(where)
        return ld8(where)
    both_pages(b, va, 0, IMPLICIT)
    value = 0
    for i in range(size):
        gpa = _resolve(b, _wrap(b, va + i), 0, IMPLICIT)
        if ld64(b + _N_VECTOR) >= 0:
            return 0
        where = host_address(b, gpa)
        value |= (ld8(where) if where else 0xFF) << (8 * i)
    return s64(value)


@kernel
def _store(b, gpa, size, value):  # type: ignore[no-untyped-def]
    where = own_address(b, gpa)
    if where == 0:
        return 0
    if size == 8:
        st64(where, value)
    elif size == 4:
        st32(where, value)
    elif size == 2:
        st16(where, value)
    else:
        st8(where, value)
    return written(b, where - ld64(b + _RAM), size)


@kernel
def write_bytes(b, va, size, value, how):  # type: ignore[no-untyped-def]
    """Write 1, 2, 4 or 8 bytes, little-endian, accessing the page as ``how`` says (see `page_walk.walk`)."""
    va = _wrap(b, va)
    if (va & 0xFFF) + size <= 4096:
        gpa = _resolve(b, va, 1, how)
        if ld64(b + _N_VECTOR) >= 0:
            return 0
        return _store(b, gpa, size, value)
    both_pages(b, va, 1, how)
    for i in range(size):
        gpa = _resolve(b, _wrap(b, va + i), 1, how)
        if ld64(b + _N_VECTOR) >= 0:
            return 0
        _store(b, gpa, 1, (value >> (8 * i)) & 0xFF)
    return 0


@kernel
def direct(b, va, size, how):  # type: ignore[no-untyped-def]
    """What to add to a linear address to store ``size`` bytes at ``va`` without further checks; 0 where that cannot be.

    It cannot where the bytes lie in two pages, or not in plain memory without translated code, or where the access
    faults.
    """
    if (va & 0xFFF) + size > 4096:
        return 0
    delta = find(b, va, 1, how)
    if delta:
        return delta
    gpa = translate(b, va, 1, how)
    if ld64(b + _W_VECTOR) >= 0:
        return 0
    where = own_address(b, gpa)
    if where == 0 or ld64(generation_at(b, (where - ld64(b + _RAM)) & ~0xFFF)) & 1:
        return 0
    return keep(b, va, 1, how, where - va)
