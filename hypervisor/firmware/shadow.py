"""The firmware's ROM, and the RAM that shadows it: what is at C0000h to FFFFFh follows the host bridge's PAM registers.

Source: Intel 82441FX data sheet (290549), 3.2.18, table 6 "Attribute Bit Assignment".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypervisor.devices.parts.device_state import Stateless
from hypervisor.devices.pci.i440fx import READ_RAM, SEGMENTS, WRITE_RAM, I440Fx, Segment
from hypervisor.units import GIB, KIB, MIB
from hypervisor.vm.device_memory import ReadOnlyMemory

if TYPE_CHECKING:
    from hypervisor.vm.vm import VM

LOW_ROM = 128 * KIB
"""How much of the ROM's end shows below 1 MiB."""


class WriteThrough(Stateless):
    """Behind a segment that reads from the bus and writes to RAM, as while firmware copies itself: takes the stores."""

    name = "shadow"

    def __init__(self, vm: VM, segment: Segment) -> None:
        self._vm, self._start, self._size = vm, segment.start, segment.size

    def read(self, offset: int, size: int) -> int:
        """All ones: where no ROM is, nothing answers."""
        return (1 << 8 * size) - 1

    def write(self, offset: int, size: int, value: int) -> None:
        """Store into the RAM beneath."""
        size = min(size, self._size - offset)
        stored = (value & (1 << 8 * size) - 1).to_bytes(size, "little")
        self._vm.memory.store_beneath(self._start + offset, stored)


class Shadow:
    """The ROM of a board: all of it ends below 4 GiB, its last 128 KiB below 1 MiB, too, unless RAM shows there."""

    def __init__(self, vm: VM, bridge: I440Fx, rom: bytes) -> None:
        self._vm = vm
        self._rom = vm.add_memory(4 * GIB - len(rom), len(rom), "firmware", writable=False)
        self._rom.write(0, rom)
        self._first = MIB - min(LOW_ROM, len(rom))
        self._read_only: dict[Segment, ReadOnlyMemory] = {}
        self._through: dict[Segment, WriteThrough] = {}
        self._hidden: set[Segment] = set()
        for segment in SEGMENTS:
            self._direct(segment, bridge.access(segment))
        bridge.on_pam = self._direct

    def _direct(self, segment: Segment, access: int) -> None:
        """Show in this segment what ``access`` says, instead of what was shown."""
        where = range(segment.start, segment.start + segment.size)
        if segment in self._through:
            self._vm.mmio.detach(self._through.pop(segment))
        if segment in self._read_only:
            self._read_only.pop(segment).close()
        elif segment in self._hidden:
            self._hidden.remove(segment)
            self._vm.show_memory(where)
        else:
            self._rom.unmap(segment.start)
        if access == READ_RAM:
            self._read_only[segment] = ReadOnlyMemory(self._vm, where)
        elif not access & READ_RAM:
            self._show_bus(segment, where)
        if access == WRITE_RAM:
            self._through[segment] = through = WriteThrough(self._vm, segment)
            self._vm.mmio.attach(through, where)

    def _show_bus(self, segment: Segment, where: range) -> None:
        """What is on the bus there: the ROM, or nothing."""
        if segment.start >= self._first:
            self._rom.map(segment.start, self._rom.size - (MIB - segment.start), segment.size)
        else:
            self._hidden.add(segment)
            self._vm.hide_memory(where)
