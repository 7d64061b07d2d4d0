"""The real-time clock and CMOS memory: Motorola MC146818A.

Source: MC146818A data sheet (ADI1212), "Programmer's model"; Intel 82371SB (PIIX3) data sheet 2.5.7 for the PC's 128
bytes and ports 70h and 71h; Ralf Brown's CMOS list for the bytes that PC firmware keeps there.

Time starts at ``start`` and runs with the VM's clock; no guest ever sees the host's date. The time registers are kept
raw, as the guest wrote them (`_rtc_time`), and are advanced when somebody looks (or when an interrupt is due), so that
an idle clock costs nothing. All is counted in periods of the 32.768 kHz crystal since ``origin``, when the divider
chain was zero.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from functools import cached_property, lru_cache

from hypervisor.bus import Clock, Line
from hypervisor.devices.parts import rtc_time
from hypervisor.devices.parts.common import ByteDevice, Register, RegisterTable, all_ones
from hypervisor.devices.parts.device_state import adopt
from hypervisor.devices.parts.rtc_time import B_24H, CENTURY, B
from hypervisor.errors import DeviceError
from hypervisor.state import InRecord, data, deadline, number, record, time_ns
from hypervisor.units import KIB, MIB, NS_PER_S

SIZE = 2
"""Bytes of the register window (ports 70h-71h)."""

REGISTERS = (
    Register(0, "INDEX", "w", "70h: bits 6:0 choose a CMOS byte, bit 7 masks NMI; reads as all ones"),
    Register(1, "DATA", "rw", "71h: the chosen byte"),
)
A, C, D = 0x0A, 0x0C, 0x0D
FLOPPIES, EQUIPMENT, BASE_KIB, EXTENDED_KIB, CHECKSUM, EXTENDED_KIB_POST, ABOVE_16M = (
    0x10, 0x14, 0x15, 0x17, 0x2E, 0x30, 0x34,
)  # fmt: skip
BOOT_2, TRANSLATION, BOOT_1, ABOVE_4G, MORE_CPUS = 0x38, 0x39, 0x3D, 0x5B, 0x5F
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
    Register(A, "A", "rw", "UIP, divider, periodic rate"),
    Register(B, "B", "rw", "SET, PIE, AIE, UIE, SQWE, binary, 24 hours, daylight saving (stored only)"),
    Register(C, "C", "rc", "IRQF, PF, AF, UF"),
    Register(D, "D", "r", "VRT: memory and time are valid"),
    Register(FLOPPIES, "FLOPPIES", "rw", "types of the drives: A in bits 7:4, B in bits 3:0; 1 to 5 are 360K to 2.88M"),
    Register(
        EQUIPMENT, "EQUIPMENT", "rw", "0 floppy drives, 1 coprocessor, 2 PS/2 pointing device port, 7:6 drives less one"
    ),
    Register(BASE_KIB, "BASE_KIB", "rw", "16 bits: memory below 640 KiB, in KiB"),
    Register(EXTENDED_KIB, "EXTENDED_KIB", "rw", "16 bits: memory above 1 MiB, in KiB, at most 65535"),
    Register(CHECKSUM, "CHECKSUM", "rw", "16 bits, high byte first: sum of 10h to 2dh"),
    Register(EXTENDED_KIB_POST, "EXTENDED_KIB_POST", "rw", "16 bits: as EXTENDED_KIB"),
    Register(CENTURY, "CENTURY", "rw", "BCD; follows when the year wraps"),
    Register(ABOVE_16M, "ABOVE_16M", "rw", "16 bits: memory above 16 MiB, in 64 KiB, at most 65535"),
    Register(BOOT_2, "BOOT_2", "rw", "bits 7:4: third device to boot (1 floppy, 2 disk, 3 CD); bit 0: any floppy"),
    Register(TRANSLATION, "TRANSLATION", "rw", "two bits for each IDE disk: 0 as it is, 1 LBA-assisted"),
    Register(BOOT_1, "BOOT_1", "rw", "first device to boot in bits 3:0, second in bits 7:4"),
    Register(ABOVE_4G, "ABOVE_4G", "rw", "24 bits: memory above 4 GiB, in 64 KiB"),
    Register(MORE_CPUS, "MORE_CPUS", "rw", "processors less one"),
)
"""The bytes of CMOS memory; those from 38h on are as SeaBIOS reads them on an emulated PC (``src/hw/rtc.h``)."""

CRYSTAL_HZ = 32_768
A_UIP, A_DIVIDER_RESET, A_RATE = 0x80, 0x60, 0x0F
B_SET, B_UIE = 0x80, 0x10
C_IRQF, C_PF, C_AF, C_UF = 0x80, 0x40, 0x20, 0x10
D_VRT = 0x80
UIP_TICKS = 73
"""UIP is set for 244 us before and for the 1984 us of each update (data sheet, "Update cycle")."""
SPLIT_SECOND_NS = NS_PER_S // 2
"""The first update comes half a second after the divider is released (data sheet, register A)."""
ALWAYS_THERE = 0x06
"""Bits of `EQUIPMENT`: coprocessor and pointing device."""
START = datetime(2000, 1, 1)
"""The date at power-on, unless the board says otherwise."""


@record
class Mc146818State:
    """All that the clock remembers. ``last_tick`` is how far the registers have been brought; ``due`` is when it looks
    next, negative for never."""

    index: int = number(0, 0x7F)
    cmos: bytearray = data(128, exact=True)
    origin_ns: int = time_ns()
    last_tick: int = number(0, 1 << 46)
    due: int = deadline()


@lru_cache(maxsize=64)
def _power_on(start: datetime, memory_size: int, above_4g: int) -> bytes:
    """CMOS as firmware leaves it: of machines that are alike it is the same."""
    m = Mc146818State().cmos
    m[A], m[B], m[D] = 0x26, B_24H, D_VRT
    rtc_time.set_date(m, start)
    m[EQUIPMENT] = ALWAYS_THERE
    above_1m = max(memory_size - MIB, 0)
    above_16m = max(memory_size - 16 * MIB, 0)
    for at, value in (
        (BASE_KIB, min(memory_size // KIB, 640)),
        (EXTENDED_KIB, above_1m // KIB),
        (EXTENDED_KIB_POST, above_1m // KIB),
        (ABOVE_16M, above_16m // (64 * KIB)),
    ):
        m[at : at + 2] = min(value, 0xFFFF).to_bytes(2, "little")
    m[ABOVE_4G : ABOVE_4G + 3] = min(above_4g // (64 * KIB), 0xFFFFFF).to_bytes(3, "little")
    return bytes(m)


class Mc146818(ByteDevice, InRecord[Mc146818State]):
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
        self._alarm = clock.timer(name, "alarm", self._look)
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
        cmos[CHECKSUM : CHECKSUM + 2] = (sum(cmos[FLOPPIES:CHECKSUM]) & 0xFFFF).to_bytes(2, "big")

    @cached_property
    def _special_writes(self) -> dict[int, Callable[[int], None]]:
        return {A: self._write_a, B: self._write_b, C: self._ignore, D: self._ignore}

    def _registers(self) -> RegisterTable:
        return [all_ones, self._read_data], [self._write_index, self._write_data]

    # ---- device contract

    def reset(self) -> None:
        """Power-on state: the date is ``start`` again, and CMOS is as firmware left it."""
        self._s = self._power_on()
        self._show()

    def _up_to_date(self) -> Mc146818State:
        self._s.due = self._alarm.due
        return self._s

    def restore(self, state: Mc146818State) -> None:
        """Take over ``state``; raises `DeviceError` if it is not one of this device."""
        self._s = adopt(self.name, Mc146818State, state)
        self.line.set(bool(self._s.cmos[C] & C_IRQF))
        self._alarm.put_back(self._s.due)

    def _power_on(self) -> Mc146818State:
        cmos = bytearray(_power_on(self.start, self.memory_size, self.above_4g))
        self._apply_preset(cmos)
        return Mc146818State(cmos=cmos, origin_ns=self.clock.now_ns)

    # ---- time

    def _tick(self) -> int:
        """Crystal periods since the divider chain was zero; held there while it is reset."""
        if _held(self._s.cmos):
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
            alarm = rtc_time.seconds_to_alarm(m)
            if alarm is not None and alarm <= seconds:
                m[C] |= C_AF
            rtc_time.advance(m, seconds)
        s.last_tick = tick
        return tick

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
        if _held(m):
            waiting = 0
        wakes = []
        period = self._period()
        if waiting & C_PF and period:
            wakes.append((s.last_tick // period + 1) * period)
        if not m[B] & B_SET:
            if waiting & C_UF:
                wakes.append((s.last_tick // CRYSTAL_HZ + 1) * CRYSTAL_HZ)
            elif waiting & C_AF:
                seconds = rtc_time.seconds_to_alarm(m)
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
        held = _held(s.cmos)
        s.cmos[A] = value & ~A_UIP & 0xFF
        if held and not _held(s.cmos):
            s.origin_ns = self.clock.now_ns - SPLIT_SECOND_NS
            s.last_tick = CRYSTAL_HZ // 2

    def _write_b(self, value: int) -> None:
        self._s.cmos[B] = value & ~B_UIE if value & B_SET else value

    def _ignore(self, value: int) -> None:
        """Registers C and D cannot be written."""


def _held(m: bytearray) -> bool:
    """Whether the divider chain is held in reset."""
    return m[A] & A_DIVIDER_RESET == A_DIVIDER_RESET
