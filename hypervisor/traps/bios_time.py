"""INT 1Ah: the tick count since midnight and the real-time clock.

The RTC is read and set through its ports, so there is one clock only. Sources: IBM PS/2 and PC BIOS Interface
Technical Reference, section 2, "Interrupt 1Ah"; MC146818A data sheet.
"""

from __future__ import annotations

from hypervisor.traps import bios_bda as bda
from hypervisor.traps.bios_call import POLLED, UNSERVED, Call, Outcome, Ports
from hypervisor.traps.bios_table import service

SECONDS, MINUTES, HOURS, DAY, MONTH, YEAR, REGISTER_B, CENTURY = 0x00, 0x02, 0x04, 0x07, 0x08, 0x09, 0x0B, 0x32
BINARY, SET, DAYLIGHT = 1 << 2, 1 << 7, 1 << 0
TICKS_A_DAY = 0x1800B0


class Time:
    """The time services; without ``ports`` there is no RTC and its functions fail."""

    def __init__(self, area: bda.Bda, ports: Ports | None) -> None:
        self.area = area
        self.ports = ports

    def power_on(self) -> None:
        """Set the tick count from the RTC's time of day."""
        if self.ports is None:
            return
        hours, minutes, seconds = (_number(self._get(field)) for field in (HOURS, MINUTES, SECONDS))
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
        return call.ok()

    @service(0x1A, 0x02, "read RTC time")
    def _get_time(self, call: Call) -> Outcome:
        if self.ports is None:
            return UNSERVED
        regs = call.regs
        regs.ch, regs.cl, regs.dh = self._get(HOURS), self._get(MINUTES), self._get(SECONDS)
        regs.dl = self._raw(REGISTER_B) & DAYLIGHT
        call.ok()
        return POLLED

    @service(0x1A, 0x04, "read RTC date")
    def _get_date(self, call: Call) -> Outcome:
        if self.ports is None:
            return UNSERVED
        regs = call.regs
        regs.ch, regs.cl = self._get(CENTURY), self._get(YEAR)
        regs.dh, regs.dl = self._get(MONTH), self._get(DAY)
        return call.ok()

    @service(0x1A, 0x03, "set RTC time")
    def _set_time(self, call: Call) -> Outcome:
        if self.ports is None:
            return UNSERVED
        self._set({HOURS: call.regs.ch, MINUTES: call.regs.cl, SECONDS: call.regs.dh})
        return call.ok()

    @service(0x1A, 0x05, "set RTC date")
    def _set_date(self, call: Call) -> Outcome:
        if self.ports is None:
            return UNSERVED
        regs = call.regs
        self._set({CENTURY: regs.ch, YEAR: regs.cl, MONTH: regs.dh, DAY: regs.dl})
        return call.ok()

    def _get(self, register: int) -> int:
        """A field in BCD, whatever format the RTC is set to."""
        value = self._raw(register)
        return value // 10 << 4 | value % 10 if self._raw(REGISTER_B) & BINARY and register != CENTURY else value

    def _set(self, fields: dict[int, int]) -> None:
        """Store BCD fields while updates are held off."""
        mode = self._raw(REGISTER_B)
        self._store(REGISTER_B, mode | SET)
        for register, value in fields.items():
            self._store(register, _number(value) if mode & BINARY and register != CENTURY else value)
        self._store(REGISTER_B, mode & ~SET)

    def _raw(self, register: int) -> int:
        assert self.ports is not None  # who comes here has asked
        self.ports.write(0x70, 1, register)
        return self.ports.read(0x71, 1)

    def _store(self, register: int, value: int) -> None:
        assert self.ports is not None
        self.ports.write(0x70, 1, register)
        self.ports.write(0x71, 1, value)


def _number(bcd: int) -> int:
    return (bcd >> 4) * 10 + (bcd & 0xF)
