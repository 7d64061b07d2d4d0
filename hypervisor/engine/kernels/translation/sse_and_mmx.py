"""SSE and MMX while they are translated: which are refused, and what the translator is told about the others.

Unicorn looks at CR0.TS and at pending x87 exceptions before it knows whether there is such an instruction, prefers 66h
to F2h and F3h, refuses comparison predicates beyond 7, and does not take SSSE3 on MMX registers for MMX.
`media_opcodes` knows, also what memory operands are like (`memory_operand`). AMD64 APM volumes 4
and 5, and volume 1, 5.10; Intel SDM volume 3, 12.2, and volume 2, CMPPS (three bits of a predicate count).
"""

from __future__ import annotations

from hypervisor.engine import block as b_
from hypervisor.engine import layout as l_
from hypervisor.engine.floating_point.media_opcodes import (
    ALIGNED,
    DOUBLE,
    MEMORY,
    MMX,
    OPERAND,
    QUAD,
    REGISTER,
    UNDEFINED,
    WRITES,
    XMM,
)
from hypervisor.engine.floating_point.mmx_code import DONE_SIZE
from hypervisor.engine.jit import call5, kernel, ld8, ld32, ld64, st8, st64
from hypervisor.engine.kernels.translation.memory_operand import BY_16, NARROW, ONE, expect

_UNDEFINED, _XMM, _MMX, _WRITES, _REGISTER, _MEMORY = UNDEFINED, XMM, MMX, WRITES, REGISTER, MEMORY
_ALIGNED, _QUAD, _DOUBLE, _OPERAND = ALIGNED, QUAD, DOUBLE, OPERAND
_HFLAGS, _EM, _TS, _OSFXSR = l_.HFLAGS, l_.HF_EM, l_.HF_TS, l_.HF_OSFXSR
_CPU_UC, _TO_ENV = l_.CPU_UC, l_.CPU_TO_ENV
_TCG, _TCG_ENV = l_.UC_TCG_CONTEXT, l_.TCG_ENV
_ALTERED_AT, _ALTERED, _ENTRIES = b_.ALTERED_AT, b_.ALTERED, b_.MEDIA_OPCODES
_WRITTEN, _ARGUMENTS = b_.MMX_WRITTEN, b_.CALL_ARGUMENTS
_F_CALL, _ENTER_MMX = b_.F_TCG_CALL, b_.F_ENTER_MMX
_F_MMX_READY, _F_MMX_DONE = b_.F_MMX_READY, b_.F_MMX_DONE
_TCG_LAST, _OP_COUNTS, _OP_ARGS = l_.TCG_LAST_OP, l_.OP_COUNTS, l_.OP_ARGS
_NO_REGISTER, _DONE_SIZE = 8, DONE_SIZE

PREDICATE = 0x0FC2
"""The opcode whose constant is one."""


@kernel
def entry_of(b, opcode, mandatory):  # type: ignore[no-untyped-def]
    """What `media_opcodes` knows: 0 nothing. ``opcode`` is 0Fxx, or 38xx or 3Axx; ``mandatory`` the prefix."""
    part = 0
    if mandatory == 0x66:
        part = 1
    elif mandatory:
        part = 2 if mandatory == 0xF3 else 3
    if opcode >> 8 == 0x38:
        part += 4
    elif opcode >> 8 == 0x3A:
        part += 8
    return ld8(ld64(b + _ENTRIES) + (part << 8) + (opcode & 0xFF))


@kernel
def is_none(entry, opcode, mandatory, modrm):  # type: ignore[no-untyped-def]
    """Whether there is no such instruction, or not with such an operand."""
    if entry & _UNDEFINED:
        return True
    if opcode == 0x0F77:
        return False
    if entry & (_MEMORY if modrm >= 0xC0 else _REGISTER):
        return True
    if opcode >= 0x0F71 and opcode <= 0x0F73:
        operation = modrm >> 3 & 7
        if operation & 1 and not (opcode == 0x0F73 and mandatory == 0x66 and operation & 3 == 3):
            return True
        return operation == 0 or (opcode == 0x0F73 and operation == 4)
    return False


@kernel
def is_off(env, entry):  # type: ignore[no-untyped-def]
    """Whether the operating system has not switched it on."""
    hflags = ld32(env + _HFLAGS)
    return hflags & _EM != 0 or (entry & _XMM != 0 and hflags & _OSFXSR == 0)


@kernel
def operand_length(modrm, sib, short):  # type: ignore[no-untyped-def]
    """Bytes of ModRM, SIB and displacement; ``short``: addresses have 16 bits."""
    mod, rm = modrm >> 6, modrm & 7
    if mod == 3:
        return 1
    if short:
        return 1 + (2 if mod == 2 or (mod == 0 and rm == 6) else mod)
    length = 2 if rm == 4 else 1
    if rm == 4:
        rm = sib & 7
    return length + (4 if mod == 2 or (mod == 0 and rm == 5) else mod)


@kernel
def show(b, pc, position, difference):  # type: ignore[no-untyped-def]
    """The translator sees a byte of the instruction at ``pc`` with other bits."""
    if ld64(b + _ALTERED_AT) != pc:
        st64(b + _ALTERED_AT, pc)
        st64(b + _ALTERED, 0)
        st64(b + _ALTERED + 8, 0)
    st8(b + _ALTERED + position, difference)
    return 0


@kernel
def forget(b):  # type: ignore[no-untyped-def]
    """The next instruction is as the translator takes it."""
    st64(b + _ALTERED_AT, 1 << 62)
    return 0


@kernel
def _emit(b, cpu, instead):  # type: ignore[no-untyped-def]
    """Have generated code call ``instead`` with the CPU state, as it would ENTER_MMX."""
    tcg = ld64(ld64(cpu + _CPU_UC) + _TCG)
    st64(b + _ARGUMENTS, tcg + ld64(tcg + _TCG_ENV))
    call5(ld64(b + _F_CALL), tcg, ld64(b + _ENTER_MMX), 0, 1, b + _ARGUMENTS)
    op = ld64(tcg + _TCG_LAST)
    counts = ld8(op + _OP_COUNTS)
    st64(op + _OP_ARGS + 8 * ((counts & 15) + (counts >> 4)), instead)
    return 0


@kernel
def begin(b, cpu, entry, opcode, modrm, mandatory):  # type: ignore[no-untyped-def]
    """The translator is about to translate it; whether `done` is to be called afterwards."""
    memory = modrm < 0xC0
    if memory and entry & _OPERAND:
        what = BY_16
        if entry & _OPERAND == _QUAD:
            what = ONE
        elif entry & _OPERAND == _DOUBLE:
            what = ONE | NARROW
        expect(cpu, what)
    if entry & _MMX == 0 or opcode == 0x0F77 or (opcode == 0x0F2A and mandatory == 0x66 and memory):
        return False
    written = _NO_REGISTER
    if entry & _WRITES:
        written = modrm >> 3 & 7
    elif (opcode >= 0x0F71 and opcode <= 0x0F73) or (opcode == 0x0F7F and not memory):
        written = modrm & 7
    st64(b + _WRITTEN, written)
    if opcode >> 8 != 0x0F and ld32(cpu + _TO_ENV + _HFLAGS) & _TS == 0:  # which Unicorn does for the others
        _emit(b, cpu, ld64(b + _F_MMX_READY))
    return True


@kernel
def done(b, cpu):  # type: ignore[no-untyped-def]
    """It has been translated: behind it the x87 enters MMX mode."""
    return _emit(b, cpu, ld64(b + _F_MMX_DONE) + _DONE_SIZE * ld64(b + _WRITTEN))


__all__ = [
    "PREDICATE", "begin", "done", "entry_of", "forget", "is_none", "is_off", "operand_length", "show",
]  # fmt: skip
