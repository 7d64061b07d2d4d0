"""Handlers of the user's that are compiled, and answer without leaving the kernels."""

from __future__ import annotations

from hypervisor.arch.exits import ExitKind as K
from hypervisor.engine import block as b_
from hypervisor.engine.inside import RAISED
from hypervisor.engine.jit import call5, inlined, kernel, ld64, st64
from hypervisor.engine.kernels.stopping.reporting import count, stop
from hypervisor.engine.kernels.vmexit.raising import complete

_ENV, _COMPILED, _X_KIND, _X_INFO = b_.ENV, b_.COMPILED, b_.X_KIND, b_.X_INFO
_RAISED_KIND, _RAISED = int(K.RAISED), RAISED
_ROW, _ROW_STATE, _ROW_NEXT = 24, 8, 16


@inlined
def compiled(b, handler, first, second, value, inside):  # type: ignore[no-untyped-def]
    """The answer of a compiled handler. If it raised, the run ends."""
    at = ld64(b + _COMPILED) + _ROW * handler
    state = ld64(at + _ROW_STATE)
    answer = call5(ld64(at), state, ld64(b + _ENV), first, second, value)
    if ld64(state + _RAISED):
        st64(b + _X_INFO, handler)
        st64(b + _X_INFO + 8, first)
        st64(b + _X_INFO + 16, second)
        st64(b + _X_INFO + 24, value)
        stop(b, _RAISED_KIND, inside)
    return answer


@kernel
def answered(b, kind, handler, first, second):  # type: ignore[no-untyped-def]
    """Whether one of the compiled handlers of a kind of exits has dealt with this one."""
    while handler:
        if compiled(b, handler, first, second, 0, 1) or ld64(b + _X_KIND):
            count(b, kind)
            return True
        handler = ld64(ld64(b + _COMPILED) + _ROW * handler + _ROW_NEXT)
    return False


@kernel
def complete_unless_stopped(b, length):  # type: ignore[no-untyped-def]
    """The end of an instruction that a compiled handler has answered."""
    if ld64(b + _X_KIND):
        return 0
    return complete(b, length, 1)


__all__ = ["answered", "compiled", "complete_unless_stopped"]
