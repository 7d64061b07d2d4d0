"""Instructions that are served inside the block they stand in, in place of Unicorn's helpers (`calls`).

The helper is called with RIP and the flags' state those of the instruction, so the time is exact here as at an exit.
"""

from __future__ import annotations

from hypervisor.arch.exits import ExitKind as K
from hypervisor.arch.flags import CR4_TSD, RFLAGS_RF
from hypervisor.engine import block as b_
from hypervisor.engine import costs
from hypervisor.engine import layout as l_
from hypervisor.engine.jit import call3, kernel, ld32, ld64, st64
from hypervisor.engine.kernels.instructions.decode import decode
from hypervisor.engine.kernels.memory.access import linear_rip
from hypervisor.engine.kernels.vmexit.reporting import listens, settle
from hypervisor.engine.kernels.vmexit.time_stamp import time_stamp

_NOW, _BLOCK_END, _HFLAGS, _CR4, _TSD = b_.NOW, b_.BLOCK_END, l_.HFLAGS, l_.CR4, CR4_TSD
_D_OPCODE, _D_SIZE, _D_MODRM, _D_RM, _CR0, _CS64 = b_.D_OPCODE, b_.D_SIZE, b_.D_MODRM, b_.D_RM, l_.CR0, l_.HF_CS64
_CR_WRITE_COSTS = b_.COSTS + 8 * costs.CR_WRITE
_KEEP_RF, _EFLAGS, _RF = b_.KEEP_RF, l_.EFLAGS, RFLAGS_RF
_REGS, _CPL = l_.REGS, l_.HF_CPL
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


@kernel
def read_time(b, env, kind):  # type: ignore[no-untyped-def]
    """RDTSC or RDTSCP; 0 where Unicorn's helper is to leave the guest: for a handler, or with #GP (CR4.TSD)."""
    if listens(b, kind) or (ld64(env + _CR4) & _TSD and ld32(env + _HFLAGS) & _CPL):
        return 0
    left = ld64(b + _BLOCK_END) - linear_rip(b)
    if left < 0 or left > 65536:
        left = 0
    st64(b + _NOW, ld64(b + _NOW) - left)
    time_stamp(b, kind)
    st64(b + _NOW, ld64(b + _NOW) + left)
    return 1


@kernel
def write_control(b, number):  # type: ignore[no-untyped-def]
    """MOV to CR3, which Unicorn's helper carries out, takes its time. (The others leave the guest.)"""
    st64(b + _NOW, ld64(b + _NOW) + ld64(b + _CR_WRITE_COSTS + 8 * number))
    return 0


@kernel
def widen_smsw(b, env):  # type: ignore[no-untyped-def]
    """CR0 is about to be read by the instruction at RIP. Outside 64-bit mode Unicorn's SMSW writes 16 bits; into a
    32-bit register go all of CR0's (APM volume 3).
    """
    if ld32(env + _HFLAGS) & _CS64 == 0 and decode(b) and ld64(b + _D_OPCODE) == 0x0F01 and ld64(b + _D_SIZE) == 4:
        if ld64(b + _D_MODRM) >= 0xC0:
            st64(env + _REGS + 8 * (ld64(b + _D_RM) & 7), ld64(env + _CR0) & 0xFFFFFFFF)
    return 0


RDTSC, RDTSCP = int(K.RDTSC), int(K.RDTSCP)
