"""Registers that only time changes (`hypervisor.bus.timed_register`): which one an access reads, and what it gives."""

from __future__ import annotations

from hypervisor.bus.timed_register import word
from hypervisor.engine import block as b_
from hypervisor.engine.jit import kernel, ld8, ld64, s64, st8, st64
from hypervisor.engine.kernels.vmexit.time_stamp import clock
from hypervisor.units import NS_PER_S

_SINCE, _HZ, _FIRST, _BEFORE, _START, _STEP, _PERIOD, _MASK, _SHIFT, _ACTIVE, _IN_TURN, _HIGH, _READS = (
    word(name)
    for name in (
        "since_ns", "hz", "first", "before", "start", "step", "period", "mask", "shift", "active", "in_turn", "high",
        "reads",
    )
)  # fmt: skip
_ROW_SIZE, _REGISTER = 8 * b_.TIMED_ROW, 16
_NS_PER_S = NS_PER_S


@kernel
def timed_row(table, address, size):  # type: ignore[no-untyped-def]
    """The row of a table of them (how many, then each: first address, end, the register's words) that an access lies
    in, 0 if that is in none, or in one that the device is to be asked for.
    """
    row = table + 8
    for _ in range(ld64(table)):
        if address >= ld64(row) and address + size <= ld64(row + 8):
            at = ld64(row + _REGISTER)
            return row if ld8(at + _ACTIVE) and ld64(at + _READS) else 0
        row += _ROW_SIZE
    return 0


@kernel
def read_timed(b, row, address, size):  # type: ignore[no-untyped-def]
    """What the access reads now, with the clock exact."""
    at = ld64(row + _REGISTER)
    gone, hz = clock(b) - ld64(at + _SINCE), ld64(at + _HZ)
    ticks = (gone // _NS_PER_S) * hz + (gone % _NS_PER_S) * hz // _NS_PER_S - ld64(at + _FIRST)
    value = ld64(at + _BEFORE)
    if hz == 0:
        value = ld64(at + _START)
    elif ticks >= 0:
        period = ld64(at + _PERIOD)
        if period:
            ticks %= period
        value = s64(ld64(at + _START) + ld64(at + _STEP) * ticks) & ld64(at + _MASK)
    if ld64(at + _READS) > 0:
        st64(at + _READS, ld64(at + _READS) - 1)
    shift = 8 * (address - ld64(row)) + ld8(at + _SHIFT)
    if ld8(at + _IN_TURN):
        high = ld8(at + _HIGH)
        shift += 8 * high
        st8(at + _HIGH, 1 - high)
    return value if size == 8 else value >> shift & (1 << 8 * size) - 1


__all__ = ["read_timed", "timed_row"]
