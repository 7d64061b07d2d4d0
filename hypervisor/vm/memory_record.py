"""Memory as a record: the pages that hold something, by their numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypervisor.errors import ConfigError
from hypervisor.state import blob, number, numbers, record
from hypervisor.units import PAGE_SIZE

if TYPE_CHECKING:
    from hypervisor.memory import GuestMemory
    from hypervisor.run.machine import Machine
    from hypervisor.vm.device_memory import MemoryBlock

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


def _taken(memory: GuestMemory, ranges: list[range]) -> MemoryState:
    pages, content, before = [], [], 0
    for where in ranges:
        for at, data in memory.stored_pages(where):
            pages.append((before + at - where.start) // PAGE_SIZE)
            content.append(data)
        before += len(where)
    return MemoryState(before, pages, b"".join(content))


def _check(name: str, state: MemoryState, size: int) -> None:
    if state.size != size:
        raise ConfigError(f"{name}: this state is of {state.size} bytes of memory, and this machine has {size}.")
    ordered = all(one < other for one, other in zip(state.pages, state.pages[1:], strict=False))
    if not ordered or (state.pages and state.pages[-1] >= size // PAGE_SIZE):
        raise ConfigError(f"{name}: this state cannot be restored: its pages are not in order within the memory.")
    if len(state.content) != PAGE_SIZE * len(state.pages):
        raise ConfigError(f"{name}: this state cannot be restored: {len(state.content)} bytes are not its pages.")


def _put(memory: GuestMemory, ranges: list[range], state: MemoryState) -> None:
    places = [place for where in ranges for place in range(where.start, where.stop, PAGE_SIZE)]
    for where in ranges:
        memory.clear(where.start, len(where))
    for n, page in enumerate(state.pages):
        memory.store_beneath(places[page], state.content[n * PAGE_SIZE : (n + 1) * PAGE_SIZE])


class RamPart:
    """A machine's RAM, whatever shows over it, as a part of its state. While the machine is set down."""

    def __init__(self, vm: Machine) -> None:
        self._memory = vm.memory
        self._ranges = [range(*ends) for ends in vm.memory.ram_ranges]

    def state(self) -> MemoryState:
        """What it holds."""
        return _taken(self._memory, self._ranges)

    def restore(self, state: MemoryState) -> None:
        """Hold what ``state`` says. Raises `ConfigError` for a state of another machine's memory."""
        _check("memory", state, self._memory.size)
        _put(self._memory, self._ranges, state)


class BlockPart:
    """Memory beside RAM (`MemoryBlock`) as a part of a machine's state."""

    def __init__(self, vm: Machine, block: MemoryBlock) -> None:
        self._memory, self._block = vm.memory, block

    def state(self) -> MemoryState:
        """What it holds."""
        return _taken(self._memory, [self._block.home])

    def restore(self, state: MemoryState) -> None:
        """Hold what ``state`` says. Raises `ConfigError` for a state of another block."""
        _check(self._block.name, state, self._block.size)
        _put(self._memory, [self._block.home], state)


__all__ = ["BlockPart", "MemoryState", "RamPart"]
