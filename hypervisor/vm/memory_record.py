"""Memory as a record: the pages that hold something, by their numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypervisor.errors import ConfigError
from hypervisor.state import blob, number, numbers, record
from hypervisor.units import PAGE_SIZE

if TYPE_CHECKING:
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


def _taken(view: memoryview) -> MemoryState:
    starts = [at for at in range(0, len(view), PAGE_SIZE) if view[at : at + PAGE_SIZE] != _ZEROS]
    content = b"".join([view[at : at + PAGE_SIZE] for at in starts])
    return MemoryState(len(view), [at // PAGE_SIZE for at in starts], content)


def _check(name: str, state: MemoryState, size: int) -> None:
    if state.size != size:
        raise ConfigError(f"{name}: this state is of {state.size} bytes of memory, and this machine has {size}.")
    ordered = all(one < other for one, other in zip(state.pages, state.pages[1:], strict=False))
    if not ordered or (state.pages and state.pages[-1] >= size // PAGE_SIZE):
        raise ConfigError(f"{name}: this state cannot be restored: its pages are not in order within the memory.")
    if len(state.content) != PAGE_SIZE * len(state.pages):
        raise ConfigError(f"{name}: this state cannot be restored: {len(state.content)} bytes are not its pages.")


def _put(view: memoryview, state: MemoryState) -> None:
    for n, page in enumerate(state.pages):
        view[page * PAGE_SIZE : (page + 1) * PAGE_SIZE] = state.content[n * PAGE_SIZE : (n + 1) * PAGE_SIZE]


class RamPart:
    """A machine's RAM, whatever shows over it, as a part of its state. While the machine is set down."""

    def __init__(self, vm: Machine) -> None:
        self._vm = vm

    def _view(self) -> memoryview:
        extent = self._vm.memory.extent
        return memoryview(self._vm.host.memory.map)[extent.hpa : extent.hpa + extent.size]

    def state(self) -> MemoryState:
        """What it holds."""
        with self._view() as view:
            return _taken(view)

    def restore(self, state: MemoryState) -> None:
        """Hold what ``state`` says. Raises `ConfigError` for a state of another machine's memory."""
        _check("memory", state, self._vm.memory.extent.size)
        self._vm.host.memory.zero(self._vm.memory.extent)
        with self._view() as view:
            _put(view, state)


class BlockPart:
    """Memory beside RAM (`MemoryBlock`) as a part of a machine's state."""

    def __init__(self, block: MemoryBlock) -> None:
        self._block = block

    def state(self) -> MemoryState:
        """What it holds."""
        return _taken(self._block.view)

    def restore(self, state: MemoryState) -> None:
        """Hold what ``state`` says. Raises `ConfigError` for a state of another block."""
        _check(self._block.name, state, self._block.size)
        self._block.zero(self._block.size)
        _put(self._block.view, state)


__all__ = ["BlockPart", "MemoryState", "RamPart"]
