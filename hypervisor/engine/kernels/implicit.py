"""Telling the CPU's own accesses at CPL 3 from the program's.

A TLB fill is not told which privilege it serves. Loading a selector reads a descriptor at supervisor privilege,
whatever the CPL; a far call may write to an inner stack. The program's own accesses by the same instruction stay what
they are.
"""

from __future__ import annotations

from hypervisor.engine import block as b_
from hypervisor.engine import layout as l_
from hypervisor.engine.jit import kernel, ld32, ld64
from hypervisor.engine.kernels.far import decode

_ENV, _HFLAGS, _RSP = b_.ENV, l_.HFLAGS, 32
_SS_BASE = l_.SEGS + l_.SEG_SIZE * l_.SS + l_.SEG_BASE
_GDT, _LDT, _BASE, _LIMIT = l_.GDT, l_.LDT, l_.SEG_BASE, l_.SEG_LIMIT
_D_OPCODE, _D_MODRM, _D_SIZE, _D_EA = b_.D_OPCODE, b_.D_MODRM, b_.D_SIZE, b_.D_EA


@kernel
def _overlaps(first, size, page):  # type: ignore[no-untyped-def]
    return size and (first & ~0xFFF == page or (first + size - 1) & ~0xFFF == page)


@kernel
def _in_table(b, at, page):  # type: ignore[no-untyped-def]
    env = ld64(b + _ENV)
    base = ld64(env + at + _BASE)
    return page + 0xFFF >= base and page <= base + ld32(env + at + _LIMIT)


@kernel
def is_implicit(b, page, error):  # type: ignore[no-untyped-def]
    """Whether an access to ``page`` by the instruction at RIP is the CPU's own; it faults with ``error``.

    An instruction that loads a selector makes few explicit accesses, its operand and its stack; all others are
    implicit.
    """
    if error & 1 == 0 and not (_in_table(b, _GDT, page) or _in_table(b, _LDT, page)):
        return False  # demand paging: not worth a look
    decode(b)
    env = ld64(b + _ENV)
    hflags = ld32(env + _HFLAGS)
    opcode, size = ld64(b + _D_OPCODE), ld64(b + _D_SIZE)
    code64 = hflags & (1 << 15)
    reg = (ld64(b + _D_MODRM) >> 3) & 7
    word = 8 if code64 and size == 4 else size  # PUSH and POP have no 32-bit form in 64-bit mode
    operand, pops, pushes = 0, 0, 0
    if opcode == 0x8E or opcode == 0x0F02 or opcode == 0x0F03 or (opcode == 0x0F00 and reg >= 2):
        operand = 2
    elif opcode & 0xFFFE == 0xC4 or opcode == 0x0FB2 or opcode & 0xFFFE == 0x0FB4 or (opcode == 0xFF and reg == 5):
        operand = 2 + size
    elif opcode == 0xFF and reg == 3:
        operand, pushes = 2 + size, 2 * size
    elif opcode == 0x9A:
        pushes = 2 * size
    elif opcode == 0x07 or opcode == 0x17 or opcode == 0x1F or opcode & 0xFFF7 == 0x0FA1:
        pops = word
    elif opcode == 0xCA or opcode == 0xCB:
        pops = 2 * size
    elif opcode == 0xCF:
        pops = 5 * size if code64 else 3 * size
    elif opcode != 0xEA:
        return False
    if operand and ld64(b + _D_MODRM) < 0xC0 and _overlaps(ld64(b + _D_EA), operand, page):
        return False
    stack = ld64(env + _RSP)
    if code64 == 0:
        stack &= 0xFFFFFFFF if hflags & (1 << 5) else 0xFFFF
        stack = (stack + ld64(env + _SS_BASE)) & 0xFFFFFFFF
    return not (_overlaps(stack, pops, page) or _overlaps(stack - pushes, pushes, page))
