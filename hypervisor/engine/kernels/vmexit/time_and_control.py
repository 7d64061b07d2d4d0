"""RDTSC, RDTSCP, MOV to CR3 and SMSW, in the middle of their block."""

from __future__ import annotations

from hypervisor.arch.exits import ExitKind as K
from hypervisor.arch.flags import CR4_TSD
from hypervisor.engine import block as b_
from hypervisor.engine import costs
from hypervisor.engine import layout as l_
from hypervisor.engine.jit import kernel, ld16, ld32, ld64, st64
from hypervisor.engine.kernels.by_pointer import decode
from hypervisor.engine.kernels.memory.access import linear_rip
from hypervisor.engine.kernels.memory.guest_tlb import grow_older
from hypervisor.engine.kernels.stopping.reporting import listens
from hypervisor.engine.kernels.vmexit.time_stamp import time_stamp

_NOW, _BLOCK_END, _CR_WRITE_COSTS = b_.NOW, b_.BLOCK_END, b_.COSTS + 8 * costs.CR_WRITE
_ENV, _INTERCEPTED = b_.ENV, l_.INTERCEPT_CR_WRITE
_HFLAGS, _CPL, _CS64, _CR0, _CR4, _TSD, _REGS = l_.HFLAGS, l_.HF_CPL, l_.HF_CS64, l_.CR0, l_.CR4, CR4_TSD, l_.REGS
_D_OPCODE, _D_SIZE, _D_MODRM, _D_RM = b_.D_OPCODE, b_.D_SIZE, b_.D_MODRM, b_.D_RM

RDTSC, RDTSCP = int(K.RDTSC), int(K.RDTSCP)


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
    """MOV to CR3, which Unicorn's helper carries out unless a handler listens: it takes its time, and flushes.

    (The others leave the guest.)
    """
    st64(b + _NOW, ld64(b + _NOW) + ld64(b + _CR_WRITE_COSTS + 8 * number))
    if number == 3 and ld16(ld64(b + _ENV) + _INTERCEPTED) & 1 << 3 == 0:
        grow_older(b)
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
