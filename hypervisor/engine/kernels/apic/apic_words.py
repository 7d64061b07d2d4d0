"""One local APIC's registers in its page, and what follows from them.

The model, `hypervisor.devices.local_apic`, says what they mean and serves what is not served here; both work on the
same page (`hypervisor.arch.apic_page`). Section numbers are of Intel's SDM, volume 3A.
"""

from __future__ import annotations

from hypervisor.arch import apic_registers as r
from hypervisor.arch.apic_page import COMPUTED, offset_of
from hypervisor.arch.apic_registers import BROADCAST
from hypervisor.engine.block import signed
from hypervisor.engine.jit import kernel, ld8, ld32, ld64, st32

_KEPT = signed(sum(1 << (register.offset >> 4) for register in r.REGISTERS if register.offset not in COMPUTED))
_ENABLED, _X2APIC, _LINT0, _EXTINT = (offset_of(name) for name in ("enabled", "x2apic", "lint0", "extint"))
_PERIODIC, _OVER, _START = offset_of("timer_periodic"), offset_of("timer_over"), offset_of("timer_start_ns")
_TPR, _PPR, _SVR, _ISR, _IRR, _LVT_LINT0 = r.TPR, r.PPR, r.SVR, r.ISR, r.IRR, r.LVT_LINT0
_LDR, _DFR, _ID = r.LDR, r.DFR, r.ID
_INITIAL, _DIVIDE, _REGISTERS_SIZE = r.TIMER_INITIAL, r.TIMER_DIVIDE, r.REGISTERS_SIZE
_GATE, _OPEN = r.MASKED | r.MODE_MASK << r.MODE_SHIFT, r.Mode.EXTINT << r.MODE_SHIFT
_SVR_ENABLE, _FLAT, _BROADCAST, _EVERY_CLUSTER = r.SVR_ENABLE, r.DFR_FLAT, BROADCAST, 0xF


@kernel
def highest(page, first):  # type: ignore[no-untyped-def]
    """The highest vector of the 256 in the eight registers from ``first`` on, -1 if there is none."""
    at = page + first + 16 * 7
    for n in range(7, -1, -1):
        word = ld32(at)
        if word:
            bit = 31
            while (word >> bit) & 1 == 0:
                bit -= 1
            return 32 * n + bit
        at -= 16
    return -1


@kernel
def change(page, first, vector, on):  # type: ignore[no-untyped-def]
    """Set or clear one vector among those from ``first`` on."""
    at = page + first + 16 * (vector >> 5)
    bit = 1 << (vector & 31)
    st32(at, ld32(at) | bit if on else ld32(at) & ~bit)
    return 0


@kernel
def priority(page):  # type: ignore[no-untyped-def]
    """The processor priority (10.8.3.1): the task priority, or the class in service if that is higher."""
    task = ld32(page + _TPR)
    serving = highest(page, _ISR)
    if serving < 0 or task >> 4 >= serving >> 4:
        return task
    return serving & ~0xF


@kernel
def deliverable(page):  # type: ignore[no-untyped-def]
    """The vector that its processor is to take now, -1 if there is none."""
    vector = highest(page, _IRR)
    if vector < 0 or ld32(page + _SVR) & _SVR_ENABLE == 0 or vector >> 4 <= priority(page) >> 4:
        return -1
    return vector


@kernel
def requests(page):  # type: ignore[no-untyped-def]
    """The level at which it drives its processor's INTR."""
    if deliverable(page) >= 0 or ld8(page + _EXTINT):
        return 1
    if ld8(page + _LINT0) == 0:
        return 0
    return 1 if ld8(page + _ENABLED) == 0 or ld32(page + _LVT_LINT0) & _GATE == _OPEN else 0


@kernel
def accepts(page):  # type: ignore[no-untyped-def]
    """Whether it takes fixed interrupts."""
    return ld8(page + _ENABLED) != 0 and ld32(page + _SVR) & _SVR_ENABLE != 0


@kernel
def logical_id(page):  # type: ignore[no-untyped-def]
    """The logical id in x2APIC mode, which follows from the id (10.12.10.2)."""
    number = ld32(page + _ID) >> 24
    return (number >> 4) << 16 | 1 << (number & 0xF)


@kernel
def answers(page, destination, logical):  # type: ignore[no-untyped-def]
    """Whether a message with this destination is for this APIC (10.6.2, 10.12.9)."""
    if destination == _BROADCAST or logical == 0:
        return destination == _BROADCAST or destination == ld32(page + _ID) >> 24
    if ld8(page + _X2APIC):
        own = logical_id(page)
        return destination >> 16 == own >> 16 and destination & own & 0xFFFF != 0
    own = ld32(page + _LDR) >> 24
    if ld32(page + _DFR) >> 28 == _FLAT:
        return destination & own != 0 and destination <= 0xFF
    cluster = destination >> 4
    return (cluster == _EVERY_CLUSTER or cluster == own >> 4) and destination & own & 0xF != 0


@kernel
def kept(page, offset):  # type: ignore[no-untyped-def]
    """A register that needs no clock, -1 if there is none at this offset."""
    if offset < 0 or offset >= _REGISTERS_SIZE or offset & 0xF:
        return -1
    if (_KEPT >> (offset >> 4)) & 1:
        return ld32(page + offset)
    return priority(page) if offset == _PPR else -1


@kernel
def current_count(page, now):  # type: ignore[no-untyped-def]
    """The timer's current count at this time of the VM's clock (10.5.4)."""
    initial = ld32(page + _INITIAL)
    if initial == 0 or ld8(page + _OVER):
        return 0
    divide = ld32(page + _DIVIDE)
    shift = (((divide >> 1 & 4) | (divide & 3)) + 1) & 7  # figure 10-10
    gone = (now - ld64(page + _START)) >> shift
    if ld8(page + _PERIODIC):
        return initial - gone % initial
    return max(initial - gone, 0)


__all__ = [
    "accepts", "answers", "change", "current_count", "deliverable", "highest", "kept", "logical_id", "priority",
    "requests",
]  # fmt: skip
