"""The instruction that left the guest: its length, and what becomes of one that cannot be read."""

from __future__ import annotations

from hypervisor.arch.exits import ExitKind as K
from hypervisor.arch.vectors import UD
from hypervisor.engine import block as b_
from hypervisor.engine import layout as l_
from hypervisor.engine.jit import kernel, ld32, ld64, st64
from hypervisor.engine.kernels.by_pointer import decode, walk
from hypervisor.engine.kernels.memory.access import linear_rip
from hypervisor.engine.kernels.memory.code_bytes import opcode_bytes
from hypervisor.engine.kernels.memory.guest_tlb import flush_all
from hypervisor.engine.kernels.memory.page_walk import FETCH, PEEK, USER
from hypervisor.engine.kernels.vmexit.raising import raise_exception

_ENV, _HFLAGS, _CPL = b_.ENV, l_.HFLAGS, l_.HF_CPL
_NOW, _COSTS, _EXCEPTION = b_.NOW, b_.COSTS, int(K.EXCEPTION)
_W_VECTOR, _D_LENGTH = b_.W_VECTOR, b_.D_LENGTH
_LONGEST_INSTRUCTION = 15
_TWO_BYTE_OPCODE = 0x0F


@kernel
def unreadable(b):  # type: ignore[no-untyped-def]
    """The instruction that left the guest cannot be decoded. It is executed again, or is undefined.

    A guest that changes its page tables without flushing the TLB can run an instruction whose bytes the tables no
    longer lead to. Any processor may forget a translation at any time: forget it, and the fetch faults.
    """
    st64(b + _NOW, ld64(b + _NOW) + ld64(b + _COSTS + 8 * _EXCEPTION))
    how = PEEK | (USER if ld32(ld64(b + _ENV) + _HFLAGS) & _CPL == 3 else 0)
    at = linear_rip(b)
    for position in range(_LONGEST_INSTRUCTION):
        walk(b, at + position, FETCH, how)
        if ld64(b + _W_VECTOR) >= 0:
            flush_all(b)
            return 0
    return raise_exception(b, UD, 0, 1)


@kernel
def length_of(b, usual):  # type: ignore[no-untyped-def]
    """Length of a two-byte-opcode instruction at RIP: ``usual`` unless it has prefixes."""
    if opcode_bytes(b) & 0xFF == _TWO_BYTE_OPCODE:
        st64(b + _D_LENGTH, usual)
        return usual
    return decode(b)


__all__ = ["length_of", "unreadable"]
