"""Whom the destination of an interrupt message means (SDM volume 3A, 10.6.2, 10.12.9).

A destination of eight bits, from an APIC that is not in x2APIC mode or an I/O APIC, reaches those in x2APIC mode as the
same number of 32 bits: there is no interrupt remapping. Lowest priority can be sent in x2APIC mode, too.
"""

from __future__ import annotations

from hypervisor.arch import apic_registers as r
from hypervisor.arch.apic_page import ApicPage


def logical_id(apic_id: int) -> int:
    """The logical id in x2APIC mode, which follows from the id: a cluster of 16 and a bit in it (10.12.10.2)."""
    return apic_id >> 4 << 16 | 1 << (apic_id & 0xF)


def is_meant(s: ApicPage, destination: int, logical: bool) -> bool:
    """Whether a message with this destination is for the APIC of a page."""
    if destination == r.BROADCAST or not logical:
        return destination == r.BROADCAST or destination == s.id
    if s.x2apic:
        own = logical_id(s.id)
        return destination >> 16 == own >> 16 and bool(destination & own & 0xFFFF)
    if s.dfr == r.DFR_FLAT:
        return bool(destination & s.ldr) and destination <= 0xFF
    same_cluster = destination >> 4 == 0xF or destination >> 4 == s.ldr >> 4
    return same_cluster and bool(destination & s.ldr & 0xF)
