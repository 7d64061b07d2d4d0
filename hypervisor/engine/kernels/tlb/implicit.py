"""Telling the CPU's own accesses at CPL 3 from the program's.

A TLB fill is not told which privilege it serves. LAR, LSL, VERR and VERW read a descriptor at supervisor privilege,
whatever the CPL; their operand is the program's own access. (The other instructions that read descriptors are kernels
of ours, see `kernels.segments.load_segment` and its neighbours, and read them past the TLB.)
"""

from __future__ import annotations

from hypervisor.engine import block as b_
from hypervisor.engine import layout as l_
from hypervisor.engine.jit import kernel, ld32, ld64
from hypervisor.engine.kernels.by_pointer import decode

_ENV, _GDT, _LDT, _BASE, _LIMIT = b_.ENV, l_.GDT, l_.LDT, l_.SEG_BASE, l_.SEG_LIMIT
_D_OPCODE, _D_MODRM, _D_EA = b_.D_OPCODE, b_.D_MODRM, b_.D_EA
_OPERAND = 2


@kernel
def _in_table(b, at, page):  # type: ignore[no-untyped-def]
    env = ld64(b + _ENV)
    base = ld64(env + at + _BASE)
    return page + 0xFFF >= base and page <= base + ld32(env + at + _LIMIT)


@kernel
def is_implicit(b, page):  # type: ignore[no-untyped-def]
    """Whether an access to ``page`` by the instruction at RIP is the CPU's own."""
    if not (_in_table(b, _GDT, page) or _in_table(b, _LDT, page)):
        return False
    decode(b)
    opcode, modrm = ld64(b + _D_OPCODE), ld64(b + _D_MODRM)
    if opcode != 0x0F02 and opcode != 0x0F03 and (opcode != 0x0F00 or (modrm >> 3) & 7 < 4):
        return False
    if modrm >= 0xC0:
        return True
    operand = ld64(b + _D_EA)
    return operand & ~0xFFF != page and (operand + _OPERAND - 1) & ~0xFFF != page
