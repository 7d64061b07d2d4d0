"""A VM's guest-physical memory as bytes: what devices, loaders and handlers read and write."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import NamedTuple

from hypervisor.errors import ConfigError, GuestFault
from hypervisor.memory.frames import Extent, HostMemory
from hypervisor.units import Hpa


class Region(NamedTuple):
    """Guest-physical ``[gpa, gpa + size)`` is host-physical memory at ``hpa``."""

    gpa: int
    size: int
    hpa: Hpa
    writable: bool = True


class Hole(NamedTuple):
    """Guest-physical ``[gpa, gpa + size)`` is no memory, whatever lies beneath."""

    gpa: int
    size: int


def layered(ram: Sequence[Region], layers: Sequence[Region | Hole]) -> list[Region]:
    """What shows of ``ram`` under ``layers``, the later ones on top; in order of address."""
    shown = list(ram)
    for layer in layers:
        start, end = layer.gpa, layer.gpa + layer.size
        left = []
        for gpa, size, hpa, writable in shown:
            if gpa < start:
                left.append(Region(gpa, min(size, start - gpa), hpa, writable))
            if gpa + size > end:
                cut = max(end - gpa, 0)
                left.append(Region(gpa + cut, size - cut, Hpa(hpa + cut), writable))
        shown = [*left, layer] if isinstance(layer, Region) else left
    return sorted(shown)


class BusView:
    """Guest-physical memory as a bus master sees it (`hypervisor.bus.Dma`): stores to what is no memory go nowhere."""

    def __init__(self, memory: GuestMemory) -> None:
        self.read = memory.read
        self.write = memory.store


class GuestMemory:
    """Guest-physical memory. Places without memory read as FFh, as on a PC's bus.

    ``written`` is told of each range that the host side writes, so that translated code there is dropped.
    """

    def __init__(self, host: HostMemory, extent: Extent, regions: Sequence[Region]) -> None:
        self.extent = extent
        self._ram = tuple(sorted(regions))
        self._layers: list[Region | Hole] = []
        self._show(self._ram)
        self._host = host
        self._view = memoryview(host.map)
        self._closed = False
        self.dma = BusView(self)
        """The same for devices."""
        self.written: Callable[[int, int], None] = lambda gpa, size: None

    @property
    def size(self) -> int:
        """Bytes of RAM that the VM has."""
        return self.extent.size

    @property
    def ram_ranges(self) -> list[tuple[int, int]]:
        """Where the RAM is, covered or not: pairs of first address and end."""
        return [(region.gpa, region.gpa + region.size) for region in self._ram]

    def _show(self, regions: Sequence[Region]) -> None:
        self.regions = tuple(regions)
        self._starts = [region.gpa for region in self.regions]

    def cover(self, layer: Region | Hole) -> None:
        """Put memory, or none, over what lies there. The latest layer is what shows."""
        self._layers.append(layer)
        self._show(layered(self._ram, self._layers))

    def uncover(self, layer: Region | Hole) -> None:
        """Take a layer off again: what lies beneath shows."""
        self._layers.remove(layer)
        self._show(layered(self._ram, self._layers))

    def within(self, gpa: int, size: int) -> list[Region]:
        """The memory that shows in a range, cut to it."""
        found = []
        for region, start, length in self._pieces(gpa, size):
            if region is not None:
                found.append(Region(start, length, Hpa(region.hpa + start - region.gpa), region.writable))
        return found

    def ram_within(self, gpa: int, size: int) -> list[Region]:
        """The RAM that shows in a range, cut to it: not what devices have put over it."""
        low, high = self.extent.hpa, self.extent.hpa + self.extent.size
        return [region for region in self.within(gpa, size) if low <= region.hpa < high]

    def _pieces(self, gpa: int, size: int) -> list[tuple[Region | None, int, int]]:
        """The range as (region or None, guest-physical start, length), in order."""
        pieces: list[tuple[Region | None, int, int]] = []
        while size > 0:
            index = bisect_right(self._starts, gpa) - 1
            if index >= 0 and gpa < self.regions[index].gpa + self.regions[index].size:
                region = self.regions[index]
                length = min(size, region.gpa + region.size - gpa)
                pieces.append((region, gpa, length))
            else:
                following = self._starts[index + 1] - gpa if index + 1 < len(self._starts) else size
                length = min(size, following)
                pieces.append((None, gpa, length))
            gpa += length
            size -= length
        return pieces

    def read(self, gpa: int, size: int) -> bytes:
        """``size`` bytes at guest-physical ``gpa``. Bytes that are not memory read as 0xff."""
        if gpa < 0 or size < 0:
            raise GuestFault(f"{size} bytes at {gpa:#x} is not a range of guest-physical memory.")
        if self._closed:
            raise ConfigError("The VM is closed, and its memory has been given back.")
        first = self.regions[0] if self.regions else None
        if first is not None and first.gpa == 0 and gpa + size <= first.size:  # the common case
            return bytes(self._view[first.hpa + gpa : first.hpa + gpa + size])
        parts = []
        for region, start, length in self._pieces(gpa, size):
            if region is None:
                parts.append(b"\xff" * length)
            else:
                hpa = region.hpa + start - region.gpa
                parts.append(bytes(self._view[hpa : hpa + length]))
        return b"".join(parts)

    def write(self, gpa: int, data: bytes | memoryview) -> None:
        """Store ``data`` at guest-physical ``gpa``. Raises `GuestFault`, and stores nothing, unless all of that is
        memory that can be written.
        """
        if not self._closed and gpa >= 0:
            for region, start, length in self._pieces(gpa, len(data)):
                if region is None or not region.writable:
                    raise GuestFault(
                        f"{len(data)} bytes cannot be written at {gpa:#x}: {start:#x}-{start + length - 1:#x} is "
                        f"{'no memory' if region is None else 'read-only memory'}."
                    )
        self.store(gpa, data)

    def store(self, gpa: int, data: bytes | memoryview) -> None:
        """Store ``data`` at guest-physical ``gpa`` as a bus master does: bytes that are not writable memory are
        dropped.
        """
        if gpa < 0:
            raise GuestFault(f"{gpa:#x} is not a guest-physical address.")
        if self._closed:
            raise ConfigError("The VM is closed, and its memory has been given back.")
        offset = 0
        for region, start, length in self._pieces(gpa, len(data)):
            if region is not None and region.writable:
                hpa = region.hpa + start - region.gpa
                self._view[hpa : hpa + length] = data[offset : offset + length]
                self.written(start, length)
            offset += length

    def close(self) -> None:
        """Return the frames to the host. Closing twice is harmless."""
        if self._closed:
            return
        self._closed = True
        self._view.release()
        self._host.release(self.extent)
