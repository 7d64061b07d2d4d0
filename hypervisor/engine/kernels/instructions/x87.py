"""x87 instructions that the fast way of `x87_code` does not take: the guest's whole x87 state goes to the host's unit.

There the one instruction is executed, with the guest's own masks, and the state comes back: stack faults, exceptions,
masked and not, and special operands are what the processor makes of them. The image is FNSAVE's in 32-bit form: seven
words, then the registers from ST(0) on, 10 bytes each. It goes without exception flags, so what comes back is new.
"""

from __future__ import annotations

from hypervisor.engine import block as b_
from hypervisor.engine import layout as l_
from hypervisor.engine.floating_point.x87_code import instruction
from hypervisor.engine.floating_point.x87_parts import (
    CHECK,
    DOUBLE,
    FROM_SOURCE,
    INTEGER,
    MOVE,
    NE,
    PUSH,
    SINGLE,
    STORE,
    TRIAL,
    ZERO,
)
from hypervisor.engine.jit import call3, call4, kernel, ld8, ld16, ld32, ld64, st8, st16, st32, st64
from hypervisor.engine.kernels.by_pointer import decode
from hypervisor.engine.kernels.stopping.in_place import restore
from hypervisor.engine.kernels.stopping.leaving import look_again
from hypervisor.engine.kernels.stopping.reporting import settle
from hypervisor.engine.kernels.vmexit.exiting_instruction import unreadable
from hypervisor.engine.kernels.vmexit.raising import complete

_FPUS, _FPUC, _FPSTT, _TAGS, _REGS, _CC_SRC = l_.FPUS, l_.FPUC, l_.FPSTT, l_.FPTAGS, l_.FPREGS, l_.CC_SRC
_RAW, _SOURCE, _CR0, _NE = l_.X87_RAW, l_.X87_SOURCE, l_.CR, NE
_IMAGE, _F_X87 = b_.X87_IMAGE, b_.F_X87
_CONDITIONS, _C1, _FLAGS, _MASKS = 0x4700, 0x200, 0x7F, 0x3F
_COMPARED = 0x45  # ZF, PF and CF
_KIND, _FROM_SOURCE, _STORE, _PUSH, _MOVE, _CHECK, _TRIAL = 0xFF0000, FROM_SOURCE, STORE, PUSH, MOVE, CHECK, TRIAL
_SINGLE, _DOUBLE, _INTEGER, _ZERO = SINGLE, DOUBLE, INTEGER, ZERO
_D_OPCODE, _F_RAISE, _FLOATING_POINT = b_.D_OPCODE, b_.F_RAISE, 16
_BEFORE, _UNSTORED = 0x07, 0x19  # exceptions that, not masked, keep an instruction from computing; from storing
_FCOMI, _FUCOMI = instruction(0xDB, 0xF0), instruction(0xDB, 0xE8)
_SHORT, _LONG, _WHOLE = (instruction(opcode, 6) for opcode in (0xD8, 0xDC, 0xDA))
_FTST, _BY_REGISTER = instruction(0xD9, 0xE4), instruction(0xD8, 0xC0)


@kernel
def pending(env):  # type: ignore[no-untyped-def]
    """Exceptions that have been met and are not masked."""
    return ld16(env + _FPUS) & ~ld16(env + _FPUC) & _MASKS


@kernel
def _put(b, env):  # type: ignore[no-untyped-def]
    image = b + _IMAGE
    top = ld32(env + _FPSTT) & 7
    tags = 0
    for n in range(8):
        if ld8(env + _TAGS + n):
            tags |= 3 << (2 * n)
        at = env + _REGS + 16 * ((top + n) & 7)
        st64(image + 28 + 10 * n, ld64(at))
        st16(image + 36 + 10 * n, ld16(at + 8))
    st64(image, ld16(env + _FPUC) | ((ld16(env + _FPUS) & _CONDITIONS) | top << 11) << 32)
    st64(image + 8, tags)
    st64(image + 16, 0)
    st32(image + 24, 0)
    return 0


@kernel
def _take(b, env):  # type: ignore[no-untyped-def]
    image = b + _IMAGE
    top = ld16(image + 4) >> 11 & 7
    tags = ld16(image + 8)
    st32(env + _FPSTT, top)
    for n in range(8):
        st8(env + _TAGS + n, 1 if tags >> (2 * n) & 3 == 3 else 0)
        at = env + _REGS + 16 * ((top + n) & 7)
        st64(at, ld64(image + 28 + 10 * n))
        st16(at + 8, ld16(image + 36 + 10 * n))
    return 0


@kernel
def _number(opcode, modrm):  # type: ignore[no-untyped-def]
    """`x87_code.instruction`."""
    return (opcode & 7) * 72 + (8 + (modrm & 63) if modrm >= 0xC0 else modrm >> 3 & 7)


@kernel
def _chosen(env, what):  # type: ignore[no-untyped-def]
    """The number of an instruction, which with `FROM_SOURCE` depends on where its second operand came from."""
    opcode, modrm = what >> 8 & 0xFF, what & 0xFF
    if what & _KIND != _FROM_SOURCE:
        return _number(opcode, modrm)
    source = ld8(env + _SOURCE)
    if opcode:
        return _number(opcode, modrm | (source & 7))
    operation = modrm >> 3 & 7
    if source == _SINGLE:
        return _SHORT + operation
    if source == _DOUBLE:
        return _LONG + operation
    if source == _INTEGER:
        return _WHOLE + operation
    if source == _ZERO:
        return _FTST
    return _BY_REGISTER + 8 * operation + (source & 7)


@kernel
def execute(b, env, what, keep):  # type: ignore[no-untyped-def]
    """Execute an instruction; the exceptions that it met. ``keep``: 1 leaves the registers and the stack alone, 2 the
    status word, too, unless an exception is not masked that keeps the instruction from storing.
    """
    number = _chosen(env, what)
    _put(b, env)
    flags = call3(ld64(b + _F_X87), b + _IMAGE, env + _RAW, number)
    status = ld16(b + _IMAGE + 4)
    unmasked = status & ~ld16(env + _FPUC)
    conditions = status & _CONDITIONS
    if unmasked & _BEFORE:
        conditions = (status & _C1) | (ld16(env + _FPUS) & _CONDITIONS & ~_C1)
    if keep == 0:
        _take(b, env)
    if keep < 2 or unmasked & _UNSTORED:
        st16(env + _FPUS, conditions | ((ld16(env + _FPUS) | status) & _FLAGS))
    if (number - _FCOMI & ~7 == 0 or number - _FUCOMI & ~7 == 0) and unmasked & 1 == 0:
        st64(env + _CC_SRC, flags & _COMPARED)
    return status & _MASKS


@kernel
def _step_over(b, env, kind, place):  # type: ignore[no-untyped-def]
    """Go on behind the instruction that generated code has come to at ``place``: its other helpers are not called."""
    restore(b, place)
    settle(b)
    length = decode(b)
    if length == 0:
        unreadable(b)
    else:
        if kind == _MOVE and ld64(b + _D_OPCODE) == 0xD9:  # FLD has pushed, and must not have
            top = ld32(env + _FPSTT) & 7
            st8(env + _TAGS + top, 1)
            st32(env + _FPSTT, (top + 1) & 7)
        complete(b, length, 1)
    return look_again(b)


@kernel
def unusual(b, env, what, place):  # type: ignore[no-untyped-def]
    """What `x87_code` calls where the fast way ends; see there for ``what``. Returns what a store stores."""
    if pending(env) and ld64(env + _CR0) & _NE:
        call4(ld64(b + _F_RAISE), env, _FLOATING_POINT, 0, place)
    kind = what & _KIND
    if kind == _CHECK:
        return 0
    stores = kind == _STORE or kind == _TRIAL
    met = execute(b, env, what, 2 if kind == _TRIAL else 1 if stores else 0)
    if kind == _PUSH or met & ~ld16(env + _FPUC) & (_UNSTORED if stores else _BEFORE):
        _step_over(b, env, kind, place)
    return ld64(env + _RAW)


__all__ = ["unusual"]
