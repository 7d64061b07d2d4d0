"""Stacks of inner privilege levels: where the TSS says they are, and pushes onto them (AMD64 APM volume 2, 12.2)."""

from __future__ import annotations

from hypervisor.arch.flags import RFLAGS_AC
from hypervisor.arch.segments import SELECTOR, SELECTOR_RPL
from hypervisor.arch.vectors import SS as SS_FAULT
from hypervisor.arch.vectors import TS
from hypervisor.engine import block as b_
from hypervisor.engine import layout as l_
from hypervisor.engine.jit import kernel, ld32, ld64, st16, st32, st64
from hypervisor.engine.kernels.by_pointer import read_bytes, write_bytes
from hypervisor.engine.kernels.memory.page_walk import AC, USER
from hypervisor.engine.kernels.memory.supervisor import direct, nested
from hypervisor.engine.kernels.segments.descriptors import (
    descriptor,
    dpl_of,
    is_present,
    is_writable_data,
    within_table,
)

_ENV, _EFLAGS, _N_VECTOR = b_.ENV, l_.EFLAGS, b_.N_VECTOR
_TSS32 = 1 << 11  # of the type in FLAGS: not the TSS of the 80286
_CODE, _EXPAND_DOWN, _BIG = l_.SEG_CODE, l_.SEG_EXPAND_DOWN, l_.SEG_BIG
_TR_BASE, _TR_LIMIT, _TR_FLAGS, _TR = l_.TR + l_.SEG_BASE, l_.TR + l_.SEG_LIMIT, l_.TR + l_.SEG_FLAGS, l_.TR


@kernel
def pointer64(b, offset, ext):  # type: ignore[no-untyped-def]
    """The stack pointer at ``offset`` in a 64-bit TSS, or a fault recorded."""
    env = ld64(b + _ENV)
    if offset + 7 > ld32(env + _TR_LIMIT):
        return nested(b, TS, (ld32(env + _TR) & SELECTOR) | ext)
    return read_bytes(b, ld64(env + _TR_BASE) + offset, 8)


@kernel
def pointer(b, dpl, ext):  # type: ignore[no-untyped-def]
    """The stack of an inner privilege level in a legacy TSS, ESP | SS << 32, or a fault recorded."""
    env = ld64(b + _ENV)
    if ld32(env + _TR_FLAGS) & _TSS32:
        if 4 + 8 * dpl + 5 > ld32(env + _TR_LIMIT):
            return nested(b, TS, (ld32(env + _TR) & SELECTOR) | ext)
        return read_bytes(b, ld64(env + _TR_BASE) + 4 + 8 * dpl, 6)
    if 2 + 4 * dpl + 3 > ld32(env + _TR_LIMIT):
        return nested(b, TS, (ld32(env + _TR) & SELECTOR) | ext)
    pair = read_bytes(b, ld64(env + _TR_BASE) + 2 + 4 * dpl, 4)
    return (pair & 0xFFFF) | (pair >> 16) << 32


@kernel
def stack_segment(b, ss, dpl, ext):  # type: ignore[no-untyped-def]
    """Check the stack that a TSS names for an inner privilege; its descriptor, or 0 with a fault recorded."""
    error = (ss & SELECTOR) | ext
    if ss & SELECTOR == 0:
        nested(b, TS, ext)
        return 0
    if ss & SELECTOR_RPL != dpl or not within_table(b, ss):
        nested(b, TS, error)
        return 0
    d = descriptor(b, ss)
    if ld64(b + _N_VECTOR) >= 0:
        return 0
    if dpl_of(d) != dpl or not is_writable_data(d):
        nested(b, TS, error)
        return 0
    if is_present(d) == 0:
        nested(b, SS_FAULT, error)
        return 0
    return d


@kernel
def rights(b, cpl):  # type: ignore[no-untyped-def]
    """How the handler's stack is accessed: with the handler's rights, and explicitly, so that AC suspends SMAP."""
    return USER if cpl == 3 else (AC if ld64(ld64(b + _ENV) + _EFLAGS) & RFLAGS_AC else 0)


@kernel
def push(b, base, sp, mask, size, value, how, delta):  # type: ignore[no-untyped-def]
    """Push 2 or 4 bytes on a legacy stack of width ``mask``; the new stack pointer. ``delta`` is `direct`'s answer."""
    sp = (sp - size) & mask
    at = (base + sp) & 0xFFFFFFFF
    if delta == 0:
        write_bytes(b, at, size, value, how)
    elif size == 4:
        st32(at + delta, value)
    else:
        st16(at + delta, value)
    return sp


@kernel
def push64(b, sp, value, how, delta):  # type: ignore[no-untyped-def]
    """Push 8 bytes in long mode."""
    sp -= 8
    if delta == 0:
        write_bytes(b, sp, 8, value, how)
    else:
        st64(sp + delta, value)
    return sp


@kernel
def room(flags, limit, pointer, mask, size, count):  # type: ignore[no-untyped-def]
    """Whether ``count`` pushes of ``size`` bytes from ``pointer`` stay inside a stack segment (APM volume 2, 4.12)."""
    expand_down = flags & (_CODE | _EXPAND_DOWN) == _EXPAND_DOWN
    pointer &= mask
    if expand_down == 0 and pointer >= size * count and pointer - 1 <= limit:
        return True
    last = 0xFFFFFFFF if flags & _BIG else 0xFFFF
    for _ in range(count):
        pointer = (pointer - size) & mask
        if expand_down:
            if pointer <= limit or pointer + size - 1 > last:
                return False
        elif pointer + size - 1 > limit:
            return False
    return True


@kernel
def straight(b, base, top, mask, bytes_, how):  # type: ignore[no-untyped-def]
    """`direct` for the frame below ``top`` on a legacy stack, if it lies in one piece."""
    top &= mask
    low = (base + top - bytes_) & 0xFFFFFFFF
    if top < bytes_ or low + bytes_ > 0xFFFFFFFF:
        return 0
    return direct(b, low, bytes_, how)
