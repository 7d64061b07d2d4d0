"""Memory beside RAM: frame buffers and ROMs, and where they show in the guest-physical address space; holes in RAM."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypervisor.errors import ConfigError
from hypervisor.memory import Extent, Hole, Region
from hypervisor.units import PAGE_MASK, Hpa

if TYPE_CHECKING:
    from hypervisor.run.machine import Machine


class MemoryBlock:
    """Memory of the VM's own that is not RAM. The guest reaches it at native speed wherever it is mapped.

    A block may be mapped, moved and protected while the guest runs; that takes effect by its next instruction block.
    Two places that show the same bytes are told apart where code is concerned: code that was run at one of them and is
    overwritten at the other runs as it was until its page is flushed.
    """

    def __init__(self, vm: Machine, size: int, name: str, writable: bool) -> None:
        self.name = name
        self.size = size
        self._vm = vm
        self._extent = vm.host.memory.allocate_for_device(size, vm)
        self._writable = writable
        self._places: list[Region] = []
        self.view = memoryview(vm.host.memory.map)[self._extent.hpa : self._extent.hpa + size]
        """The block's bytes, for the host's side of the device."""

    @property
    def writable(self) -> bool:
        """Whether stores reach it; those that do not go to the device behind it, or nowhere."""
        return self._writable

    @writable.setter
    def writable(self, value: bool) -> None:
        if value is not self._writable:
            self._writable = value
            for place in list(self._places):
                self._uncover(place)
                self._cover(place._replace(writable=value))

    @property
    def resident_bytes(self) -> int:
        """Host memory that the block takes now, in bytes: pages that were touched."""
        from hypervisor.memory.usage import resident_bytes

        return resident_bytes(self._vm.host.memory.map, self._extent.hpa, self.size)

    @property
    def places(self) -> list[range]:
        """The guest-physical ranges where it shows."""
        return [range(place.gpa, place.gpa + place.size) for place in self._places]

    def map(self, gpa: int, offset: int = 0, size: int | None = None) -> None:
        """Show ``size`` bytes from ``offset`` (by default the rest) at guest-physical ``gpa``, over what lies there.

        A block may show at several places. Raises `ConfigError` for what is not a range of whole pages of the block.
        """
        size = self.size - offset if size is None else size
        if (gpa | offset | size) & PAGE_MASK or not 0 <= offset < offset + size <= self.size:
            raise ConfigError(f"{self.name}: {size:#x} bytes from {offset:#x} at {gpa:#x} are not whole pages of it.")
        self._vm.check_mappable(gpa, size, self.name)
        self._cover(Region(gpa, size, Hpa(self._extent.hpa + offset), self._writable))

    def unmap(self, gpa: int | None = None) -> None:
        """Take it away from ``gpa``, or from everywhere: what lies beneath shows again."""
        for place in [place for place in self._places if gpa in (None, place.gpa)]:
            self._uncover(place)

    def zero(self, size: int) -> None:
        """Clear the first ``size`` bytes, whose whole pages take no host memory until they are touched again."""
        whole = size & ~PAGE_MASK
        if whole:
            self._vm.host.memory.zero(Extent(self._extent.hpa, whole))
        self.view[whole:size] = bytes(size - whole)

    def close(self) -> None:
        """Give the memory back. The VM does this when it is closed."""
        self.view.release()
        self._vm.host.memory.release(self._extent)

    def _cover(self, place: Region) -> None:
        self._places.append(place)
        self._vm.memory.cover(place)
        self._vm.memory_moved(place.gpa, place.size)

    def _uncover(self, place: Region) -> None:
        self._places.remove(place)
        self._vm.memory.uncover(place)
        self._vm.memory_moved(place.gpa, place.size)


class ReadOnlyMemory:
    """RAM that stores do not reach, from now on until `close`: they go to the device there, or nowhere."""

    def __init__(self, vm: Machine, where: range) -> None:
        check = hole(where)
        self._vm, self._where = vm, where
        self._layers = [region._replace(writable=False) for region in vm.memory.within(check.gpa, check.size)]
        for layer in self._layers:
            vm.memory.cover(layer)
        vm.memory_moved(check.gpa, check.size)

    def close(self) -> None:
        """Stores reach it again."""
        for layer in self._layers:
            self._vm.memory.uncover(layer)
        self._layers = []
        self._vm.memory_moved(self._where.start, len(self._where))


def hole(where: range) -> Hole:
    """A range of whole pages without memory. Raises `ConfigError` if it is not one."""
    if (where.start | where.stop) & PAGE_MASK or where.stop <= where.start:
        raise ConfigError(f"{where!r} is not a range of whole pages.")
    return Hole(where.start, len(where))
