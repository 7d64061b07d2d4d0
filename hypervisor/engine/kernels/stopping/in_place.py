"""Instructions that are served inside the block they stand in, in place of Unicorn's helpers (`calls`).

The helper is called with RIP and the flags' state those of the instruction, so the time is exact here as at an exit.
"""

from __future__ import annotations

from hypervisor.arch.flags import RFLAGS_RF
from hypervisor.engine import block as b_
from hypervisor.engine import layout as l_
from hypervisor.engine.jit import call3, kernel, ld64, st64
from hypervisor.engine.kernels.stopping.reporting import settle

_KEEP_RF, _EFLAGS, _RF = b_.KEEP_RF, l_.EFLAGS, RFLAGS_RF
_CPU, _F_RESTORE = b_.CPU, b_.F_RESTORE_STATE
_OPAQUE = l_.CPU_OPAQUE - l_.CPU_TO_ENV
_PLACE, _FRAME_ITEMS = b_.PLACE, b_.FRAME_ITEMS
_FAULT, _FAULT_ERROR, _FAULT_ADDRESS = b_.FAULT, b_.FAULT_ERROR, b_.FAULT_ADDRESS
_N_VECTOR, _N_ERROR, _N_ADDRESS = b_.N_VECTOR, b_.N_ERROR, b_.N_ADDRESS


@kernel
def block_of(env):  # type: ignore[no-untyped-def]
    """The block of the pCPU with this CPU state."""
    return ld64(env + _OPAQUE)


@kernel
def begin(env, place):  # type: ignore[no-untyped-def]
    """An instruction that can fault, or use the stack (`program_stack`), is called at ``place``; its block."""
    b = block_of(env)
    st64(b + _PLACE, place)
    st64(b + _FRAME_ITEMS, 0)
    return b


@kernel
def restore(b, place):  # type: ignore[no-untyped-def]
    """Make RIP and the flags' state those of the instruction that generated code has come to at ``place``, where it has
    not done so itself.
    """
    return call3(ld64(b + _F_RESTORE), ld64(b + _CPU), place, 0)


@kernel
def refuse(b, vector, error):  # type: ignore[no-untyped-def]
    """The instruction called at PLACE faults: as soon as the guest is left, at the instruction."""
    restore(b, ld64(b + _PLACE))
    settle(b)
    st64(b + _FAULT, vector)
    st64(b + _FAULT_ERROR, error)
    return 0


@kernel
def refuse_nested(b):  # type: ignore[no-untyped-def]
    """It faults as one of the CPU's own accesses has (see `kernels.memory.supervisor`)."""
    st64(b + _FAULT_ADDRESS, ld64(b + _N_ADDRESS))
    return refuse(b, ld64(b + _N_VECTOR), ld64(b + _N_ERROR))


@kernel
def end_rf(b, env):  # type: ignore[no-untyped-def]
    """A block that began with RF has come to its end, where RF is cleared unless IRET has just loaded it."""
    if ld64(b + _KEEP_RF) == 0:
        st64(env + _EFLAGS, ld64(env + _EFLAGS) & ~_RF)
    st64(b + _KEEP_RF, 0)
    return 0
