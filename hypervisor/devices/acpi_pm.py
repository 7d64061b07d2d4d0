"""ACPI's fixed hardware: power-management events and control, the PM timer, and the port that enables them.

Sources: ACPI specification 6.5, section 4.8 "ACPI Register Model" (4.8.3.1 PM1 event, 4.8.3.2 PM1 control, 4.8.3.3 PM
timer, 4.8.2.1 the timer's interrupt) and 5.2.9 (SMI_CMD); Intel 82371AB (PIIX4) data sheet 7.2, whose layout this is.

Decisions of the model: the timer has 24 bits. S5 (SLP_TYP 0) powers off; other sleep types do nothing. There is no
sleep button, and the RTC's event is not wired. SCI follows the enabled events while SCI_EN is set.
"""

from __future__ import annotations

from collections.abc import Callable

from hypervisor.bus import Clock, Line, TimedRegister
from hypervisor.devices.parts.common import Register
from hypervisor.devices.parts.device_state import adopt
from hypervisor.state import InRecord, deadline, flag, number, record, u8

PM_SIZE = 0x40
"""Ports of a PIIX4 at PMBA; those above bh (throttling, devices, general-purpose pins) read as zero here."""
SIZE = PM_SIZE + 2
"""Bytes of the register window: the PM ports, then the two SMI ports, which a PC has at b2h and b3h."""
EVENT, CONTROL, TIMER, SMI = 0x00, 0x04, 0x08, PM_SIZE
REGISTERS = (
    Register(0x00, "PM1_STS", "rw", "0 timer carry, 5 global, 8 power button, 10 RTC, 15 wake; write 1 to clear"),
    Register(0x02, "PM1_EN", "rw", "the same events, enabled"),
    Register(0x04, "PM1_CNT", "rw", "0 SCI_EN (read), 1 bus master reload, 12:10 sleep type, 13 sleep (write)"),
    Register(0x08, "PM_TMR", "r", "23:0 counts at 3.579545 MHz"),
    Register(0x40, "APMC", "rw", "SMI_CMD: f1h enables ACPI mode, f0h disables it"),
    Register(0x41, "APMS", "rw", "scratch"),
)

TIMER_HZ = 3_579_545
TIMER_BITS = 24
ACPI_ENABLE, ACPI_DISABLE = 0xF1, 0xF0
TMR_STS, GBL_STS, PWRBTN_STS, RTC_STS, WAK_STS = 1 << 0, 1 << 5, 1 << 8, 1 << 10, 1 << 15
_STATUS = TMR_STS | GBL_STS | PWRBTN_STS | RTC_STS | WAK_STS
_ENABLES = TMR_STS | GBL_STS | PWRBTN_STS | RTC_STS
SCI_EN, GBL_RLS, SLP_EN = 1 << 0, 1 << 2, 1 << 13
_CONTROL_KEPT = 1 << 1 | 7 << 10
SLP_TYP_SHIFT, SLP_TYP_MASK = 10, 7
S5 = 0
"""The sleep type that powers off, as the DSDT's ``\\_S5`` says."""


@record
class AcpiPmState:
    """``halves`` counts changes of the timer's top bit that the status has seen; ``sci`` is the level of the wire, and
    ``due`` when the next carry interrupts, negative for never."""

    status: int = number(0, 0xFFFF)
    enable: int = number(0, 0xFFFF)
    control: int = number(0, 0xFFFF)
    acpi: bool = flag()
    command: int = u8()
    scratch: int = u8()
    halves: int = number(0, 1 << 62)
    sci: bool = flag()
    due: int = deadline()


class AcpiPm(InRecord[AcpiPmState]):
    """The registers behind FADT's PM1a_EVT, PM1a_CNT, PM_TMR and SMI_CMD.

    ``sci`` is the system control interrupt's wire; ``power_off()`` is called when the guest enters S5. The board shows
    the window in two places: the PM ports as offsets 0-3fh, ports b2h-b3h as offsets 40h-41h.
    """

    def __init__(self, sci: Line, clock: Clock, power_off: Callable[[], object], name: str = "acpi-pm") -> None:
        self.name = name
        self.sci = sci
        self._clock = clock
        self._power_off = power_off
        self._alarm = clock.timer(name, "carry", self._update)
        timer = TimedRegister(4)
        timer.counts(TIMER_HZ, mask=(1 << TIMER_BITS) - 1)
        self.timed_registers = {TIMER: timer}
        self._s = AcpiPmState(halves=self._halves())

    # ---- the host's side

    def press_power_button(self) -> None:
        """The power button: a guest in ACPI mode gets an interrupt, and usually shuts down."""
        self._s.status |= PWRBTN_STS
        self._update()

    # ---- device contract

    def read(self, offset: int, size: int) -> int:
        """See `hypervisor.bus.Device.read`. The timer's four bytes are of one moment."""
        if offset == TIMER and size == 4:
            return self._ticks() & (1 << TIMER_BITS) - 1
        value = 0
        for at in range(offset, offset + size):
            byte = self._word(at & ~1) >> 8 * (at & 1) & 0xFF if at < SIZE else 0xFF
            value |= byte << 8 * (at - offset)
        return value

    def write(self, offset: int, size: int, value: int) -> None:
        """See `hypervisor.bus.Device.write`."""
        if size == 2 and offset in (EVENT, EVENT + 2, CONTROL):
            self._write_word(offset, value)
            return
        for at in range(offset, min(offset + size, SIZE)):
            self._write_byte(at, value & 0xFF)
            value >>= 8

    def reset(self) -> None:
        """Everything off, in legacy mode."""
        self._s = AcpiPmState(halves=self._halves())
        self._update()

    def _up_to_date(self) -> AcpiPmState:
        s = self._s
        s.sci, s.due = self.sci.level, self._alarm.due
        return s

    def restore(self, state: AcpiPmState) -> None:
        """Take over ``state``; raises `DeviceError` if it is not one of this device."""
        self._s = adopt(self.name, AcpiPmState, state)
        self.sci.set(self._s.sci)
        self._alarm.put_back(self._s.due)

    # ---- time

    def _ticks(self) -> int:
        return self._clock.now_ns * TIMER_HZ // 1_000_000_000

    def _halves(self) -> int:
        return self._ticks() >> TIMER_BITS - 1

    def _see_timer(self) -> None:
        """TMR_STS is set whenever the top bit of the timer changes (4.8.3.3)."""
        halves = self._halves()
        if halves != self._s.halves:
            self._s.halves = halves
            self._s.status |= TMR_STS

    # ---- registers

    def _update(self) -> None:
        """Drive SCI, and be called when the timer's next carry interrupts."""
        self._see_timer()
        s = self._s
        self.sci.set(s.acpi and bool(s.status & s.enable & _ENABLES))
        if s.acpi and s.enable & TMR_STS and not s.status & TMR_STS:
            ticks = s.halves + 1 << TIMER_BITS - 1
            self._alarm.set(-(-ticks * 1_000_000_000 // TIMER_HZ))
        else:
            self._alarm.clear()

    def _word(self, at: int) -> int:
        s = self._s
        if at == EVENT:
            self._see_timer()
            return s.status
        if at == EVENT + 2:
            return s.enable
        if at == CONTROL:
            return s.control | (SCI_EN if s.acpi else 0)
        if at in (TIMER, TIMER + 2):
            return self._ticks() >> 8 * (at - TIMER) & (0xFFFF if at == TIMER else 0xFF)
        if at == SMI:
            return s.scratch << 8 | s.command
        return 0

    def _write_byte(self, at: int, value: int) -> None:
        s = self._s
        if at == SMI:
            s.command = value
            if value in (ACPI_ENABLE, ACPI_DISABLE):
                s.acpi = value == ACPI_ENABLE
                self._update()
        elif at == SMI + 1:
            s.scratch = value
        elif at < TIMER:
            shift = 8 * (at & 1)
            kept = 0 if at & ~1 == EVENT else self._word(at & ~1) & ~(0xFF << shift)
            self._write_word(at & ~1, kept | value << shift)

    def _write_word(self, at: int, value: int) -> None:
        s = self._s
        if at == EVENT:
            self._see_timer()
            s.status &= ~(value & _STATUS)
        elif at == EVENT + 2:
            s.enable = value & _ENABLES
        elif at == CONTROL:
            s.control = value & _CONTROL_KEPT
            if value & SLP_EN and value >> SLP_TYP_SHIFT & SLP_TYP_MASK == S5:
                self._power_off()
        self._update()
