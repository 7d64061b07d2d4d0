"""System control port B (61h): the speaker's gate and what can be seen of the timer.

Source: Intel 82371SB (PIIX3) data sheet 2.5.3, "NMI status and control register".
"""

from __future__ import annotations

from collections.abc import Callable

from hypervisor.bus import Clock
from hypervisor.devices.i8254 import I8254, ticks_at
from hypervisor.devices.parts.common import ByteDevice, Register, RegisterTable
from hypervisor.devices.parts.device_state import adopt
from hypervisor.devices.parts.pit_counter import PIT_HZ
from hypervisor.state import InRecord, number, record

SIZE = 1
"""Bytes of the register window (port 61h)."""

REGISTERS = (Register(0, "NMISC", "rw", "timer 2 gate, speaker, NMI enables; refresh toggle, timer 2 output"),)

GATE2, SPEAKER, ENABLES = 0x01, 0x02, 0x0C
REFRESH, OUT2 = 0x10, 0x20
REFRESH_TICKS = 18
"""CLK pulses of the timer between two refreshes (15.085 us), as PC firmware programs counter 1."""


@record
class Port61State:
    """The four bits that can be written, and what the speaker plays."""

    control: int = number(0, 0x0F)
    tone: int = number(0, 0x10000)
    """CLK pulses of the timer in a period; 0 is silence."""


class Port61(ByteDevice, InRecord[Port61State]):
    """Port 61h. Bit 0 is the gate of ``pit``'s counter 2, bit 5 its output, bit 4 toggles with each memory refresh."""

    def __init__(self, pit: I8254, clock: Clock, name: str = "port61") -> None:
        self.name = name
        self.clock = clock
        self._pit = pit
        self._s = Port61State()
        self.play: Callable[[float | None], object] = lambda frequency: None
        """Called when the speaker's tone changes, with its frequency in Hz or None for silence."""
        pit.counter2_written = self._listen

    @property
    def speaker(self) -> bool:
        """Whether the speaker is driven now: data enable and counter 2's output."""
        return bool(self._s.control & SPEAKER) and self._pit.out(2)

    def reset(self) -> None:
        """All bits clear; counter 2's gate falls."""
        self._s = Port61State(tone=self._s.tone)
        self._pit.set_gate(2, False)
        self._listen()

    def restore(self, state: Port61State) -> None:
        """Take over ``state``; raises `DeviceError` if it is not one of this device."""
        self._s = adopt(self.name, Port61State, state)
        self._pit.set_gate(2, bool(self._s.control & GATE2))

    def _registers(self) -> RegisterTable:
        return [self._read], [self._write]

    def _read(self) -> int:
        value = self._s.control
        if ticks_at(self.clock.now_ns) // REFRESH_TICKS & 1:
            value |= REFRESH
        return value | OUT2 if self._pit.out(2) else value

    def _write(self, value: int) -> None:
        self._s.control = value & 0x0F
        self._pit.set_gate(2, bool(value & GATE2))
        self._listen()

    def _listen(self) -> None:
        """Tell of a new tone: both the timer's gate and the speaker are on, and counter 2 makes a square wave."""
        on = self._s.control & (GATE2 | SPEAKER) == GATE2 | SPEAKER
        tone = self._pit.period(2) if on else 0
        if tone != self._s.tone:
            self._s.tone = tone
            self.play(PIT_HZ / tone if tone else None)
