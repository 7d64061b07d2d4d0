"""Memory beside RAM: frame buffers and ROMs, and where they show in the guest-physical address space; holes in RAM."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypervisor.errors import ConfigError
from hypervisor.memory import Hole, Region
from hypervisor.units import PAGE_MASK, PAGE_SHIFT

if TYPE_CHECKING:
    from hypervisor.run.machine import Machine


class MemoryBlock:
    """Memory of the VM's own that is not RAM. The guest reaches it at native speed wherever it is mapped.

    A block may be mapped, moved and protected while the guest runs; that takes effect by its next instruction block.
    """

    def __init__(self, vm: Machine, size: int, name: str, writable: bool) -> None:
        self.name = name
        self.size = size
        self._vm = vm
        self._base, self._promise = vm.memory.add(size)
        self._writable = writable
        self._places: list[Region] = []

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

    def lay_again(self) -> None:
        """Its VM is like another one that has such a block, and there is no memory for it yet."""
        self._promise = self._vm.memory.add_again(self._base, self.size)

    @property
    def resident_bytes(self) -> int:
        """Host memory that the block takes now, in bytes: pages that were stored to."""
        return self._vm.memory.pages.resident_bytes(self._base >> PAGE_SHIFT, self.size >> PAGE_SHIFT)

    @property
    def home(self) -> range:
        """Where it is in the base map of its VM (`hypervisor.memory.page_map`)."""
        return range(self._base, self._base + self.size)

    @property
    def places(self) -> list[range]:
        """The guest-physical ranges where it shows."""
        return [range(place.gpa, place.gpa + place.size) for place in self._places]

    # --- its bytes, for the host's side of the device -----------------------------------------------------------------

    def read(self, offset: int, size: int) -> bytes:
        """``size`` bytes from ``offset`` on. Raises `ConfigError` for what is not in the block."""
        self._check(offset, size)
        return self._vm.memory.pages.read(self._base + offset, size)

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """Store ``data`` from ``offset`` on, whether or not a guest may. Raises `ConfigError` likewise."""
        self._check(offset, len(data))
        self._vm.memory.store_beneath(self._base + offset, data)

    def zero(self, size: int) -> None:
        """Clear the first ``size`` bytes, whose whole pages take no host memory until they are stored to again."""
        self._check(0, size)
        whole = size & ~PAGE_MASK
        self._vm.memory.clear(self._base, whole)
        self.write(whole, bytes(size - whole))

    def _check(self, offset: int, size: int) -> None:
        if not 0 <= offset <= offset + size <= self.size:
            raise ConfigError(f"{self.name}: {size} bytes from {offset:#x} are not in its {self.size:#x} bytes.")

    # --- where it shows -----------------------------------------------------------------------------------------------

    def map(self, gpa: int, offset: int = 0, size: int | None = None) -> None:
        """Show ``size`` bytes from ``offset`` (by default the rest) at guest-physical ``gpa``, over RAM and over blocks
        that were made before this one.

        A block may show at several places. Raises `ConfigError` for what is not a range of whole pages of the block.
        """
        size = self.size - offset if size is None else size
        if (gpa | offset | size) & PAGE_MASK or not 0 <= offset < offset + size <= self.size:
            raise ConfigError(f"{self.name}: {size:#x} bytes from {offset:#x} at {gpa:#x} are not whole pages of it.")
        self._vm.check_mappable(gpa, size, self.name)
        self._cover(Region(gpa, size, self._base + offset, self._writable))

    def unmap(self, gpa: int | None = None) -> None:
        """Take it away from ``gpa``, or from everywhere: what lies beneath shows again."""
        for place in [place for place in self._places if gpa in (None, place.gpa)]:
            self._uncover(place)

    def close(self) -> None:
        """Give the memory back. The VM does this when it is closed."""
        self.unmap()
        self._vm.memory.remove(self._base, self.size, self._promise)

    def _cover(self, place: Region) -> None:
        self._places.append(place)
        self._vm.memory.cover(place)

    def _uncover(self, place: Region) -> None:
        self._places.remove(place)
        self._vm.memory.uncover(place)


class ReadOnlyMemory:
    """RAM that stores do not reach, from now on until `close`: they go to the device there, or nowhere."""

    def __init__(self, vm: Machine, where: range) -> None:
        check = hole(where)
        self._vm = vm
        self._layers = [region._replace(writable=False) for region in vm.memory.within(check.gpa, check.size)]
        for layer in self._layers:
            vm.memory.cover(layer)

    def close(self) -> None:
        """Stores reach it again."""
        for layer in self._layers:
            self._vm.memory.uncover(layer)
        self._layers = []


def hole(where: range) -> Hole:
    """A range of whole pages without memory. Raises `ConfigError` if it is not one."""
    if (where.start | where.stop) & PAGE_MASK or where.stop <= where.start:
        raise ConfigError(f"{where!r} is not a range of whole pages.")
    return Hole(where.start, len(where))
