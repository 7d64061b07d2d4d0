"""What a VM's coverage is kept in: memory that generated code and kernels write (`kernels.coverage.entered`)."""

from __future__ import annotations

import ctypes

from hypervisor.engine import block as b
from hypervisor.memory.frames import address_of, mapping

_LOST = 2 * b.BLOCK_ROWS
"""The word behind the table's rows: a block found no room."""


class CoverageMemory:
    """A map of edges, and a table of blocks if they are ``noted``. The table takes host memory where it is written."""

    def __init__(self, noted: bool) -> None:
        self._edges = (ctypes.c_uint8 * b.EDGES_SIZE)()
        self.edges_at = ctypes.addressof(self._edges)
        self._table = mapping(8 * (_LOST + 1)) if noted else None
        self.table_at = 0 if self._table is None else address_of(self._table)

    @property
    def edges(self) -> bytes:
        """How often each edge was taken, modulo 256."""
        return bytes(self._edges)

    def blocks(self) -> dict[int, int]:
        """Linear addresses of the blocks that began, in order, and how many bytes each has."""
        if self._table is None:
            return {}
        with memoryview(self._table) as view, view.cast("Q") as rows:
            found = {rows[at]: rows[at + 1] for at in range(0, _LOST, 2) if rows[at + 1]}
        return dict(sorted(found.items()))

    @property
    def complete(self) -> bool:
        """Whether every block found room in the table."""
        if self._table is None:
            return True
        with memoryview(self._table) as view, view.cast("Q") as rows:
            return rows[_LOST] == 0

    def clear(self) -> bool:
        """Nothing has been executed so far; whether it lies elsewhere now."""
        ctypes.memset(self._edges, 0, b.EDGES_SIZE)
        if self._table is not None:
            self._table = mapping(8 * (_LOST + 1))
            self.table_at = address_of(self._table)
        return self._table is not None
