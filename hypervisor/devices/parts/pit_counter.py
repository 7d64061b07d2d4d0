"""One counter of an 8254 as a function of time: no ticking, only arithmetic on the number of the CLK pulse.
from hypervisor.state import flag, number, record, ticks, u8

Source: Intel 82C54 data sheet (231244-006), "Mode definitions" and "Operation common to all modes". All times here
are CLK pulse numbers (ticks of 1.193182 MHz since power-on).

A written count is loaded by the CLK pulse after the write, a gate's trigger acts at the CLK pulse after it. In mode 2 a
count of 1 is illegal; OUT then stays high.
"""

from __future__ import annotations

from hypervisor.bus import TimedRegister
from hypervisor.state import flag, number, record, ticks, u8

PIT_HZ = 1_193_182
"""Frequency of CLK, in Hz."""
LATCH_NOTHING = -1
RW_LOW, RW_HIGH, RW_BOTH = 1, 2, 3
CONTROL_BCD = 0x01

ONE_SHOTS = (1, 5)
"""Modes that a rising gate starts."""
PERIODIC = (2, 3)


@record
class CounterState:
    """All that one counter remembers.

    ``count`` was loaded at CLK pulse ``start``; ``next_count`` is written but waits for pulse ``next_tick`` or for
    the gate. While the counter does not run, ``held`` is its value as a plain number, ``held_out`` its OUT, and
    ``elapsed`` the pulses that it had counted when a low gate paused it (modes 0 and 4).
    """

    control: int = number(0, 0x3F, RW_BOTH << 4)
    mode: int = number(0, 5)
    count: int = number(0, 0x10000)
    next_count: int = number(0, 0x10000)
    next_tick: int = ticks()
    start: int = ticks()
    elapsed: int = ticks()
    running: bool = flag()
    held: int = number(0, 0xFFFF)
    held_out: bool = flag()
    gate: bool = flag(True)
    low_byte: int = u8()
    write_high: bool = flag()
    read_high: bool = flag()
    latched_count: int = number(LATCH_NOTHING, 0xFFFF, LATCH_NOTHING)
    latched_status: int = number(LATCH_NOTHING, 0xFF, LATCH_NOTHING)
    null_count: bool = flag(True)


def from_bcd(value: int) -> int:
    """The number that four binary-coded decimal digits mean (digits above 9 carry)."""
    return ((value >> 12) * 1000 + (value >> 8 & 15) * 100 + (value >> 4 & 15) * 10 + (value & 15)) % 10000


def to_bcd(value: int) -> int:
    """Four binary-coded decimal digits of ``value`` (0 to 9999)."""
    return value // 1000 << 12 | value // 100 % 10 << 8 | value // 10 % 10 << 4 | value % 10


def _high_ticks(count: int) -> int:
    """How long OUT is high in a period of mode 3."""
    return (count + 1) // 2


def settle(c: CounterState, tick: int) -> None:
    """Bring ``c`` to ``tick``: a count written during a period of mode 2 or 3 takes its place when that ends."""
    if c.next_count and c.running and tick >= c.next_tick and c.mode in PERIODIC:
        _swap(c)


def _swap(c: CounterState) -> None:
    ended_high_half = c.mode == 3 and (c.next_tick - c.start) % c.count != 0
    c.count = c.next_count
    c.start = c.next_tick - (_high_ticks(c.count) if ended_high_half else 0)
    c.next_count = 0
    c.null_count = False


def out(c: CounterState, tick: int) -> bool:
    """The level of OUT at ``tick``, for a settled counter."""
    if not c.running:
        return c.held_out
    elapsed = tick - c.start
    if elapsed < 0:
        return c.held_out
    mode = c.mode
    if mode == 2:
        return c.count < 2 or elapsed % c.count != c.count - 1
    if mode == 3:
        return elapsed % c.count < _high_ticks(c.count)
    return elapsed >= c.count if mode < 2 else elapsed != c.count


def value(c: CounterState, tick: int) -> int:
    """The counting element at ``tick`` as a guest reads it (binary or BCD), for a settled counter."""
    number = _number(c, tick)
    return to_bcd(number % 10000) if c.control & CONTROL_BCD else number & 0xFFFF


def _number(c: CounterState, tick: int) -> int:
    elapsed = tick - c.start
    if not c.running or elapsed < 0:
        return c.held
    count = c.count
    if c.mode == 2:
        number = count - elapsed % count
    elif c.mode == 3:  # counts down by two; an odd count starts from the even number below it
        phase = elapsed % count
        if phase >= _high_ticks(count):
            phase -= _high_ticks(count)
        number = (count & ~1) - 2 * phase
    else:
        number = count - elapsed  # goes on below zero
    return number % (10000 if c.control & CONTROL_BCD else 0x10000)


def status(c: CounterState, tick: int) -> int:
    """The read-back status byte: OUT, null count, and the control word's six bits."""
    null = c.null_count and not (c.running and not c.next_count and tick >= c.start)
    return out(c, tick) << 7 | null << 6 | c.control


def next_rise(c: CounterState, tick: int) -> int | None:
    """The first tick after ``tick`` at which OUT goes from low to high by itself, for a settled counter."""
    if not c.running:
        return None
    count, start, mode = c.count, c.start, c.mode
    if mode not in PERIODIC:
        if mode >= 4 and tick < start and not c.held_out:
            return start  # a strobe was under way when the new count came
        rise = start + count + (mode >= 4)
        return rise if rise > tick else None
    if c.next_count:
        ended_high_half = mode == 3 and (c.next_tick - start) % count != 0
        if not ended_high_half:
            return c.next_tick if count > 1 else None
        return c.next_tick + c.next_count - _high_ticks(c.next_count)
    if count < 2:
        return None
    return start + max((tick - start) // count + 1, 1) * count


def write_control(c: CounterState, control: int, tick: int) -> None:
    """A control word: the counter stops, OUT takes the mode's first level, the byte order starts again."""
    c.held = _number(c, tick)
    c.running = False
    c.control = control
    mode = control >> 1 & 7
    c.mode = mode - 4 if mode > 5 else mode
    c.held_out = c.mode != 0
    c.count = c.next_count = 0
    c.write_high = c.read_high = False
    c.latched_count = c.latched_status = LATCH_NOTHING
    c.null_count = True


def write_byte(c: CounterState, byte: int, tick: int) -> None:
    """A byte of the count."""
    order = c.control >> 4
    if order == RW_LOW:
        _write_count(c, byte, tick)
    elif order == RW_HIGH:
        _write_count(c, byte << 8, tick)
    elif not c.write_high:
        c.low_byte = byte
        c.write_high = True
        if c.mode == 0:  # the first byte stops the count and takes OUT low at once
            _hold(c, tick)
            c.held_out = False
            c.count = 0
    else:
        c.write_high = False
        _write_count(c, byte << 8 | c.low_byte, tick)


def _write_count(c: CounterState, raw: int, tick: int) -> None:
    count = (from_bcd(raw) or 10000) if c.control & CONTROL_BCD else (raw or 0x10000)
    c.null_count = True
    if c.mode in ONE_SHOTS:
        c.next_count = count  # the gate loads it
    elif c.mode in PERIODIC and c.running:
        _write_next(c, count, tick)
    else:
        _load(c, count, tick)


def _write_next(c: CounterState, count: int, tick: int) -> None:
    """A new count for a running period: it comes when the period (in mode 3, the half) ends."""
    if tick < c.start:  # the old count is not even loaded
        _load(c, count, tick)
        return
    period_start = c.start + (tick - c.start) // c.count * c.count
    half = period_start + _high_ticks(c.count)
    c.next_tick = half if c.mode == 3 and c.count > 1 and tick < half else period_start + c.count
    c.next_count = count


def _load(c: CounterState, count: int, tick: int) -> None:
    """Load ``count`` with the next CLK pulse, and count if the gate lets it."""
    c.held_out = c.mode != 0 and (out(c, tick) or not c.gate)
    c.held = _number(c, tick) if c.gate else count & 0xFFFF
    c.count = count
    c.next_count = 0
    c.start = tick + 1
    c.elapsed = 0
    c.running = c.gate
    if not c.gate:
        c.null_count = False


def _hold(c: CounterState, tick: int) -> None:
    """Stop counting and keep what can be seen."""
    c.elapsed = max(tick - c.start, 0)
    if tick < c.start:  # the pulse that loads comes with the gate low, too
        c.held, c.held_out = c.count & 0xFFFF, c.mode != 0
    else:
        c.held, c.held_out = _number(c, tick), out(c, tick)
    c.running = False
    if not c.next_count:
        c.null_count = False


def _trigger(c: CounterState, tick: int) -> None:
    """A rising gate: load the latest count with the next CLK pulse and start."""
    c.held, c.held_out = _number(c, tick), out(c, tick)
    c.count = c.next_count or c.count
    c.next_count = 0
    c.start = tick + 1
    c.running = True


def set_gate(c: CounterState, level: bool, tick: int) -> None:
    """GATE changes, for a settled counter (data sheet, figure "Gate pin operations summary")."""
    if level == c.gate:
        return
    c.gate = level
    if c.mode in ONE_SHOTS:
        if level and (c.next_count or c.count):
            _trigger(c, tick)
    elif not level:
        if c.running:
            _hold(c, tick)
            c.held_out = c.held_out or c.mode in PERIODIC  # modes 2 and 3 take OUT high at once
    elif c.count:
        if c.mode in PERIODIC:
            _trigger(c, tick)
        else:
            c.start = tick - c.elapsed  # the next pulse counts on from where it stopped
            c.running = True


def show(c: CounterState, register: TimedRegister) -> None:
    """Say what reads of a settled counter give from now on, where that is simple: not in mode 3, which counts by twos,
    not in BCD, and not while a count waits or something is latched.
    """
    register.high = c.read_high
    latched = c.latched_count != LATCH_NOTHING or c.latched_status != LATCH_NOTHING
    if latched or c.next_count or c.control & CONTROL_BCD or (c.running and c.mode == 3):
        register.active = False
        return
    order = c.control >> 4
    register.in_turn, register.shift = order == RW_BOTH, 8 if order == RW_HIGH else 0
    if not c.running:
        register.holds(c.held)
        return
    period = c.count if c.mode == 2 else 0
    register.counts(PIT_HZ, start=c.count, step=-1, first=c.start, before=c.held, period=period, mask=0xFFFF)


def consistent(c: CounterState) -> bool:
    """Whether the fields of a restored state fit together."""
    mode = c.control >> 1 & 7
    return c.mode == (mode - 4 if mode > 5 else mode) and c.control >> 4 != 0 and (c.count > 0 or not c.running)
