"""A register that only time changes, or nothing, as data: whoever has its words and the clock knows what a read gives.

A device that has such registers (a counter, say) keeps their words up to date as it is written to, and says where they
are (`TimedRegisters`). The engine then serves reads of them in the middle of the guest's instruction, and the device is
not asked. It stays the truth: a register can be declared for as long as it is that simple, and left to it otherwise.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Mapping
from typing import Any, Protocol

from hypervisor.units import NS_PER_S

_WORD, _FLAG, _BYTE = ctypes.c_int64, ctypes.c_bool, ctypes.c_uint8
_COUNT = struct.Struct("=8q")
"""The words that say how it counts. Stored at once: field by field they take as long as the rest of a device's work."""
_WHOLE = (1 << 64) - 1
MAX_HZ = 4_000_000_000


class TimedRegister(ctypes.Structure):
    """One register of ``width`` bytes. While it is not `active`, the device is asked; and when ``reads`` has come down
    to 0, as it does by one with each read that is answered, unless it is -1.

    If ``hz`` is 0 it holds ``start``. Else, at ``now``, it has counted t = floor((now - since_ns) * hz / 10^9) - first
    ticks, and holds ``before`` while t is negative, and then (start + step * (t mod period)) & mask; without the
    remainder, if ``period`` is 0. What is read is this, from bit ``shift`` on, or ``in_turn``: one byte at a time, the
    low one and the high one by turns; ``high`` says that the high one comes next, and changes with each read.
    """

    width: int
    active: bool
    since_ns: int
    hz: int
    first: int
    before: int
    start: int
    step: int
    period: int
    mask: int
    shift: int
    in_turn: bool
    high: bool
    reads: int

    _fields_ = [
        ("since_ns", _WORD), ("hz", _WORD), ("first", _WORD), ("before", _WORD), ("start", _WORD), ("step", _WORD),
        ("period", _WORD), ("mask", _WORD), ("width", _WORD), ("shift", _BYTE), ("active", _FLAG), ("in_turn", _FLAG),
        ("high", _FLAG), ("reads", _WORD),
    ]  # fmt: skip

    def __init__(self, width: int) -> None:
        """``width`` is how many bytes it takes among the device's offsets: 1, 2, 4 or 8."""
        super().__init__(width=width, reads=-1)

    def __reduce__(self) -> tuple[Any, ...]:
        return TimedRegister.from_buffer_copy, (bytes(self),)

    def holds(self, value: int, reads: int = -1) -> None:
        """It has this value until it is told another, or for so many reads."""
        self.hz, self.start, self.reads = 0, value, reads
        self.active = True

    def counts(
        self, hz: int, *, start: int = 0, step: int = 1, since_ns: int = 0, first: int = 0, before: int = 0,
        period: int = 0, mask: int = -1,
    ) -> None:  # fmt: skip
        """It counts at ``hz`` (up to `MAX_HZ`), as the class says."""
        if not 0 <= hz <= MAX_HZ:
            raise ValueError(f"counts(hz={hz}): 0 to {MAX_HZ} ticks a second can be counted.")
        start -= start >> 63 << 64  # as a signed word
        _COUNT.pack_into(self, 0, since_ns, hz, first, before, start, step, period, mask)
        self.active, self.reads = True, -1

    @property
    def answers(self) -> bool:
        """Whether the device need not be asked."""
        return self.active and self.reads != 0

    def value(self, now_ns: int) -> int:
        """What it holds at this time, as an unsigned number."""
        if self.hz == 0:
            return self.start & _WHOLE
        ticks = (now_ns - self.since_ns) * self.hz // NS_PER_S - self.first
        if ticks < 0:
            return self.before
        return self.start + self.step * (ticks % self.period if self.period else ticks) & self.mask & _WHOLE

    def read(self, now_ns: int, offset: int, size: int) -> int:
        """What a read of ``size`` bytes gives that begins ``offset`` bytes behind its start."""
        shift = 8 * offset + self.shift
        if self.reads > 0:
            self.reads -= 1
        if self.in_turn:
            shift += 8 * self.high
            self.high = not self.high
        return self.value(now_ns) >> shift & (1 << 8 * size) - 1


class TimedRegisters(Protocol):
    """What a device may have beside `hypervisor.bus.Device`."""

    timed_registers: Mapping[int, TimedRegister]
    """By offset in bytes from the start of its range. The offsets do not change, nor do the registers' widths."""


def word(name: str) -> int:
    """Where one of the words lies in a register's, in bytes."""
    offset: int = getattr(TimedRegister, name).offset
    return offset


__all__ = ["TimedRegister", "TimedRegisters", "word"]
