"""Which of its blocks a guest executes: for those who look for inputs, and for reports by source lines."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager

from hypervisor.engine.coverage_memory import CoverageMemory
from hypervisor.engine.tables import GuestTables
from hypervisor.errors import ConfigError
from hypervisor.symbols.symbol_table import SymbolTable
from hypervisor.vcpu.processor import Processor
from hypervisor.vm.watching.line_counts import Function, LineCounts

_COLD = re.compile(r"\.cold(\.\d+)?$")
"""What GCC calls a part of a function, which nobody calls (``-freorder-blocks-and-partition``)."""
_NOTHING = CoverageMemory(noted=False)


class Coverage:
    """A VM's, as ``vm.coverage``. Off until `start`; then every block says that it begins, by code of its own.

    A block is what is executed from a place that something jumped to, up to the next branch, at most to the end of
    its page. The guest sees nothing of it, and what is counted depends on the guest alone: not on how often it was
    left, stepped or moved. Forks begin without; `VM.revert` changes nothing of what was counted.
    """

    def __init__(
        self,
        tables: GuestTables,
        vcpus: Sequence[Processor],
        symbols: SymbolTable,
        standing_still: Callable[[], AbstractContextManager[None]],
    ) -> None:
        """``standing_still`` is a block in which nobody runs the VM that has these."""
        self._tables, self._vcpus, self._symbols = tables, vcpus, symbols
        self._standing_still = standing_still

    @property
    def _memory(self) -> CoverageMemory:
        return self._tables.coverage or _NOTHING

    def start(self, blocks: bool = True) -> None:
        """Count from now on, beginning with nothing. Without ``blocks``, edges alone, which costs less. Between runs
        only; raises `ConfigError` while the VM runs.
        """
        self._have(CoverageMemory(blocks))

    def clear(self) -> None:
        """Begin with nothing again, if it is on. Between runs only."""
        with self._standing_still():
            if self._tables.coverage is not None and self._tables.coverage.clear():
                self._tables.bound_to = None
            self._forget_previous()

    def _forget_previous(self) -> None:
        for vcpu in self._vcpus:
            vcpu.registers.set_word("previous", 0)

    def stop(self) -> None:
        """Count no more, and forget what was counted. Between runs only."""
        self._have(None)

    def _have(self, memory: CoverageMemory | None) -> None:
        with self._standing_still():
            self._tables.coverage = memory
            self._tables.bound_to = None  # the engine has a copy
            self._forget_previous()

    @property
    def running(self) -> bool:
        """Whether it is on."""
        return self._tables.coverage is not None

    @property
    def edges(self) -> bytes:
        """64 KiB, AFL's map: at a block's number exclusive-or half of that of the one before it, on the same vCPU, how
        often that was so, modulo 256. A number has 16 bits, mixed from the block's linear address.
        """
        return self._memory.edges

    @property
    def blocks(self) -> dict[int, int]:
        """Blocks that began: their linear addresses, in order, and how many bytes each had at first."""
        return self._memory.blocks()

    @property
    def complete(self) -> bool:
        """Whether `blocks` has all of them: it holds some 260,000."""
        return self._memory.complete

    def lines(self, symbols: SymbolTable | None = None) -> dict[tuple[str, int], bool]:
        """Each source line, as file and number, that ``symbols`` (by default the VM's) have code for, and whether it
        was executed: whether a block has some of its code. Raises `ConfigError` for what is no table of symbols.
        """
        table = self._table(symbols)
        executed = {table.line(address) for address in self._addresses()}
        every = {line for line in executed if line is not None} | table.all_lines()
        return {line: line in executed for line in sorted(every) if line[1]}  # else the code has no line

    def functions(self, symbols: SymbolTable | None = None) -> dict[Function, bool]:
        """Each function whose first instruction has a source line, and whether that instruction was executed. What the
        compiler has put apart as seldom executed is no function. Raises as `lines`.
        """
        table, executed, found = self._table(symbols), set(self._addresses()), dict[Function, bool]()
        for address, name in table.functions().items():
            line = None if _COLD.search(name) else table.line(address)
            if line is not None and line[1]:
                function = Function(line[0], line[1], name)
                found[function] = found.get(function, False) or address in executed
        return dict(sorted(found.items()))

    def lcov(self, symbols: SymbolTable | None = None) -> str:
        """A report for ``genhtml`` and editors: `lines` and `functions`, executed once or not at all. Raises as
        `lines`.
        """
        counts = LineCounts()
        counts.add(self.lines(symbols), self.functions(symbols))
        return counts.lcov()

    def _addresses(self) -> Iterator[int]:
        return (address for start, size in self.blocks.items() for address in range(start, start + size))

    def _table(self, symbols: SymbolTable | None) -> SymbolTable:
        table = self._symbols if symbols is None else symbols
        if not all(hasattr(table, name) for name in ("line", "all_lines", "functions")):
            raise ConfigError(f"{symbols!r} is no table of symbols: give one such as vm.symbols, or nothing.")
        return table


__all__ = ["Coverage"]
