"""The VM's clock as the guest reads it, and PAUSE, by which it says that it waits."""

from __future__ import annotations

from hypervisor.arch.exits import ExitKind as K
from hypervisor.engine import block as b_
from hypervisor.engine import costs
from hypervisor.engine import layout as l_
from hypervisor.engine.jit import kernel, ld64, st64
from hypervisor.engine.kernels.stopping.reporting import count, stop
from hypervisor.engine.kernels.stopping.wall_timer import monotonic

_ENV, _RAX, _RCX, _RDX, _TSC_AUX, _TSC_OFFSET = b_.ENV, l_.RAX, l_.RCX, l_.RDX, l_.TSC_AUX, b_.TSC_OFFSET
_WALL, _WALL_BASE, _SHOWN = b_.WALL, b_.WALL_BASE, b_.SHOWN
_NOW, _FLOOR, _DUE, _KICK, _KICKED, _X_KIND = b_.NOW, b_.FLOOR, b_.DUE, b_.KICK, b_.KICKED, b_.X_KIND
_SPINS, _SPINS_LEFT, _SPUN_AT, _WORKED, _SPIN_NS = b_.SPINS, b_.SPINS_LEFT, b_.SPUN_AT, b_.WORKED, costs.SPIN_NS
_RDTSCP, _SPINNING = int(K.RDTSCP), int(K.SPINNING)


@kernel
def clock(b):  # type: ignore[no-untyped-def]
    """The VM's time in nanoseconds, which is also the TSC before its offset."""
    if ld64(b + _WALL):
        now = monotonic(b) - ld64(b + _WALL_BASE)
        if now > ld64(b + _DUE):  # the host has kept the guest from running: see `VmClock.hold_back`
            now = max(ld64(b + _SHOWN), ld64(b + _DUE))
            st64(b + _KICK, _KICKED)
        st64(b + _SHOWN, now)
        return now
    return max(ld64(b + _NOW), ld64(b + _FLOOR))


@kernel
def time_stamp(b, kind):  # type: ignore[no-untyped-def]
    """Let a vCPU read its time-stamp counter, as RDTSC or RDTSCP."""
    count(b, kind)
    env = ld64(b + _ENV)
    now = clock(b) + ld64(b + _TSC_OFFSET)
    st64(env + _RAX, now & 0xFFFFFFFF)
    st64(env + _RDX, (now >> 32) & 0xFFFFFFFF)
    if kind == _RDTSCP:
        st64(env + _RCX, ld64(env + _TSC_AUX) & 0xFFFFFFFF)
    return 0


@kernel
def spin(b, inside):  # type: ignore[no-untyped-def]
    """A PAUSE was executed. If other vCPUs could run, many in quick succession end the turn."""
    if ld64(b + _SPINS) == 0:
        return 0
    now = ld64(b + _NOW)
    left = ld64(b + _SPINS_LEFT) - 1
    if now - ld64(b + _SPUN_AT) > _SPIN_NS:
        st64(b + _WORKED, 1)
        left = ld64(b + _SPINS)
    st64(b + _SPUN_AT, now)
    st64(b + _SPINS_LEFT, left)
    if left <= 0 and ld64(b + _X_KIND) == 0:
        stop(b, _SPINNING, inside)
    return 0


__all__ = ["clock", "spin", "time_stamp"]
