"""A local APIC's registers in x2APIC mode, by RDMSR and WRMSR.

The rest is the model's (`hypervisor.devices.parts.x2apic`), what raises #GP too: the answer is -1 or 0 then, and
nothing has changed.
"""

from __future__ import annotations

from hypervisor.arch import apic_registers as r
from hypervisor.arch.apic_page import offset_of
from hypervisor.engine import block as b_
from hypervisor.engine.jit import kernel, ld8, ld32, ld64, st32
from hypervisor.engine.kernels.apic.apic_interrupts import send, send_self, write
from hypervisor.engine.kernels.apic.apic_words import kept, logical_id

_APIC, _ENABLED, _X2APIC = b_.APIC, offset_of("enabled"), offset_of("x2apic")
_FIRST, _BEHIND = r.X2APIC_MSRS.start, r.X2APIC_MSRS.stop
_ID, _TPR, _EOI, _LDR, _DFR, _ICR_LOW, _ICR_HIGH = r.ID, r.TPR, r.EOI, r.LDR, r.DFR, r.ICR_LOW, r.ICR_HIGH
_SELF_IPI, _TPR_WRITABLE, _ICR_WRITABLE, _VECTOR = r.SELF_IPI, r.X2APIC_WRITABLE[r.TPR], r.ICR_WRITABLE, r.VECTOR
_WORD = 0xFFFFFFFF
CURRENT_COUNT = _FIRST + (r.TIMER_CURRENT >> 4)
"""The register that needs the clock."""


@kernel
def x2apic(b, register):  # type: ignore[no-untyped-def]
    """The page of the local APIC that this MSR belongs to, 0 if it is none of those or the APIC is in another mode."""
    page = ld64(b + _APIC)
    if register < _FIRST or register >= _BEHIND or page == 0 or ld8(page + _X2APIC) == 0:
        return 0
    return page if ld8(page + _ENABLED) else 0


@kernel
def read_msr(page, register):  # type: ignore[no-untyped-def]
    """What RDMSR reads of a register that needs no clock, -1 where the model is to be asked."""
    offset = (register - _FIRST) << 4
    if offset == _ID:
        return ld32(page + _ID) >> 24
    if offset == _LDR:
        return logical_id(page)
    if offset == _ICR_LOW:
        return ld32(page + _ICR_HIGH) << 32 | ld32(page + _ICR_LOW)
    return -1 if offset == _DFR or offset == _ICR_HIGH else kept(page, offset)


@kernel
def write_msr(b, page, register, value):  # type: ignore[no-untyped-def]
    """Store what WRMSR writes; 0 where that is left to the model."""
    offset = (register - _FIRST) << 4
    if offset == _TPR:
        return 0 if value & ~_TPR_WRITABLE else write(b, page, offset, value)
    if offset == _EOI:
        return 0 if value else write(b, page, offset, value)
    if offset == _SELF_IPI:
        return 0 if value & ~_VECTOR else send_self(b, page, value)
    if offset == _ICR_LOW and value & _WORD & ~_ICR_WRITABLE == 0:
        if send(b, page, value & _WORD, value >> 32 & _WORD) == 0:
            return 0
        st32(page + _ICR_HIGH, value >> 32)
        return 1
    return 0


__all__ = ["CURRENT_COUNT", "read_msr", "write_msr", "x2apic"]
