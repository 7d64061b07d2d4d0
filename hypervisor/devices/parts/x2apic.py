"""A local APIC's registers as model-specific registers, in x2APIC mode.

Source: Intel SDM volume 3A, 10.12 "Extended XAPIC (x2APIC)"; AMD64 APM volume 2, 16.9 to 16.14. Which MSR is which
register, and what may be written, is data: `hypervisor.arch.apic_registers`.
"""

from __future__ import annotations

from collections.abc import Callable

from hypervisor.arch import apic_registers as r
from hypervisor.arch.apic_page import ApicPage
from hypervisor.devices.parts.apic_destination import logical_id

_FIRST, _WORD = r.X2APIC_MSRS.start, 0xFFFF_FFFF


class X2Apic:
    """The registers of ``page`` as MSRs, over its registers by offset and what SELF IPI does."""

    def __init__(
        self,
        page: ApicPage,
        read: Callable[[int], int],
        write: Callable[[int, int], object],
        send_self: Callable[[int], object],
    ) -> None:
        self._page = page
        self._read = read
        self._write = write
        self._send_self = send_self

    def read(self, number: int) -> int | None:
        """What RDMSR reads; None where it raises #GP: in another mode, and where no register is to be read."""
        offset = (number - _FIRST) << 4
        if not self._page.x2apic or offset not in r.X2APIC_READABLE:
            return None
        if offset == r.ID:
            return self._page.id
        if offset == r.LDR:
            return logical_id(self._page.id)
        value = self._read(offset)
        return self._page.icr_high << 32 | value if offset == r.ICR_LOW else value

    def write(self, number: int, value: int) -> bool:
        """Store what WRMSR writes, 64 bits; False where it raises #GP."""
        offset = (number - _FIRST) << 4
        writable = r.X2APIC_WRITABLE.get(offset)
        if not self._page.x2apic or writable is None or value & ~writable:
            return False
        if offset == r.SELF_IPI:
            self._send_self(value)
            return True
        if offset == r.ICR_LOW:
            self._page.icr_high = value >> 32
        self._write(offset, value & _WORD)
        return True
