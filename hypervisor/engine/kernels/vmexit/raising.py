"""What the guest gets: an event, an exception, or the instruction at RIP done."""

from __future__ import annotations

from hypervisor.arch.exits import ExitKind as K
from hypervisor.arch.flags import DR6_BS, RFLAGS_RF, RFLAGS_TF
from hypervisor.arch.vectors import DB, PF
from hypervisor.engine import block as b_
from hypervisor.engine import layout as l_
from hypervisor.engine.jit import kernel, ld32, ld64, st32, st64
from hypervisor.engine.kernels.by_pointer import deliver
from hypervisor.engine.kernels.memory.access import linear_rip
from hypervisor.engine.kernels.stopping.reporting import count, ring, stop
from hypervisor.engine.kernels.stopping.rest_of_block import forget_rest, passed
from hypervisor.engine.kernels.vmexit.events import EXCEPTION, SHUTDOWN, TASK_GATE

_ENV, _NOW, _X_INFO, _LISTEN_EXCEPTIONS = b_.ENV, b_.NOW, b_.X_INFO, b_.LISTEN_EXCEPTIONS
_EIP, _HFLAGS, _EFLAGS, _CR2, _DR6 = l_.EIP, l_.HFLAGS, l_.EFLAGS, l_.CR2, l_.DR6
_CS64, _SHADOW = l_.HF_CS64, l_.HF_INHIBIT_IRQ
_EXCEPTION, _SHUTDOWN, _TASK_GATE = int(K.EXCEPTION), int(K.SHUTDOWN), int(K.TASK_GATE)


@kernel
def raise_event(b, vector, error, kind, rip, inside):  # type: ignore[no-untyped-def]
    """Deliver an event, and stop where delivery does not end in the guest's handler."""
    forget_rest(b)
    address = ld64(ld64(b + _ENV) + _CR2) if vector == PF else 0
    ring(b, _EXCEPTION, vector | (error & 0xFFFF) << 8 | kind << 24, address)
    result = deliver(b, vector, error, kind, rip, inside)
    if result == SHUTDOWN:
        count(b, _SHUTDOWN)
        stop(b, _SHUTDOWN, inside)
    elif result == TASK_GATE:
        stop(b, _TASK_GATE, inside)
    return 0


@kernel
def raise_exception(b, vector, error, inside):  # type: ignore[no-untyped-def]
    """An exception of the guest at RIP: to the handler that listens, else to the guest."""
    count(b, _EXCEPTION)
    if vector < 32 and (ld64(b + _LISTEN_EXCEPTIONS) >> vector) & 1:
        st64(b + _X_INFO, vector)
        st64(b + _X_INFO + 8, error)
        st64(b + _X_INFO + 16, ld64(ld64(b + _ENV) + _CR2))
        st64(b + _X_INFO + 32, EXCEPTION)
        stop(b, _EXCEPTION, inside)
        return 0
    return raise_event(b, vector, error, EXCEPTION, ld64(ld64(b + _ENV) + _EIP), inside)


@kernel
def complete(b, length, inside):  # type: ignore[no-untyped-def]
    """The instruction at RIP has been carried out: advance, end RF and the interrupt shadow, trap if stepping."""
    env = ld64(b + _ENV)
    hflags = ld32(env + _HFLAGS)
    passed(b, linear_rip(b), length)
    rip = ld64(env + _EIP) + length
    if hflags & _CS64 == 0:
        rip &= 0xFFFFFFFF
    st64(env + _EIP, rip)
    st32(env + _HFLAGS, hflags & ~_SHADOW)
    flags = ld64(env + _EFLAGS)
    st64(env + _EFLAGS, flags & ~RFLAGS_RF)
    st64(b + _NOW, ld64(b + _NOW) + length)
    if flags & RFLAGS_TF:
        st64(env + _DR6, ld64(env + _DR6) | DR6_BS)
        raise_exception(b, DB, 0, inside)
    return 0


__all__ = ["complete", "raise_event", "raise_exception"]
