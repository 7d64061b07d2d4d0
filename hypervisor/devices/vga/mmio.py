"""The adapter's registers in memory space: base address 2 of its PCI function, for machines without port 3C0h.

Source: QEMU docs/specs/standard-vga, "memory bar 2": the VGA's ports from 3C0h at 400h, the Bochs registers from 500h,
16 bits each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypervisor.devices.parts.device_state import Stateless
from hypervisor.devices.vga import vga_registers as r

if TYPE_CHECKING:
    from hypervisor.devices.vga.adapter import Vga

SIZE = 0x1000
PORTS = range(0x400, 0x420)
DISPI = range(0x500, 0x516)
FIRST_PORT = 0x3C0 - r.PORT_BASE


class Mmio(Stateless):
    """Another way to the registers of ``vga``, which are the adapter's and the Bochs interface's."""

    def __init__(self, vga: Vga, name: str = "vga-mmio") -> None:
        self.name = name
        self._vga = vga

    def read(self, offset: int, size: int) -> int:
        """See `hypervisor.bus.Device.read`."""
        if offset in PORTS:
            return self._vga.read(offset - PORTS.start + FIRST_PORT, size)
        if offset in DISPI and not offset & 1 and size == 2:
            return self._vga.dispi.get((offset - DISPI.start) >> 1)
        return (1 << 8 * size) - 1

    def write(self, offset: int, size: int, value: int) -> None:
        """See `hypervisor.bus.Device.write`."""
        if offset in PORTS:
            self._vga.write(offset - PORTS.start + FIRST_PORT, size, value)
        elif offset in DISPI and not offset & 1 and size == 2:
            self._vga.dispi.set((offset - DISPI.start) >> 1, value)
