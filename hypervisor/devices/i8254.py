"""The timer: Intel 8254, three counters at 1.193182 MHz, OUT0 on an interrupt line.

Source: Intel 82C54 data sheet (231244-006). The counters' arithmetic is in `_pit_counter`; here are the bus, the
latches and the clock. The CLK pulses are numbered from the VM's power-on with integer arithmetic, so that no error
adds up.

``line`` follows OUT0, with one liberty: it falls late, at the latest just before it rises again or when the guest
next writes to the counter. An edge-triggered input acts on the rise alone, and a period costs one timer instead of
two. A timer that the host serves late (wall clock) gives one edge for all the rises missed, and the next one on the
grid.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from hypervisor.bus import Clock, Line, TimedRegister
from hypervisor.devices.parts import pit_counter as counter
from hypervisor.devices.parts.common import ByteDevice, Register, RegisterTable, all_ones
from hypervisor.devices.parts.device_state import adopt, refuse
from hypervisor.devices.parts.pit_counter import LATCH_NOTHING, PIT_HZ, RW_BOTH, RW_HIGH, CounterState
from hypervisor.state import copied, deadline, flag, parts, record
from hypervisor.units import NS_PER_S

SIZE = 4
"""Bytes of the register window (ports 40h-43h)."""

REGISTERS = (
    Register(0, "COUNTER0", "rw", "count of counter 0 (interrupt)"),
    Register(1, "COUNTER1", "rw", "count of counter 1 (memory refresh)"),
    Register(2, "COUNTER2", "rw", "count of counter 2 (speaker)"),
    Register(3, "CONTROL", "w", "control word, counter latch, read-back; reads as all ones"),
)

READ_BACK = 3
READ_BACK_NO_COUNT, READ_BACK_NO_STATUS = 0x20, 0x10


def ticks_at(now_ns: int) -> int:
    """The number of the last CLK pulse at or before ``now_ns``."""
    return now_ns * PIT_HZ // NS_PER_S


def time_of(tick: int) -> int:
    """The first nanosecond at which CLK pulse ``tick`` has happened."""
    return -(-tick * NS_PER_S // PIT_HZ)


@record
class I8254State:
    """All that the timer remembers."""

    counters: list[CounterState] = parts(CounterState, 3, lambda: _power_on())
    out0: bool = flag()
    """The level of the line, which falls late."""
    rise_at: int = deadline()
    """When it is to rise; negative: it is not."""


class I8254(ByteDevice):
    """The PIT at ports 40h-43h; ``line`` is OUT0 (IRQ 0). The gates are high, but counter 2's starts low (port 61h)."""

    def __init__(self, line: Line, clock: Clock, name: str = "pit") -> None:
        self.name = name
        self.line = line
        self.clock = clock
        self._alarm = clock.timer(name, "out0", self._rise)
        self._c = _power_on()
        self.counter2_written: Callable[[], object] = lambda: None
        """Called when the guest has programmed counter 2, which drives the speaker."""
        self.timed_registers = {n: TimedRegister(1) for n in range(3)}
        """The counters' ports. Which of two bytes comes next is known there alone."""
        self._show_all()

    def _registers(self) -> RegisterTable:
        readers = [partial(self._read_counter, n) for n in range(3)]
        writers = [partial(self._write_counter, n) for n in range(3)]
        return [*readers, all_ones], [*writers, self._write_control]

    # ---- the other side

    def set_gate(self, number: int, level: bool) -> None:
        """Drive the gate of counter ``number`` (0 to 2)."""
        tick, c = self._settled(number)
        if number == 0:
            self.line.set(counter.out(c, tick))
        counter.set_gate(c, level, tick)
        if number == 0:
            self._show(tick)
        self._show_reads(number)

    def out(self, number: int) -> bool:
        """The level of OUT of counter ``number`` (0 to 2) now."""
        tick, c = self._settled(number)
        return counter.out(c, tick)

    def period(self, number: int) -> int:
        """The CLK pulses of a period that counter ``number`` is set to; 0 if it makes no square wave."""
        c = self._c[number]
        count = c.next_count or c.count
        return count if c.mode == 3 else 0

    # ---- device contract

    def reset(self) -> None:
        """Power-on state: no counter has a count, OUT0 is low (the data sheet leaves it undefined)."""
        self._c = _power_on()
        self._show(ticks_at(self.clock.now_ns))
        self._show_all()

    def state(self) -> I8254State:
        """A copy of all mutable state."""
        for number in range(3):
            self._see_reads(number)
        return copied(I8254State(self._c, self.line.level, self._alarm.due))

    def is_still(self, state: I8254State) -> bool:
        """See `hypervisor.state.InRecord`."""
        for number in range(3):
            self._see_reads(number)
        levels = self.line.level, self._alarm.due
        return levels == (state.out0, state.rise_at) and self._c == state.counters

    def restore(self, state: I8254State) -> None:
        """Take over ``state``; raises `DeviceError` if it is not one of this device."""
        mine = adopt(self.name, I8254State, state)
        if not all(map(counter.consistent, mine.counters)):
            raise refuse(self.name, "the control word, the mode and the count of a counter contradict each other")
        self._c = mine.counters
        self.line.set(mine.out0)
        self._alarm.put_back(mine.rise_at)
        self._show_all()

    # ---- reads that are served without us

    def _see_reads(self, number: int) -> None:
        self._c[number].read_high = self.timed_registers[number].high

    def _show_reads(self, number: int) -> None:
        counter.show(self._c[number], self.timed_registers[number])

    def _show_all(self) -> None:
        for number in range(3):
            self._show_reads(number)

    # ---- OUT0

    def _settled(self, number: int) -> tuple[int, CounterState]:
        tick = ticks_at(self.clock.now_ns)
        c = self._c[number]
        self._see_reads(number)
        if c.next_count:
            counter.settle(c, tick)
        return tick, c

    def _show(self, tick: int) -> None:
        """Drive the line to OUT0 and ask for the next rise."""
        c = self._c[0]
        self.line.set(counter.out(c, tick))
        self._arm(c, tick)

    def _arm(self, c: CounterState, tick: int) -> None:
        rise = counter.next_rise(c, tick)
        if rise is None:
            self._alarm.clear()
        else:
            self._alarm.set(time_of(rise))

    def _rise(self) -> None:
        tick, c = ticks_at(self.clock.now_ns), self._c[0]
        settles = c.next_count != 0
        if settles:
            self._settled(0)
        self.line.set(False)
        self.line.set(counter.out(c, tick) or c.mode in counter.PERIODIC)
        self._arm(c, tick)
        if settles:  # else it goes on counting as it did
            self._show_reads(0)

    # ---- registers

    def _write_control(self, value: int) -> None:
        number = value >> 6
        if number == READ_BACK:
            for n in range(3):
                if value & 2 << n:
                    self._latch(n, not value & READ_BACK_NO_COUNT, not value & READ_BACK_NO_STATUS)
        elif not value & 0x30:
            self._latch(number, True, False)
        else:
            tick, c = self._settled(number)
            if number == 0:
                self.line.set(counter.out(c, tick))
            counter.write_control(c, value & 0x3F, tick)
            self._show_reads(number)
            if number == 0:
                self._show(tick)
            elif number == 2:
                self.counter2_written()

    def _latch(self, number: int, count: bool, status: bool) -> None:
        """A second latch before the first is read changes nothing (data sheet, "Counter latch command")."""
        tick, c = self._settled(number)
        if count and c.latched_count == LATCH_NOTHING:
            c.latched_count = counter.value(c, tick)
        if status and c.latched_status == LATCH_NOTHING:
            c.latched_status = counter.status(c, tick)
        self._show_reads(number)

    def _read_counter(self, number: int) -> int:
        tick, c = self._settled(number)
        value = self._take_byte(c, tick)
        self._show_reads(number)
        return value

    @staticmethod
    def _take_byte(c: CounterState, tick: int) -> int:
        if c.latched_status != LATCH_NOTHING:
            value, c.latched_status = c.latched_status, LATCH_NOTHING
            return value
        value = c.latched_count if c.latched_count != LATCH_NOTHING else counter.value(c, tick)
        order = c.control >> 4
        high = order == RW_HIGH or c.read_high
        if order == RW_BOTH:
            c.read_high = not c.read_high
        if not c.read_high:
            c.latched_count = LATCH_NOTHING
        return value >> 8 if high else value & 0xFF

    def _write_counter(self, number: int, value: int) -> None:
        tick, c = self._settled(number)
        if number:
            counter.write_byte(c, value, tick)
            self._show_reads(number)
            if number == 2:
                self.counter2_written()
            return
        self.line.set(counter.out(c, tick))  # first what was, then what the write makes of it: the true edges
        counter.write_byte(c, value, tick)
        self._show(tick)
        self._show_reads(0)


def _power_on() -> list[CounterState]:
    return [CounterState(), CounterState(), CounterState(gate=False)]
