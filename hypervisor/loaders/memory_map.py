"""The memory map (E820), and finding room in it."""

from __future__ import annotations

from collections.abc import Sequence

from hypervisor.errors import ImageError
from hypervisor.loaders.entry import BootSpec, GuestMemory, MemoryRange
from hypervisor.units import GIB, KIB, MIB, PAGE_SIZE

USABLE = 1
"""E820 type of memory that the guest may use (ACPI 6.5, section 15, AddressRangeMemory)."""

RESERVED = 2

MOST = 64 * GIB
"""Beyond this end an address is taken for a mistake, not for a wish for more memory."""

EBDA = 0x9FC00
"""Where conventional memory ends: the last KiB below 640 KiB is the extended BIOS data area."""

LOADER_AREA = 0x80000
"""What a loader itself needs (GDT, page tables, information blocks) goes at or above this address while it is free.

It is below 640 KiB, outside page 0, and clear of what boot code likes: 0x500-0x7fff, and the pages just below the
EBDA, where Linux puts its trampolines. An image that occupies it moves the loader's data to the next free place below
640 KiB.
"""


ROM_AT_THE_END = (4 * GIB - 256 * KIB, 256 * KIB, RESERVED)
"""Where the BIOS shows below 4 GiB, as much as SeaBIOS says (ACPI 6.4, section 15.2: what the firmware occupies "at the
end of the 4-GB address space" is reserved, too). Kernels map as far as the map reaches, and find the APICs by that.
"""


def default_memory_map(size: int) -> list[MemoryRange]:
    """The map of a plain PC with ``size`` bytes of memory: 640 KiB less the EBDA, the BIOS, the rest from 1 MiB, and
    the BIOS again.

    Memory beyond 3 GiB continues at 4 GiB, below which a PC keeps its devices.
    """
    if size <= EBDA:
        return [(0, size, USABLE)]
    ranges = [(0, EBDA, USABLE), (EBDA, 0xA0000 - EBDA, RESERVED), (0xF0000, 0x10000, RESERVED)]
    if size > MIB:
        ranges.append((MIB, min(size, 3 * GIB) - MIB, USABLE))
    ranges.append(ROM_AT_THE_END)
    if size > 3 * GIB:
        ranges.append((4 * GIB, size - 3 * GIB, USABLE))
    return ranges


def memory_map_of(spec: BootSpec, memory: GuestMemory) -> list[MemoryRange]:
    """The board's map if it gave one, else that of a plain PC."""
    return list(spec.memory_map) or default_memory_map(spec.memory_size or memory.size)


def lower_kib(ranges: Sequence[MemoryRange]) -> int:
    """KiB of usable memory from address 0 (at most 640), as INT 12h and multiboot's mem_lower count it."""
    return min(_reach(ranges, 0), 640 * KIB) // KIB


def upper_kib(ranges: Sequence[MemoryRange]) -> int:
    """KiB of usable memory from 1 MiB to the first hole, as multiboot's mem_upper counts it."""
    return max(_reach(ranges, MIB) - MIB, 0) // KIB


def _reach(ranges: Sequence[MemoryRange], start: int) -> int:
    """The end of the usable memory that is contiguous from ``start`` (``start`` itself if there is none)."""
    for base, size, kind in sorted(ranges):
        if kind == USABLE and base <= start < base + size:
            start = base + size
    return start


class Placement:
    """Who occupies which guest-physical memory while an image is being loaded.

    `claim` is for what the image dictates, `find` for what the loader may put anywhere. Page 0 (interrupt vectors and
    BIOS data) is never handed out by `find`, so that no information block has an address that a guest takes for NULL.
    """

    def __init__(self, name: str, ranges: Sequence[MemoryRange]) -> None:
        self.name = name
        self._usable = _merge(ranges)
        self._taken: list[tuple[int, int, str]] = []
        self.notes: list[str] = []
        """Sentences about what the image wants and does not get."""

    def is_memory(self, start: int, size: int) -> bool:
        """Whether ``size`` bytes from ``start`` are usable memory, occupied or not."""
        return any(low <= start and start + size <= high for low, high in self._usable)

    def claim(self, start: int, size: int, what: str) -> None:
        """``what`` occupies ``size`` bytes from ``start``.

        Raises `ImageError` when that is not usable memory or is occupied already.
        """
        end = start + size
        if size <= 0:
            return
        if not self.is_memory(start, size):
            top = max((high for _, high in self._usable), default=0)
            hint = (
                f"Memory ends at {top:#x}: give the guest more (--memory {-(-end // MIB)}M)."
                if top < end <= MOST
                else "Link it to addresses that are RAM on a PC (from 0x100000 up)."
            )
            raise ImageError(f"{self.name}: {what} needs {start:#x}-{end - 1:#x}, which is not memory. {hint}")
        for low, high, other in self._taken:
            if start < high and low < end:
                raise ImageError(
                    f"{self.name}: {what} at {start:#x}-{end - 1:#x} overlaps {other} at {low:#x}-{high - 1:#x}. "
                    "Link them apart."
                )
        self._taken.append((start, end, what))

    def find(self, size: int, what: str, *, low: int = PAGE_SIZE, high: int = 4 * GIB, align: int = PAGE_SIZE) -> int:
        """The lowest free place for ``what`` within [low, high), now claimed.

        Raises `ImageError` when there is none.
        """
        return self._find(size, what, max(low, PAGE_SIZE), high, align, top=False)

    def find_high(self, size: int, what: str, *, high: int = 4 * GIB, align: int = PAGE_SIZE) -> int:
        """The highest free place for ``what`` between 1 MiB and ``high``, now claimed."""
        return self._find(size, what, MIB, high, align, top=True)

    def loader_area(self, size: int, what: str, *, align: int = PAGE_SIZE) -> int:
        """A place below 640 KiB for the loader's own ``what``.

        From `LOADER_AREA` up, or anywhere from page 1 up if taken.
        """
        try:
            return self.find(size, what, low=LOADER_AREA, high=0xA0000, align=align)
        except ImageError:
            return self.find(size, what, high=0xA0000, align=align)

    def _find(self, size: int, what: str, low: int, high: int, align: int, *, top: bool) -> int:
        for start, end in self._gaps(top=top):
            start, end = max(start, low), min(end, high)
            place = (end - size) & -align if top else -(-start // align) * align
            if start <= place and place + size <= end:
                self._taken.append((place, place + size, what))
                return place
        raise ImageError(
            f"{self.name}: there is no room for {what} ({size} bytes) between {low:#x} and {high:#x}. "
            "Give the guest more memory (--memory)."
        )

    def _gaps(self, *, top: bool) -> list[tuple[int, int]]:
        gaps = []
        for start, end in self._usable:
            for low, high, _ in sorted(self._taken):
                if low < end and start < high:
                    gaps.append((start, low))
                    start = high
            gaps.append((start, end))
        return sorted((gap for gap in gaps if gap[0] < gap[1]), reverse=top)


def _merge(ranges: Sequence[MemoryRange]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for base, size, kind in sorted(ranges):
        if kind != USABLE or size <= 0:
            continue
        if merged and merged[-1][1] >= base:
            merged[-1] = (merged[-1][0], max(merged[-1][1], base + size))
        else:
            merged.append((base, base + size))
    return merged
