"""INT 1Ah: the tick count since midnight and the real-time clock.

The RTC is read and set through its ports, so there is one clock only. Source: IBM PS/2 and PC BIOS Interface Technical
Reference, section 2, "Interrupt 1Ah".
"""

from __future__ import annotations

from hypervisor.firmware.bios import bda
from hypervisor.firmware.bios.call import POLLED, UNSERVED, Call, Outcome, Ports
from hypervisor.firmware.bios.rtc import (
    CENTURY,
    DAY,
    DAYLIGHT,
    HOURS,
    MINUTES,
    MONTH,
    REGISTER_B,
    SECONDS,
    YEAR,
    Rtc,
    from_bcd,
)
from hypervisor.firmware.bios.service import service

TICKS_A_DAY = 0x1800B0


class Time:
    """The time services; without ``ports`` there is no RTC and its functions fail."""

    def __init__(self, area: bda.Bda, ports: Ports | None) -> None:
        self.area = area
        self._rtc = None if ports is None else Rtc(ports)

    def power_on(self) -> None:
        """Set the tick count from the RTC's time of day."""
        if self._rtc is None:
            return
        hours, minutes, seconds = (from_bcd(self._rtc.field(one)) for one in (HOURS, MINUTES, SECONDS))
        ticks = (hours * 3600 + minutes * 60 + seconds) * TICKS_A_DAY // 86400
        self.area.set_dword(bda.TICKS, ticks % TICKS_A_DAY)

    @service(0x1A, 0x00, "read tick count")
    def _get_ticks(self, call: Call) -> Outcome:
        ticks = self.area.dword(bda.TICKS)
        call.regs.cx, call.regs.dx = ticks >> 16, ticks & 0xFFFF
        call.regs.al = self.area.byte(bda.MIDNIGHT)
        self.area.set_byte(bda.MIDNIGHT, 0)
        call.ok()
        return POLLED

    @service(0x1A, 0x01, "set tick count")
    def _set_ticks(self, call: Call) -> Outcome:
        self.area.set_dword(bda.TICKS, call.regs.cx << 16 | call.regs.dx)
        self.area.set_byte(bda.MIDNIGHT, 0)
        return _done(call)

    @service(0x1A, 0x02, "read RTC time")
    def _get_time(self, call: Call) -> Outcome:
        if self._rtc is None:
            return UNSERVED
        regs = call.regs
        regs.ch, regs.cl, regs.dh = self._rtc.field(HOURS), self._rtc.field(MINUTES), self._rtc.field(SECONDS)
        regs.dl = self._rtc.read(REGISTER_B) & DAYLIGHT
        _done(call)
        return POLLED

    @service(0x1A, 0x04, "read RTC date")
    def _get_date(self, call: Call) -> Outcome:
        if self._rtc is None:
            return UNSERVED
        regs = call.regs
        regs.ch, regs.cl = self._rtc.field(CENTURY), self._rtc.field(YEAR)
        regs.dh, regs.dl = self._rtc.field(MONTH), self._rtc.field(DAY)
        return _done(call)

    @service(0x1A, 0x03, "set RTC time")
    def _set_time(self, call: Call) -> Outcome:
        if self._rtc is None:
            return UNSERVED
        self._rtc.set_fields({HOURS: call.regs.ch, MINUTES: call.regs.cl, SECONDS: call.regs.dh})
        return _done(call)

    @service(0x1A, 0x05, "set RTC date")
    def _set_date(self, call: Call) -> Outcome:
        if self._rtc is None:
            return UNSERVED
        regs = call.regs
        self._rtc.set_fields({CENTURY: regs.ch, YEAR: regs.cl, MONTH: regs.dh, DAY: regs.dl})
        return _done(call)


def _done(call: Call) -> Outcome:
    call.regs.ah = 0
    return call.ok()
