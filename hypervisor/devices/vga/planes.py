"""The graphics controller: accesses to the aperture at A0000h that are not plain memory.

Source: IBM PS/2 Hardware Interface Technical Reference, "Graphics controller": latches, read modes 0 and 1, write modes
0 to 3. Offsets count from A0000h.

A guest that draws makes an access for each byte, and sets registers now and then: what the registers mean is worked out
at the first access behind a change (`Planes._plan`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypervisor.devices.parts.device_state import adopt
from hypervisor.devices.vga import vga_registers as r
from hypervisor.devices.vga.video_memory import CELLS
from hypervisor.devices.vga.window import APERTURE
from hypervisor.state import number, record

if TYPE_CHECKING:
    from hypervisor.devices.vga.adapter import Vga

SIZE = APERTURE
EACH = 0x01010101
ALL = 0xFFFFFFFF
PLANE_BITS = tuple(sum(0xFF << 8 * plane for plane in range(4) if mask >> plane & 1) for mask in range(16))
"""The bits of a cell that belong to a set of planes."""


@record
class PlanesState:
    """The four latches, plane 0 in the low byte."""

    latch: int = number(0, ALL)


class Planes:
    """The aperture as a device."""

    def __init__(self, vga: Vga, name: str = "vga-planes") -> None:
        self.name = name
        self._vga = vga
        self._memory = vga.memory
        self._count = vga.memory.count
        self._latch = 0
        self.stale = True
        """Set it when a register has changed."""

    def read(self, offset: int, size: int) -> int:
        """See `hypervisor.bus.Device.read`: byte by byte, as the bus of the adapter is 8 bits wide."""
        if size == 1:
            return self._load(offset)
        return sum(self._load(offset + n) << 8 * n for n in range(size))

    def write(self, offset: int, size: int, value: int) -> None:
        """See `hypervisor.bus.Device.write`."""
        if size == 1:
            self._store(offset, value)
            return
        for n in range(size):
            self._store(offset + n, value >> 8 * n & 0xFF)

    def reset(self) -> None:
        """Clear the latches."""
        self._latch = 0

    def state(self) -> PlanesState:
        """A copy of all mutable state."""
        return PlanesState(self._latch)

    def restore(self, state: PlanesState) -> None:
        """Take over ``state``; raises `DeviceError` if it is not one of this device."""
        self._latch = adopt(self.name, PlanesState, state).latch

    # ---- what the registers mean

    def _plan(self) -> None:
        self.stale = False
        vga = self._vga
        s = vga.registers
        graphics = s.graphics
        self._plan_addresses(s.sequencer[r.SEQ_MEMORY], graphics[r.GR_MISC] >> 2 & 3, bool(s.misc & r.MISC_RAM))
        self._enabled = PLANE_BITS[s.sequencer[r.SEQ_MAP_MASK] & 0xF]
        mode, rotate, bits = graphics[r.GR_MODE], graphics[r.GR_ROTATE], graphics[r.GR_BIT_MASK]
        self._write_mode, self._rotate, self._function = mode & 3, rotate & 7, rotate >> 3
        self._bits = bits * EACH
        self._colour = PLANE_BITS[graphics[r.GR_SET_RESET]]
        set_reset = PLANE_BITS[graphics[r.GR_ENABLE_SET_RESET]]
        self._from_colour, self._from_cpu = self._colour & set_reset, ALL ^ set_reset
        self._copies = not (mode & 3 or rotate or set_reset) and bits == 0xFF
        self._compares = bool(mode & 8)
        self._compared, self._cared = PLANE_BITS[graphics[r.GR_COMPARE]], PLANE_BITS[graphics[r.GR_DONT_CARE]]
        self._read_map = graphics[r.GR_READ_MAP] & 3

    def _plan_addresses(self, memory_mode: int, which: int, answers: bool) -> None:
        where = r.MEMORY_MAPS[which] if answers else range(0)
        bank = self._vga.bank
        self._first, self._span = where.start, len(where)
        self._base = bank << 16 if which == 1 else 0
        self._chained, self._odd_even = bool(memory_mode & 8), not memory_mode & 12
        self._limit = self._count if bank or self._chained else CELLS

    def _locate(self, offset: int) -> tuple[int, int] | None:
        """(cell, planes that the address chooses) or None where the adapter does not answer."""
        if self.stale:
            self._plan()
        at = offset - self._first
        if not 0 <= at < self._span:
            return None
        at += self._base
        if self._chained:
            return (at >> 2) % self._limit, 1 << (at & 3)
        if self._odd_even:
            return (at >> 1) % CELLS, 5 << (at & 1)
        return at % self._limit, 15

    # ---- a byte

    def _load(self, offset: int) -> int:
        place = self._locate(offset)
        if place is None:
            return 0xFF
        cell, planes = place
        self._latch = latch = self._memory.cell(cell)
        if self._compares:
            differs = (latch ^ self._compared) & self._cared
            return ~(differs | differs >> 8 | differs >> 16 | differs >> 24) & 0xFF
        plane = self._read_map
        if planes in (5, 10):
            plane = plane & 2 | planes >> 3
        elif planes != 15:
            plane = planes.bit_length() - 1
        return latch >> 8 * plane & 0xFF

    def _store(self, offset: int, value: int) -> None:
        place = self._locate(offset)
        if place is None:
            return
        cell, planes = place
        result = value * EACH if self._copies else self._result(value)
        enabled = self._enabled if planes == 15 else self._enabled & PLANE_BITS[planes]
        if enabled != ALL:
            result = self._memory.cell(cell) & (ALL ^ enabled) | result & enabled
        self._memory.store_cell(cell, result)

    def _result(self, value: int) -> int:
        """What the graphics controller makes of a byte for all four planes."""
        mode, mask, latch = self._write_mode, self._bits, self._latch
        if mode == 1:
            return latch
        if mode == 2:
            data = PLANE_BITS[value & 0xF]
        else:
            value = (value >> self._rotate | value << 8 - self._rotate) & 0xFF
            if mode == 3:
                data = self._colour
                mask &= value * EACH
            else:
                data = value * EACH & self._from_cpu | self._from_colour
        if self._function == 1:
            data &= latch
        elif self._function == 2:
            data |= latch
        elif self._function == 3:
            data ^= latch
        return data & mask | latch & (ALL ^ mask)
