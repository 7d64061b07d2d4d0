"""Which device answers a port or a guest-physical address, and what happens where none does."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hypervisor.bus import Mapping
    from hypervisor.run.machine import Machine


class Routing:
    """A VM's devices and memory as an instruction reaches them. Where nothing answers, reads are all ones and writes
    are ignored.
    """

    def __init__(self, vm: Machine) -> None:
        self._vm = vm
        self.is_memory = vm.memory.is_memory
        """Whether there is memory at a guest-physical address."""

    def port_read(self, port: int, size: int, mapping: Mapping | None) -> int:
        """IN from a port whose device is at ``mapping``; an access wider than the device is made byte by byte."""
        if mapping is not None and port + size <= mapping.end:
            return mapping.device.read(port - mapping.base, size)
        if self._nobody(port, size, mapping):
            return self.unclaimed("port_in", port, size)
        if size == 1:
            return 0xFF
        return sum(self._byte_in(port + n & 0xFFFF) << 8 * n for n in range(size))

    def _byte_in(self, port: int) -> int:
        return self.port_read(port, 1, self._vm.ports.find(port))

    def port_write(self, port: int, size: int, value: int, mapping: Mapping | None) -> None:
        """OUT to a port whose device is at ``mapping``."""
        if mapping is not None and port + size <= mapping.end:
            mapping.device.write(port - mapping.base, size, value)
        elif self._nobody(port, size, mapping):
            self.unclaimed("port_out", port, size)
        elif size > 1:
            for n in range(size):
                at = port + n & 0xFFFF
                self.port_write(at, 1, value >> 8 * n & 0xFF, self._vm.ports.find(at))

    def unclaimed(self, access: str, address: int, size: int) -> int:
        """Nothing answers an access; what a read gives."""
        self._vm.note_unclaimed(f"{access} {address:#x}", size)
        return (1 << 8 * size) - 1

    def _nobody(self, port: int, size: int, mapping: Mapping | None) -> bool:
        if size == 1:
            return mapping is None
        return all(self._vm.ports.find(port + n & 0xFFFF) is None for n in range(size))

    def memory_read(self, gpa: int, size: int) -> int:
        """A load from a page that is no plain memory, or that is watched; one wider than the device is made byte by
        byte.
        """
        if self.is_memory(gpa):
            return int.from_bytes(self._vm.memory.read(gpa, size), "little")
        mapping = self._vm.mmio.find(gpa)
        if mapping is not None and gpa + size <= mapping.end:
            return mapping.device.read(gpa - mapping.base, size)
        if self.no_device(gpa, size):
            return self.unclaimed("mmio_read", gpa, size)
        return sum(self.memory_read(gpa + n, 1) << 8 * n for n in range(size))

    def memory_write(self, gpa: int, size: int, value: int) -> None:
        """A store to a page that is no plain memory, or that is watched. One to a ROM goes to the device behind it."""
        if self._vm.memory.is_writable(gpa):
            self._vm.memory.store(gpa, value.to_bytes(size, "little"))
            return
        mapping = self._vm.mmio.find(gpa)
        if mapping is not None and gpa + size <= mapping.end:
            mapping.device.write(gpa - mapping.base, size, value)
        elif not self.no_device(gpa, size):
            for n in range(size):
                self.memory_write(gpa + n, 1, value >> 8 * n & 0xFF)
        elif not self.is_memory(gpa):
            self.unclaimed("mmio_write", gpa, size)

    def no_device(self, gpa: int, size: int) -> bool:
        """Whether an access at whose address no device is, or not a whole one, reaches none at all."""
        return size == 1 or not self._vm.mmio.occupied(gpa, gpa + size)
