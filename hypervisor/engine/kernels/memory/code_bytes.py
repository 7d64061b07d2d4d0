"""Instructions as bytes: one by one through the guest's page tables, or the first four at RIP at once."""

from __future__ import annotations

from hypervisor.engine import block as b_
from hypervisor.engine import layout as l_
from hypervisor.engine.jit import kernel, ld8, ld32, ld64
from hypervisor.engine.kernels.by_pointer import translate
from hypervisor.engine.kernels.memory.access import host_address, linear_rip
from hypervisor.engine.kernels.memory.lookaside import find, keep
from hypervisor.engine.kernels.memory.page_walk import FETCH, PEEK, USER

_ENV, _HFLAGS, _CPL, _CS64, _W_VECTOR = b_.ENV, l_.HFLAGS, l_.HF_CPL, l_.HF_CS64, b_.W_VECTOR


@kernel
def fetch(b, at, position):  # type: ignore[no-untyped-def]
    """The instruction byte at linear ``at + position``, or -1 where it cannot be fetched."""
    env = ld64(b + _ENV)
    hflags = ld32(env + _HFLAGS)
    va = at + position
    if hflags & _CS64 == 0:
        va &= 0xFFFFFFFF
    gpa = translate(b, va, FETCH, PEEK | (USER if hflags & _CPL == 3 else 0))
    if ld64(b + _W_VECTOR) >= 0:
        return -1
    where = host_address(b, gpa)
    return ld8(where) if where else 0xFF


@kernel
def opcode_bytes(b):  # type: ignore[no-untyped-def]
    """The first four bytes at RIP, low first; -1 where they cannot be read at once."""
    at = linear_rip(b)
    if at & 0xFFF > 0xFFC:
        return -1
    user = USER if ld32(ld64(b + _ENV) + _HFLAGS) & _CPL == 3 else 0
    delta = find(b, at, FETCH, user)
    if delta == 0:
        gpa = translate(b, at, FETCH, PEEK | user)
        if ld64(b + _W_VECTOR) >= 0:
            return -1
        where = host_address(b, gpa)
        if where == 0:
            return -1
        delta = keep(b, at, FETCH, user, where - at)
    return ld32(at + delta)
