"""Memory as a record: the pages that hold something, by their numbers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import TYPE_CHECKING

from hypervisor.errors import ConfigError
from hypervisor.state import blob, number, numbers, record
from hypervisor.units import PAGE_SIZE

if TYPE_CHECKING:
    from hypervisor.memory import GuestMemory
    from hypervisor.run.machine import Machine
    from hypervisor.vm.device_memory import MemoryBlock

RAM = "memory"
"""The name of RAM among the parts of a machine."""
MAX_PAGES = 1 << 24
_ZEROS = bytes(PAGE_SIZE)


@record
class MemoryState:
    """``pages`` are the numbers of those that are not all zeros, counted from the memory's first byte, in order;
    ``content`` is what they hold. ``size`` is the memory's, in bytes.
    """

    size: int = number(0, 1 << 40)
    pages: list[int] = numbers(MAX_PAGES, 0, MAX_PAGES - 1)
    content: bytes = blob(MAX_PAGES * PAGE_SIZE)


@dataclass(frozen=True)
class StoredPages:
    """The same without all contents at hand: ``pages`` are in order and within the memory, ``pieces`` are what they
    hold, one behind the other, each piece of whole pages. Both are taken once, when the memory is put back.
    """

    size: int
    pages: Iterable[int]
    pieces: Iterable[bytes]


def _taken(memory: GuestMemory, ranges: list[range]) -> MemoryState:
    pages, content, before = [], [], 0
    for where in ranges:
        for at, data in memory.stored_pages(where):
            pages.append((before + at - where.start) // PAGE_SIZE)
            content.append(data)
        before += len(where)
    return MemoryState(before, pages, b"".join(content))


def _checked(name: str, state: MemoryState | StoredPages, size: int) -> StoredPages:
    if state.size != size:
        raise ConfigError(f"{name}: this state is of {state.size} bytes of memory, and this machine has {size}.")
    if isinstance(state, StoredPages):
        return state
    ordered = all(one < other for one, other in pairwise(state.pages))
    if not ordered or (state.pages and state.pages[-1] >= size // PAGE_SIZE):
        raise ConfigError(f"{name}: this state cannot be restored: its pages are not in order within the memory.")
    if len(state.content) != PAGE_SIZE * len(state.pages):
        raise ConfigError(f"{name}: this state cannot be restored: {len(state.content)} bytes are not its pages.")
    return StoredPages(state.size, state.pages, [state.content])


def _put(memory: GuestMemory, ranges: list[range], stored: StoredPages) -> None:
    for where in ranges:
        memory.clear(where.start, len(where))
    pages = iter(stored.pages)
    for piece in stored.pieces:
        view, done = memoryview(piece), 0
        for first, end in _together(islice(pages, len(piece) // PAGE_SIZE)):
            for place, size in _places(ranges, first * PAGE_SIZE, end * PAGE_SIZE):
                memory.store_pages(place, view[done : done + size])
                done += size


def _together(pages: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Pages that lie one behind the other, together: the first number, and the one behind the last."""
    first = following = -1
    for page in pages:
        if page != following:
            if first >= 0:
                yield first, following
            first = page
        following = page + 1
    if first >= 0:
        yield first, following


def _places(ranges: list[range], first: int, end: int) -> Iterator[tuple[int, int]]:
    """Where bytes of the memory are in the base map, and how many there."""
    before = 0
    for where in ranges:
        start, stop = max(first - before, 0), min(end - before, len(where))
        if start < stop:
            yield where.start + start, stop - start
        before += len(where)


class RamPart:
    """A machine's RAM, whatever shows over it, as a part of its state. While the machine is set down."""

    def __init__(self, vm: Machine) -> None:
        self._memory = vm.memory
        self._ranges = [range(*ends) for ends in vm.memory.ram_ranges]
        self.size = vm.memory.size
        """In bytes."""

    def state(self) -> MemoryState:
        """What it holds."""
        return _taken(self._memory, self._ranges)

    def restore(self, state: MemoryState | StoredPages) -> None:
        """Hold what ``state`` says. Raises `ConfigError` for a state of another machine's memory."""
        _put(self._memory, self._ranges, _checked("memory", state, self._memory.size))


class BlockPart:
    """Memory beside RAM (`MemoryBlock`) as a part of a machine's state."""

    def __init__(self, vm: Machine, block: MemoryBlock) -> None:
        self._memory, self._block = vm.memory, block
        self.size = block.size
        """In bytes."""

    def state(self) -> MemoryState:
        """What it holds."""
        return _taken(self._memory, [self._block.home])

    def restore(self, state: MemoryState | StoredPages) -> None:
        """Hold what ``state`` says. Raises `ConfigError` for a state of another block."""
        _put(self._memory, [self._block.home], _checked(self._block.name, state, self._block.size))


__all__ = ["RAM", "BlockPart", "MemoryState", "RamPart", "StoredPages"]
