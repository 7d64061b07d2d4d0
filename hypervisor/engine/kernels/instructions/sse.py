"""SSE floating-point exceptions that are not masked: #XM, or #UD without CR4.OSXMMEXCPT (APM volume 1, 4.10)."""

from __future__ import annotations

from hypervisor.arch.flags import CR4_OSXMMEXCPT
from hypervisor.arch.vectors import UD, XF
from hypervisor.engine import block as b_
from hypervisor.engine import layout as l_
from hypervisor.engine.jit import call4, kernel, ld32, ld64, st32

_MXCSR, _CR4, _F_RAISE = l_.MXCSR, l_.CR4, b_.F_RAISE
_OSXMMEXCPT, _SIMD, _UNDEFINED = CR4_OSXMMEXCPT, XF, UD
_BEFORE = 0x07  # met before anything is computed: invalid, denormal, zero divide


@kernel
def exception(b, env, flags, place):  # type: ignore[no-untyped-def]
    """Raise it, at the instruction that generated code has come to at ``place``; ``flags`` are all that it met.

    If one of those that are met before computing is not masked, nothing was computed that could meet others.
    """
    mxcsr = ld32(env + _MXCSR)
    if flags & ~(mxcsr >> 7) & _BEFORE:
        flags &= _BEFORE
    st32(env + _MXCSR, mxcsr | flags)
    vector = _SIMD if ld64(env + _CR4) & _OSXMMEXCPT else _UNDEFINED
    return call4(ld64(b + _F_RAISE), env, vector, 0, place)


__all__ = ["exception"]
