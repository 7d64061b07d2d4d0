"""An exit goes to Python: with its operands, and remembered with what it is about to write."""

from __future__ import annotations

from hypervisor.arch.exits import ExitKind as K
from hypervisor.engine import block as b_
from hypervisor.engine import layout as l_
from hypervisor.engine.jit import kernel, ld64, st64
from hypervisor.engine.kernels.stopping.reporting import count, ring, stop
from hypervisor.engine.kernels.stopping.rest_of_block import keep_rest

_ENV, _REGS, _RAX, _RDX = b_.ENV, l_.REGS, l_.RAX, l_.RDX
_X_INFO, _D_RM = b_.X_INFO, b_.D_RM
_WITHIN_BLOCKS = sum(
    1 << kind
    for kind in (
        K.RDTSC, K.RDTSCP, K.CR_READ, K.SMSW, K.LGDT, K.LIDT, K.LLDT, K.LTR, K.SGDT, K.SIDT, K.SLDT, K.STR, K.PUSHF,
        K.POPF, K.IRET, K.INVD, K.WBINVD,
    )
)  # fmt: skip
"""Kinds of exits that are none while nobody listens: the instruction is carried out inside its block."""
_WRMSR, _INVLPG, _CR_WRITE, _DR_WRITE, _CR_READ = (
    int(K.WRMSR), int(K.INVLPG), int(K.CR_WRITE), int(K.DR_WRITE), int(K.CR_READ),
)  # fmt: skip


@kernel
def _written(b, kind, otherwise):  # type: ignore[no-untyped-def]
    """What an instruction is about to write into a control, debug or model-specific register."""
    env = ld64(b + _ENV)
    if kind == _WRMSR:
        return (ld64(env + _RDX) & 0xFFFFFFFF) << 32 | (ld64(env + _RAX) & 0xFFFFFFFF)
    if kind == _CR_WRITE or kind == _DR_WRITE:
        return ld64(env + _REGS + 8 * (ld64(b + _D_RM) & 15))
    return otherwise


@kernel
def tell(b, kind, first, second):  # type: ignore[no-untyped-def]
    """`report` an exit that has been counted already."""
    st64(b + _X_INFO, first)
    st64(b + _X_INFO + 8, second)
    if kind == _INVLPG:
        ring(b, kind, 0, first)
    else:
        ring(b, kind, first, _written(b, kind, second))
    return stop(b, kind, 1)


@kernel
def report(b, kind, first, second):  # type: ignore[no-untyped-def]
    """Leave the guest before the instruction, which is an exit of this kind."""
    if _WITHIN_BLOCKS >> kind & 1 and (kind != _CR_READ or first != 8):
        keep_rest(b)
    count(b, kind)
    return tell(b, kind, first, second)


__all__ = ["report", "tell"]
