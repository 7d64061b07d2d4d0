"""The graphics controller: accesses to the aperture at A0000h that are not plain memory.

Source: IBM PS/2 Hardware Interface Technical Reference, "Graphics controller": latches, read modes 0 and 1, write modes
0 to 3. Offsets count from A0000h.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hypervisor.devices._state import adopt, number
from hypervisor.devices.vga import registers as r
from hypervisor.devices.vga.memory import CELLS
from hypervisor.devices.vga.window import APERTURE

if TYPE_CHECKING:
    from hypervisor.devices.vga.adapter import Vga

SIZE = APERTURE
EACH = 0x01010101
ALL = 0xFFFFFFFF
PLANE_BITS = tuple(sum(0xFF << 8 * plane for plane in range(4) if mask >> plane & 1) for mask in range(16))
"""The bits of a cell that belong to a set of planes."""


@dataclass(slots=True)
class PlanesState:
    """The four latches, plane 0 in the low byte."""

    latch: int = number(0, ALL)


class Planes:
    """The aperture as a device."""

    def __init__(self, vga: Vga, name: str = "vga-planes") -> None:
        self.name = name
        self._vga = vga
        self._memory = vga.memory
        self._latch = 0

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

    def _locate(self, offset: int) -> tuple[int, int] | None:
        """(cell, planes that the address chooses) or None where the adapter does not answer."""
        vga = self._vga
        s = vga.registers
        which = s.graphics[r.GR_MISC] >> 2 & 3
        where = r.MEMORY_MAPS[which]
        if not where.start <= offset < where.stop or not s.misc & r.MISC_RAM:
            return None
        at = offset - where.start
        memory_mode = s.sequencer[r.SEQ_MEMORY]
        at += vga.bank << 16 if which == 1 else 0
        if memory_mode & 8:
            return (at >> 2) % self._memory.count, 1 << (at & 3)
        if not memory_mode & 4:
            return (at >> 1) % CELLS, 5 << (at & 1)
        return at % (self._memory.count if vga.bank else CELLS), 15

    def _load(self, offset: int) -> int:
        place = self._locate(offset)
        if place is None:
            return 0xFF
        cell, planes = place
        graphics = self._vga.registers.graphics
        self._latch = latch = self._memory.cell(cell)
        if graphics[r.GR_MODE] & 8:
            differs = (latch ^ PLANE_BITS[graphics[r.GR_COMPARE]]) & PLANE_BITS[graphics[r.GR_DONT_CARE]]
            return ~(differs | differs >> 8 | differs >> 16 | differs >> 24) & 0xFF
        plane = graphics[r.GR_READ_MAP] & 3
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
        registers, memory = self._vga.registers, self._memory
        enabled = PLANE_BITS[registers.sequencer[r.SEQ_MAP_MASK] & planes]
        result = self._result(registers.graphics, value)
        if enabled != ALL:
            result = memory.cell(cell) & ~enabled & ALL | result & enabled
        memory.set_cell(cell, result)

    def _result(self, graphics: bytearray, value: int) -> int:
        """What the graphics controller makes of a byte for all four planes."""
        mode, bits, rotate, latch = graphics[r.GR_MODE] & 3, graphics[r.GR_BIT_MASK], graphics[r.GR_ROTATE], self._latch
        if mode == 1:
            return latch
        if mode == 0 and not rotate:
            data = value * EACH
            if graphics[r.GR_ENABLE_SET_RESET]:
                set_reset = PLANE_BITS[graphics[r.GR_ENABLE_SET_RESET]]
                data = data & ~set_reset | PLANE_BITS[graphics[r.GR_SET_RESET]] & set_reset
            elif bits == 0xFF:
                return data
        elif mode == 2:
            data = PLANE_BITS[value & 0xF]
        else:
            count = rotate & 7
            value = (value >> count | value << 8 - count) & 0xFF
            data = colour = PLANE_BITS[graphics[r.GR_SET_RESET]]
            if mode == 3:
                bits &= value
            else:
                set_reset = PLANE_BITS[graphics[r.GR_ENABLE_SET_RESET]]
                data = value * EACH & ~set_reset | colour & set_reset
        function = rotate >> 3
        if function == 1:
            data &= latch
        elif function == 2:
            data |= latch
        elif function == 3:
            data ^= latch
        mask = bits * EACH
        return data & mask | latch & ~mask & ALL
