"""The real-time clock and CMOS memory: Motorola MC146818A.

Source: MC146818A data sheet (ADI1212), "Programmer's model"; Intel 82371SB (PIIX3) data sheet 2.5.7 for the PC's 128
bytes and ports 70h and 71h; Ralf Brown's CMOS list for the bytes that PC firmware keeps there.

Time starts at ``start`` and runs with the VM's clock; no guest ever sees the host's date. The time registers are kept
raw, as the guest wrote them, and are advanced when somebody looks (or when an interrupt is due), so that an idle
clock costs nothing. All is counted in periods of the 32.768 kHz crystal since ``origin``, when the divider chain was
zero.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from hypervisor.bus import Clock, Line
from hypervisor.devices._parts import Alarm, ByteDevice, Register, all_ones
from hypervisor.devices._state import adopt, data, number, time_ns
from hypervisor.errors import DeviceError
from hypervisor.units import KIB, MIB, NS_PER_S

SIZE = 2
"""Bytes of the register window (ports 70h-71h)."""

REGISTERS = (
    Register(0, "INDEX", "w", "70h: bits 6:0 choose a CMOS byte, bit 7 masks NMI; reads as all ones"),
    Register(1, "DATA", "rw", "71h: the chosen byte"),
)
CMOS = (
    Register(0x00, "SECONDS", "rw", "0-59"),
    Register(0x01, "SECONDS_ALARM", "rw", "a value from c0h means any"),
    Register(0x02, "MINUTES", "rw", "0-59"),
    Register(0x03, "MINUTES_ALARM", "rw", "a value from c0h means any"),
    Register(0x04, "HOURS", "rw", "0-23, or 1-12 with bit 7 for PM"),
    Register(0x05, "HOURS_ALARM", "rw", "a value from c0h means any"),
    Register(0x06, "WEEKDAY", "rw", "1-7, Sunday is 1"),
    Register(0x07, "DAY", "rw", "1-31"),
    Register(0x08, "MONTH", "rw", "1-12"),
    Register(0x09, "YEAR", "rw", "0-99"),
    Register(0x0A, "A", "rw", "UIP, divider, periodic rate"),
    Register(0x0B, "B", "rw", "SET, PIE, AIE, UIE, SQWE, binary, 24 hours, daylight saving (stored only)"),
    Register(0x0C, "C", "rc", "IRQF, PF, AF, UF"),
    Register(0x0D, "D", "r", "VRT: memory and time are valid"),
    Register(0x10, "FLOPPIES", "rw", "types of the drives: A in bits 7:4, B in bits 3:0; 1 to 5 are 360K to 2.88M"),
    Register(
        0x14, "EQUIPMENT", "rw", "0 floppy drives, 1 coprocessor, 2 PS/2 pointing device port, 7:6 drives less one"
    ),
    Register(0x15, "BASE_KIB", "rw", "16 bits: memory below 640 KiB, in KiB"),
    Register(0x17, "EXTENDED_KIB", "rw", "16 bits: memory above 1 MiB, in KiB, at most 65535"),
    Register(0x2E, "CHECKSUM", "rw", "16 bits, high byte first: sum of 10h to 2dh"),
    Register(0x30, "EXTENDED_KIB_POST", "rw", "16 bits: as EXTENDED_KIB"),
    Register(0x32, "CENTURY", "rw", "BCD; follows when the year wraps"),
    Register(0x34, "ABOVE_16M", "rw", "16 bits: memory above 16 MiB, in 64 KiB, at most 65535"),
    Register(0x38, "BOOT_2", "rw", "bits 7:4: third device to boot (1 floppy, 2 disk, 3 CD); bit 0: any floppy"),
    Register(0x39, "TRANSLATION", "rw", "two bits for each IDE disk: 0 as it is, 1 LBA-assisted"),
    Register(0x3D, "BOOT_1", "rw", "first device to boot in bits 3:0, second in bits 7:4"),
    Register(0x5B, "ABOVE_4G", "rw", "24 bits: memory above 4 GiB, in 64 KiB"),
    Register(0x5F, "MORE_CPUS", "rw", "processors less one"),
)
"""The bytes of CMOS memory; those from 38h on are as SeaBIOS reads them on an emulated PC (``src/hw/rtc.h``)."""

CRYSTAL_HZ = 32_768
SECONDS, MINUTES, HOURS, WEEKDAY, DAY, MONTH, YEAR = 0, 2, 4, 6, 7, 8, 9
SECONDS_ALARM, MINUTES_ALARM, HOURS_ALARM = 1, 3, 5
A, B, C, D, CENTURY = 0x0A, 0x0B, 0x0C, 0x0D, 0x32
A_UIP, A_DIVIDER_RESET, A_RATE = 0x80, 0x60, 0x0F
B_SET, B_PIE, B_AIE, B_UIE, B_BINARY, B_24H = 0x80, 0x40, 0x20, 0x10, 0x04, 0x02
C_IRQF, C_PF, C_AF, C_UF = 0x80, 0x40, 0x20, 0x10
D_VRT = 0x80
HOUR_PM = 0x80
ANY = 0xC0
UIP_TICKS = 73
"""UIP is set for 244 us before and for the 1984 us of each update (data sheet, "Update cycle")."""
SPLIT_SECOND_NS = NS_PER_S // 2
"""The first update comes half a second after the divider is released (data sheet, register A)."""
EQUIPMENT = 0x06
"""Coprocessor and pointing device."""
START = datetime(2000, 1, 1)
"""The date at power-on, unless the board says otherwise."""

_MONTH_DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


@dataclass(slots=True)
class Mc146818State:
    """All that the clock remembers. ``last_tick`` is how far the registers have been brought."""

    index: int = number(0, 0x7F)
    cmos: bytearray = field(default_factory=lambda: bytearray(128), metadata=data(128, exact=True))
    origin_ns: int = time_ns()
    last_tick: int = number(0, 1 << 46)


class Mc146818(ByteDevice):
    """The RTC at ports 70h-71h; ``line`` is its interrupt (IRQ 8).

    ``memory_size`` (below 4 GiB) and ``above_4g``, in bytes, are what firmware would have left in CMOS about the
    machine's memory. ``start`` is the date and time at power-on.
    """

    def __init__(
        self,
        line: Line,
        clock: Clock,
        memory_size: int,
        start: datetime = START,
        name: str = "rtc",
        above_4g: int = 0,
    ) -> None:
        self.name = name
        self.line = line
        self.clock = clock
        self.start = start
        self.memory_size = memory_size
        self.above_4g = above_4g
        self._preset: dict[int, int] = {}
        self._alarm = Alarm(clock, self._look)
        self._readers = [all_ones, self._read_data]
        self._writers = [self._write_index, self._write_data]
        self._special_writes: dict[int, Callable[[int], None]] = {
            A: self._write_a, B: self._write_b, C: self._ignore, D: self._ignore,
        }  # fmt: skip
        self._s = self._power_on()

    def preset(self, values: Mapping[int, int]) -> None:
        """Put bytes into CMOS, by index (10h to 7fh), now and after each reset: what battery-backed memory knows."""
        if any(not 0x10 <= at <= 0x7F or not 0 <= value <= 0xFF for at, value in values.items()):
            raise DeviceError(f"{self.name}: {values!r} are not bytes by CMOS index (10h to 7fh).")
        self._preset.update(values)
        self._apply_preset(self._s.cmos)

    def _apply_preset(self, cmos: bytearray) -> None:
        for at, value in self._preset.items():
            cmos[at] = value
        cmos[0x2E:0x30] = (sum(cmos[0x10:0x2E]) & 0xFFFF).to_bytes(2, "big")

    # ---- device contract

    def reset(self) -> None:
        """Power-on state: the date is ``start`` again, and CMOS is as firmware left it."""
        self._s = self._power_on()
        self._show()

    def state(self) -> Mc146818State:
        """A copy of all mutable state."""
        return copy.deepcopy(self._s)

    def restore(self, state: Mc146818State) -> None:
        """Take over ``state``; raises `DeviceError` if it is not one of this device."""
        self._s = adopt(self.name, Mc146818State, state)
        self._show()

    def _power_on(self) -> Mc146818State:
        s = Mc146818State(origin_ns=self.clock.now_ns)
        m = s.cmos
        m[A], m[B], m[D] = 0x26, B_24H, D_VRT
        when = self.start
        for register, value in (
            (SECONDS, when.second), (MINUTES, when.minute), (HOURS, when.hour), (WEEKDAY, when.isoweekday() % 7 + 1),
            (DAY, when.day), (MONTH, when.month), (YEAR, when.year % 100), (CENTURY, when.year // 100),
        ):  # fmt: skip
            m[register] = _to_bcd(value)
        m[0x14] = EQUIPMENT
        above_1m = max(self.memory_size - MIB, 0)
        above_16m = max(self.memory_size - 16 * MIB, 0)
        for at, value in (
            (0x15, min(self.memory_size // KIB, 640)),
            (0x17, above_1m // KIB),
            (0x30, above_1m // KIB),
            (0x34, above_16m // (64 * KIB)),
        ):
            m[at : at + 2] = min(value, 0xFFFF).to_bytes(2, "little")
        m[0x5B:0x5E] = min(self.above_4g // (64 * KIB), 0xFFFFFF).to_bytes(3, "little")
        self._apply_preset(m)
        return s

    # ---- time

    def _tick(self) -> int:
        """Crystal periods since the divider chain was zero; held there while it is reset."""
        if self._s.cmos[A] & A_DIVIDER_RESET == A_DIVIDER_RESET:
            return self._s.last_tick
        return (self.clock.now_ns - self._s.origin_ns) * CRYSTAL_HZ // NS_PER_S

    def _period(self) -> int:
        """Crystal periods between periodic interrupts, 0 for none (data sheet, table 5)."""
        rate = self._s.cmos[A] & A_RATE
        if rate == 0:
            return 0
        return 1 << (rate + 6 if rate < 3 else rate - 1)

    def _sync(self) -> int:
        """Bring the registers and flags to now, and return now in crystal periods."""
        s = self._s
        m = s.cmos
        tick = self._tick()
        if tick <= s.last_tick:
            return s.last_tick
        period = self._period()
        if period and tick // period > s.last_tick // period:
            m[C] |= C_PF
        seconds = tick // CRYSTAL_HZ - s.last_tick // CRYSTAL_HZ
        if seconds and not m[B] & B_SET:
            m[C] |= C_UF
            alarm = self._seconds_to_alarm()
            if alarm is not None and alarm <= seconds:
                m[C] |= C_AF
            self._advance(seconds)
        s.last_tick = tick
        return tick

    def _number(self, raw: int) -> int:
        return raw if self._s.cmos[B] & B_BINARY else (raw >> 4) * 10 + (raw & 15)

    def _raw(self, value: int) -> int:
        return value if self._s.cmos[B] & B_BINARY else _to_bcd(value)

    def _hour(self, raw: int) -> int:
        if self._s.cmos[B] & B_24H:
            return self._number(raw)
        return self._number(raw & ~HOUR_PM) % 12 + (12 if raw & HOUR_PM else 0)

    def _raw_hour(self, hour: int) -> int:
        if self._s.cmos[B] & B_24H:
            return self._raw(hour)
        return self._raw((hour + 11) % 12 + 1) | (HOUR_PM if hour >= 12 else 0)

    def _time_of_day(self) -> int:
        """Seconds since midnight; what is out of range counts as the largest value in range."""
        m = self._s.cmos
        hour, minute, second = self._hour(m[HOURS]), self._number(m[MINUTES]), self._number(m[SECONDS])
        return min(hour, 23) * 3600 + min(minute, 59) * 60 + min(second, 59)

    def _advance(self, seconds: int) -> None:
        """Let ``seconds`` pass in the time registers."""
        m = self._s.cmos
        days, rest = divmod(self._time_of_day() + seconds, 86_400)
        m[HOURS] = self._raw_hour(rest // 3600)
        m[MINUTES] = self._raw(rest // 60 % 60)
        m[SECONDS] = self._raw(rest % 60)
        if days == 0:
            return
        m[WEEKDAY] = self._raw((max(self._number(m[WEEKDAY]), 1) - 1 + days) % 7 + 1)
        day, month = max(self._number(m[DAY]), 1), min(max(self._number(m[MONTH]), 1), 12)
        year = self._number(m[YEAR]) % 100
        for _ in range(days):
            day += 1
            if day > _MONTH_DAYS[month - 1] + (month == 2 and year % 4 == 0):
                day, month = 1, month + 1
            if month > 12:
                month, year = 1, year + 1
            if year > 99:
                year = 0
                century = (m[CENTURY] >> 4) * 10 + (m[CENTURY] & 15)
                m[CENTURY] = _to_bcd((century + 1) % 100)
        m[DAY], m[MONTH], m[YEAR] = self._raw(day), self._raw(month), self._raw(year)

    def _seconds_to_alarm(self) -> int | None:
        """How many updates until the time matches the alarm, 1 to 86400, or None if it never does."""
        m = self._s.cmos
        second = None if m[SECONDS_ALARM] >= ANY else self._number(m[SECONDS_ALARM])
        minute = None if m[MINUTES_ALARM] >= ANY else self._number(m[MINUTES_ALARM])
        hour = None if m[HOURS_ALARM] >= ANY else self._hour(m[HOURS_ALARM])
        if (second or 0) > 59 or (minute or 0) > 59 or (hour or 0) > 23:
            return None
        first = self._time_of_day() + 1
        at = first
        while True:
            if hour is not None and at // 3600 % 24 != hour:
                at = (at // 3600 + 1) * 3600
            elif minute is not None and at // 60 % 60 != minute:
                at = (at // 60 + 1) * 60
            elif second is not None and at % 60 != second:
                at += 1
            else:
                return at - first + 1

    # ---- interrupts

    def _look(self) -> None:
        """The alarm rang: see what time it is."""
        self._sync()
        self._show()

    def _show(self) -> None:
        """Drive the line, and ask for the next moment at which a flag rises that is enabled and not yet set."""
        s = self._s
        m = s.cmos
        enabled = m[B] & (C_PF | C_AF | C_UF)
        m[C] = m[C] & 0x70 | (C_IRQF if m[C] & enabled else 0)
        self.line.set(bool(m[C] & C_IRQF))
        waiting = enabled & ~m[C]
        if m[A] & A_DIVIDER_RESET == A_DIVIDER_RESET:
            waiting = 0
        wakes = []
        period = self._period()
        if waiting & C_PF and period:
            wakes.append((s.last_tick // period + 1) * period)
        if not m[B] & B_SET:
            if waiting & C_UF:
                wakes.append((s.last_tick // CRYSTAL_HZ + 1) * CRYSTAL_HZ)
            elif waiting & C_AF:
                seconds = self._seconds_to_alarm()
                if seconds is not None:
                    wakes.append((s.last_tick // CRYSTAL_HZ + seconds) * CRYSTAL_HZ)
        if wakes:
            self._alarm.set(s.origin_ns - (-min(wakes) * NS_PER_S // CRYSTAL_HZ))
        else:
            self._alarm.clear()

    # ---- registers

    def _write_index(self, value: int) -> None:
        self._s.index = value & 0x7F

    def _read_data(self) -> int:
        s = self._s
        index = s.index
        if index <= C or index == CENTURY:
            tick = self._sync()
            if index == A:
                updating = tick % CRYSTAL_HZ >= CRYSTAL_HZ - UIP_TICKS and not s.cmos[B] & B_SET
                return s.cmos[A] | (A_UIP if updating else 0)
            if index == C:
                self._show()
                value = s.cmos[C]
                s.cmos[C] = 0
                self._show()
                return value
        return s.cmos[index]

    def _write_data(self, value: int) -> None:
        index = self._s.index
        if index > D:
            self._s.cmos[index] = value
            return
        self._sync()
        special = self._special_writes.get(index)
        if special is None:
            self._s.cmos[index] = value
        else:
            special(value)
        self._show()

    def _write_a(self, value: int) -> None:
        s = self._s
        held = s.cmos[A] & A_DIVIDER_RESET == A_DIVIDER_RESET
        s.cmos[A] = value & ~A_UIP & 0xFF
        if held and value & A_DIVIDER_RESET != A_DIVIDER_RESET:
            s.origin_ns = self.clock.now_ns - SPLIT_SECOND_NS
            s.last_tick = CRYSTAL_HZ // 2

    def _write_b(self, value: int) -> None:
        self._s.cmos[B] = value & ~B_UIE if value & B_SET else value

    def _ignore(self, value: int) -> None:
        """Registers C and D cannot be written."""


def _to_bcd(value: int) -> int:
    return value // 10 % 10 << 4 | value % 10
