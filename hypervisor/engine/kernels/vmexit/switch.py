"""Changing the vCPU that is on the pCPU: its state goes to memory, another one's comes in."""

from __future__ import annotations

from hypervisor.arch.exits import INTERCEPT_BIT
from hypervisor.arch.exits import ExitKind as K
from hypervisor.engine import block as b_
from hypervisor.engine import layout as l_
from hypervisor.engine.jit import kernel, ld64, st64
from hypervisor.engine.kernels.memory.access import flush_tlb
from hypervisor.engine.kernels.memory.copying import copy

_ENV, _VCPU, _VCPU_END, _NMI_BLOCKED, _INTERCEPTS, _GUEST_TLB = (
    b_.ENV, b_.VCPU, b_.VCPU_END, b_.NMI_BLOCKED, b_.INTERCEPTS, b_.GUEST_TLB,
)  # fmt: skip
_STATE_SIZE, _INTERCEPT = l_.STATE_SIZE, l_.INTERCEPT
_IRET = 1 << INTERCEPT_BIT[K.IRET]


@kernel
def save(b, state, extra):  # type: ignore[no-untyped-def]
    """Copy the vCPU on the pCPU to ``state`` (`layout.STATE_SIZE` bytes) and ``extra`` (the block's vCPU words)."""
    copy(state, ld64(b + _ENV), _STATE_SIZE)
    copy(extra, b + _VCPU, _VCPU_END - _VCPU)
    return 0


@kernel
def load(b, state, extra):  # type: ignore[no-untyped-def]
    """Put a vCPU on the pCPU. What is intercepted is the VM's own, and IRET while the vCPU handles an NMI."""
    env = ld64(b + _ENV)
    registers = ld64(env + _INTERCEPT + 8)  # of control and debug registers
    copy(env, state, _STATE_SIZE)
    copy(b + _VCPU, extra, _VCPU_END - _VCPU)
    st64(b + _GUEST_TLB, extra + b_.GUEST_TLB_AT)
    st64(env + _INTERCEPT, ld64(b + _INTERCEPTS) | (_IRET if ld64(b + _NMI_BLOCKED) else 0))
    st64(env + _INTERCEPT + 8, registers)
    return flush_tlb(b)


__all__ = ["load", "save"]
