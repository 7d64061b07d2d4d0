"""Timers of the wall clock, for which the engine looks by itself while the guest computes.

Whoever tells a guest from outside that a timer is due needs a processor of the host's and the interpreter at that
moment, which on a busy host takes tens of milliseconds. So a deadline of the guest's own time is put where, by what it
has done since the last look, most of the host's time until the timer will have passed; there the host's clock is read,
and the guest is left, or looked at again a little later. A look is a read of the clock in some 100,000 bytes of code.
"""

from __future__ import annotations

from hypervisor.engine import block as b_
from hypervisor.engine.jit import call2, kernel, ld64, st64
from hypervisor.units import FOREVER_NS

_WALL, _TIMER, _F_CLOCK, _WALL_BASE, _SCRATCH = b_.WALL, b_.TIMER, b_.F_CLOCK, b_.WALL_BASE, b_.SCRATCH
_NOW, _NEXT, _DEADLINE, _KICK, _KICKED = b_.NOW, b_.NEXT, b_.DEADLINE, b_.KICK, b_.KICKED
_LOOKED_AT, _LOOKED_NOW = b_.LOOKED_AT, b_.LOOKED_NOW
_NEVER = FOREVER_NS

LEAST = 500
"""How far a guest comes between two looks at least, in nanoseconds of its own time."""
FURTHEST_NS = 500_000
"""For how much of the host's time nobody looks at most, if the guest goes on as it did."""
FASTEST = 8
"""Nanoseconds of its own time in one of the host's: what is taken to be the most. A guest that accesses ports comes
further, and may go on to compute.
"""


@kernel
def monotonic(b):  # type: ignore[no-untyped-def]
    """The host's clock, in nanoseconds."""
    call2(ld64(b + _F_CLOCK), 1, b + _SCRATCH)  # CLOCK_MONOTONIC
    return ld64(b + _SCRATCH) * 1_000_000_000 + ld64(b + _SCRATCH + 8)


@kernel
def first_look(b):  # type: ignore[no-untyped-def]
    """Where a turn that begins is looked at first."""
    return 0 if ld64(b + _WALL) else ld64(b + _NEXT)


@kernel
def look_at_clock(b, now):  # type: ignore[no-untyped-def]
    """The guest has come to ``now``: have it left if a timer is due, else put the deadline where to look again."""
    timer = ld64(b + _TIMER)
    if timer >= _NEVER:
        return 0
    at = monotonic(b)
    left = timer - (at - ld64(b + _WALL_BASE))
    if left <= 0:
        st64(b + _KICK, _KICKED)
        return 0
    left = min(left, FURTHEST_NS)
    passed, came = at - ld64(b + _LOOKED_AT), now - ld64(b + _LOOKED_NOW)
    ahead = left
    if passed > 0 and came >= 0 and came < _NEVER // FURTHEST_NS:
        ahead = min(left * came // passed, FASTEST * left)
    ahead = max(ahead - ahead // 4, LEAST)
    st64(b + _LOOKED_AT, at)
    st64(b + _LOOKED_NOW, now)
    st64(b + _DEADLINE, min(ld64(b + _NEXT), now + ahead))
    return 0


__all__ = ["first_look", "look_at_clock", "monotonic"]
