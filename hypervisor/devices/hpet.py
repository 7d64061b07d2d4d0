"""The high precision event timers: a counter at 100 MHz and three comparators.

Source: IA-PC HPET (High Precision Event Timers) Specification 1.0a, sections 2.2 and 2.3.

Decisions of the model: every timer can be periodic and has 64 bits; there are no messages instead of interrupt lines.
Registers are written in 32 or 64 bits; narrower writes are ignored. A comparator matches when the counter reaches it,
so that one that was set too late matches when the counter has wrapped. A write of a periodic timer's comparator sets
its period, and with "set value" the next match, too.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from hypervisor.bus import Clock, Line, TimedRegister
from hypervisor.devices.parts import hpet_registers as r
from hypervisor.devices.parts.device_state import adopt
from hypervisor.devices.parts.hpet_registers import REGISTERS, SIZE
from hypervisor.state import InRecord, deadline, number, parts, record, time_ns
from hypervisor.units import NS_PER_S

_LIMIT_NS = 1 << 62
_WORD, _QWORD = (1 << 32) - 1, (1 << 64) - 1
_TIMED = (
    r.CAPABILITIES, r.CONFIGURATION, r.STATUS, r.COUNTER,
    *(r.TIMER + n * r.TIMER_SIZE + at for n in range(r.TIMERS) for at in (r.TIMER_CONFIGURATION, r.COMPARATOR)),
)  # fmt: skip
MIN_PERIOD = 100
"""Ticks: a periodic timer matches at most each microsecond, and what it would have done in between counts as once."""


@record
class ComparatorState:
    """One timer: what was written, and when it matches next."""

    config: int = number(0, _WORD)
    comparator: int = number(0, _QWORD)
    period: int = number(0, _QWORD)
    due: int = deadline()
    """When it matches next, negative for never: an alarm may come late, and a match that has been missed must not be
    taken for one that is a whole turn of the counter away."""


@record
class HpetState:
    """The counter was ``counter`` at ``since_ns``, and has run since then if it is enabled."""

    config: int = number(0, 3)
    status: int = number(0, (1 << r.TIMERS) - 1)
    counter: int = number(0, _QWORD)
    since_ns: int = time_ns()
    timers: list[ComparatorState] = parts(ComparatorState, r.TIMERS)


class Hpet(InRecord[HpetState]):
    """The block of registers. ``pin(number, level)`` drives an input of the I/O APIC.

    ``legacy`` are the wires that timers 0 and 1 drive while they replace the PIT and the RTC; ``replace(on)`` is called
    when that changes.
    """

    def __init__(
        self,
        clock: Clock,
        pin: Callable[[int, bool], object],
        legacy: tuple[Line, Line],
        replace: Callable[[bool], object],
        name: str = "hpet",
    ) -> None:
        self.name = name
        self._clock = clock
        self._pin = pin
        self._legacy = legacy
        self._replace = replace
        self._alarms = [clock.timer(name, f"match{n}", partial(self._alarm, n)) for n in range(r.TIMERS)]
        self._now_ns = clock.now_ns
        """When the access or match came that is being dealt with. All of it happens at this one time."""
        self._s = HpetState()
        self.timed_registers = {at: TimedRegister(8) for at in _TIMED}
        self._show()

    # ---- device contract

    def read(self, offset: int, size: int) -> int:
        """See `hypervisor.bus.Device.read`."""
        self._now_ns = self._clock.now_ns
        return self._register(offset & ~7) >> 8 * (offset & 7) & (1 << 8 * size) - 1

    def write(self, offset: int, size: int, value: int) -> None:
        """See `hypervisor.bus.Device.write`."""
        if size < 4 or offset % size:
            return
        shift = 8 * (offset & 7)
        mask = (1 << 8 * size) - 1 << shift
        self._now_ns = self._clock.now_ns
        for n, timer in enumerate(self._s.timers):
            if 0 <= timer.due <= self._now_ns:
                self._match(n)
        self._write(offset & ~7, value << shift & mask, mask)

    def reset(self) -> None:
        """Power-on state: the counter stands still at 0."""
        self._now_ns = self._clock.now_ns
        self._release()
        self._s = HpetState()
        self._replace(False)
        self._go_on()
        self._show()

    def restore(self, state: HpetState) -> None:
        """Take over ``state``; raises `DeviceError` if it is not one of this device."""
        new = adopt(self.name, HpetState, state)
        before, was_legacy = self._asserted(), self._s.config & r.LEGACY
        self._s = new
        after = self._asserted()
        for wire in sorted(before - after):
            self._set(wire, False)
        if new.config & r.LEGACY != was_legacy:
            self._replace(not was_legacy)
        for wire in sorted(after):
            self._set(wire, True)
        for alarm, timer in zip(self._alarms, new.timers, strict=True):
            alarm.put_back(timer.due)
        self._show()

    # ---- registers

    def _show(self) -> None:
        """Say what reads give from now on."""
        s, registers = self._s, self.timed_registers
        if s.config & r.ENABLE:
            registers[r.COUNTER].counts(NS_PER_S // r.TICK_NS, start=s.counter, since_ns=s.since_ns)
        else:
            registers[r.COUNTER].holds(s.counter)
        registers[r.CAPABILITIES].holds(self._register(r.CAPABILITIES))
        registers[r.CONFIGURATION].holds(s.config)
        for n in range(r.TIMERS):
            self._show_timer(n)

    def _show_timer(self, n: int) -> None:
        """The part of that which concerns one timer. A comparator that a read moves on is to be asked for."""
        timer, registers, at = self._s.timers[n], self.timed_registers, r.TIMER + n * r.TIMER_SIZE
        registers[r.STATUS].holds(self._s.status)
        registers[at + r.TIMER_CONFIGURATION].holds(r.TIMER_ABILITIES | timer.config)
        if self._moves(timer):
            registers[at + r.COMPARATOR].active = False
        else:
            registers[at + r.COMPARATOR].holds(timer.comparator)

    def _register(self, at: int) -> int:
        if at == r.CAPABILITIES:
            return r.FEMTOSECONDS << 32 | r.ID
        if at == r.CONFIGURATION:
            return self._s.config
        if at == r.STATUS:
            return self._s.status
        if at == r.COUNTER:
            return self._count()
        n, register = divmod(at - r.TIMER, r.TIMER_SIZE)
        if not 0 <= n < r.TIMERS:
            return 0
        timer = self._s.timers[n]
        if register == r.TIMER_CONFIGURATION:
            return r.TIMER_ABILITIES | timer.config
        if register == r.COMPARATOR:
            self._catch_up(timer)
            return timer.comparator
        return 0

    def _write(self, at: int, value: int, mask: int) -> None:
        """Write the bits of ``mask`` of the 64-bit register at ``at``."""
        s = self._s
        if at == r.STATUS:
            self._release()
            s.status &= ~value
        elif at == r.COUNTER:
            if not s.config & r.ENABLE:
                s.counter = s.counter & ~mask | value
        elif at == r.CONFIGURATION and mask & _WORD:
            s.counter, s.since_ns = self._count(), self._now_ns
            self._release()
            s.config = value & (r.ENABLE | r.LEGACY)
            self._replace(bool(s.config & r.LEGACY))
        else:
            n, register = divmod(at - r.TIMER, r.TIMER_SIZE)
            if not 0 <= n < r.TIMERS:
                return
            self._release()
            self._catch_up(s.timers[n])
            if register == r.TIMER_CONFIGURATION and mask & _WORD:
                self._configure(n, value)
            elif register == r.COMPARATOR:
                self._compare(s.timers[n], value, mask)
            self._go_on()
            self._show_timer(n)
            return
        self._go_on()
        self._show()

    def _configure(self, n: int, value: int) -> None:
        timer = self._s.timers[n]
        route = value >> r.ROUTE_SHIFT & r.ROUTE_MASK
        if not r.ROUTES >> route & 1:
            route = timer.config >> r.ROUTE_SHIFT & r.ROUTE_MASK  # what is not possible does not read back
        timer.config = value & r.WRITABLE | route << r.ROUTE_SHIFT
        timer.comparator &= self._width(timer)
        timer.period &= self._width(timer)
        if not value & r.LEVEL:
            self._s.status &= ~(1 << n)

    def _compare(self, timer: ComparatorState, value: int, mask: int) -> None:
        periodic = timer.config & r.PERIODIC
        width = self._width(timer)
        if not periodic or timer.config & r.SET_VALUE:
            timer.comparator = (timer.comparator & ~mask | value) & width
        if periodic:
            timer.period = (timer.period & ~mask | value) & width
        timer.config &= ~r.SET_VALUE

    # ---- time

    @staticmethod
    def _width(timer: ComparatorState) -> int:
        """The bits that a timer compares."""
        return _WORD if timer.config & r.ONLY_32_BITS else _QWORD

    def _count(self) -> int:
        s = self._s
        if not s.config & r.ENABLE:
            return s.counter
        return s.counter + (self._now_ns - s.since_ns) // r.TICK_NS & _QWORD

    def _ahead(self, timer: ComparatorState) -> int:
        """Ticks from now to the next match."""
        width = self._width(timer)
        return (timer.comparator - self._count() & width) or width + 1

    def _catch_up(self, timer: ComparatorState) -> None:
        """Move a periodic timer's comparator beyond the counter, over the matches that nobody wanted to hear."""
        if self._moves(timer):
            self._advance(timer)

    def _moves(self, timer: ComparatorState) -> bool:
        return bool(self._s.config & r.ENABLE and not self._wanted(timer) and timer.config & r.PERIODIC)

    def _advance(self, timer: ComparatorState) -> None:
        width = self._width(timer)
        gone = self._count() - timer.comparator & width
        if timer.period and gone <= width >> 1:
            steps = max(gone // timer.period + 1, -(-MIN_PERIOD // timer.period))
            timer.comparator = timer.comparator + steps * timer.period & width

    @staticmethod
    def _wanted(timer: ComparatorState) -> bool:
        """Whether a match does anything: it interrupts, or it sets the status of a level-triggered timer."""
        return bool(timer.config & (r.INTERRUPT | r.LEVEL))

    def _go_on(self) -> None:
        """Drive the wires of what is asserted, and ask for the next matches."""
        s = self._s
        for n in range(r.TIMERS):
            if s.status >> n & 1:
                self._drive(n, True)
            self._arm(n)

    def _arm(self, n: int) -> None:
        s, timer = self._s, self._s.timers[n]
        timer.due = -1
        if s.config & r.ENABLE and self._wanted(timer):
            start = s.since_ns + (self._now_ns - s.since_ns) // r.TICK_NS * r.TICK_NS
            due = start + self._ahead(timer) * r.TICK_NS
            if due < _LIMIT_NS:
                timer.due = due
                self._alarms[n].set(due)
                return
        self._alarms[n].clear()

    def _alarm(self, n: int) -> None:
        self._now_ns = self._clock.now_ns
        self._match(n)

    def _match(self, n: int) -> None:
        timer = self._s.timers[n]
        if timer.config & r.PERIODIC:
            self._advance(timer)
        if timer.config & r.LEVEL:
            self._s.status |= 1 << n
            self._drive(n, True)
        else:
            self._drive(n, True)
            self._drive(n, False)
        self._arm(n)
        self._show_timer(n)

    # ---- wires

    def _drive(self, n: int, level: bool) -> None:
        wire = self._wire(n)
        if wire is not None:
            self._set(wire, level)

    def _wire(self, n: int) -> tuple[bool, int] | None:
        """What a timer drives: True and a legacy wire, False and an input of the I/O APIC, or nothing."""
        config = self._s.timers[n].config
        if not config & r.INTERRUPT:
            return None
        if self._s.config & r.LEGACY and n < len(self._legacy):
            return True, n
        route = config >> r.ROUTE_SHIFT & r.ROUTE_MASK
        return (False, route) if r.ROUTES >> route & 1 else None

    def _set(self, wire: tuple[bool, int], level: bool) -> None:
        legacy, number = wire
        if legacy:
            self._legacy[number].set(level)
        else:
            self._pin(number, level)

    def _asserted(self) -> set[tuple[bool, int]]:
        """The wires that are high."""
        return {wire for n in range(r.TIMERS) if self._s.status >> n & 1 and (wire := self._wire(n)) is not None}

    def _release(self) -> None:
        """Let every wire go, before what it means changes."""
        for n in range(r.TIMERS):
            if self._s.status >> n & 1:
                self._drive(n, False)


__all__ = ["REGISTERS", "SIZE", "Hpet", "HpetState"]
