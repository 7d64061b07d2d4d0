"""Some cases from one starting point, one after the other (`hypervisor.engine.kernels.repeating.short_cases`)."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import NamedTuple

from hypervisor.engine import block as b
from hypervisor.engine.interposition.interpose import guard
from hypervisor.engine.kernels.repeating.case_loop import DONE, END_ROW, FULL, HALTED, IN_PYTHON, PORT, TIME
from hypervisor.engine.pcpu import PCpu
from hypervisor.engine.repeating.starting_point import StartingPoint

_ROOM = 4 * b.EDGES_SIZE
"""Edges of some cases that are kept until they are told: each may have as many as there are."""
_END_WORDS, _MASK64 = END_ROW >> 3, (1 << 64) - 1


class ShortEnd(NamedTuple):
    """How a case ended: `IN_PYTHON`, or by the ``value`` that it wrote to the port ``where``, by HLT with RIP
    ``where``, or as its time was over; how long it took; what of the map of edges it has counted.
    """

    stop: int
    where: int
    value: int
    virtual_ns: int
    edges: dict[int, int]


class Series:
    """Of a vCPU that is on a pCPU, while nobody else uses its VM. `go` on until all are over; `close` it in any case.
    The in-place callback of the pCPU is to be set anew behind it.
    """

    def __init__(self, point: StartingPoint, pcpu: PCpu, cases: Sequence[bytes]) -> None:
        self._point, self._pcpu, self._loop = point, pcpu, point.loop
        self.ends: list[ShortEnd] = []
        """Of those that are over."""
        self._content = ctypes.create_string_buffer(b"".join(cases))
        self._cases = (ctypes.c_int64 * (2 * len(cases)))()
        at = ctypes.addressof(self._content)
        for number, case in enumerate(cases):
            self._cases[2 * number], self._cases[2 * number + 1] = at, len(case)
            at += len(case)
        self._ends = (ctypes.c_int64 * (_END_WORDS * len(cases)))()
        self._edges = (ctypes.c_uint32 * (0 if point.coverage is None else _ROOM))()
        loop = self._loop
        loop.age, loop.number, loop.count, loop.inside = point.age, 0, len(cases), 0
        loop.cases_at, loop.ends_at = ctypes.addressof(self._cases), ctypes.addressof(self._ends)
        loop.edges_at, loop.edges_room, loop.edges_used = ctypes.addressof(self._edges), len(self._edges), 0
        self._events = pcpu.report.keep_events()
        pcpu.words[b.F_PYTHON >> 3] = guard().one  # "leave the guest", whatever it is asked
        if point.coverage is not None:
            point.coverage.clear()

    def go(self) -> bool:
        """Run on, without the interpreter's lock, until all are over, or the pCPU is kicked; whether they are."""
        loop = ctypes.addressof(self._loop)
        why = FULL
        while why == FULL:
            why = self._pcpu.kernel("repeat", loop)
            self._tell()
        return why == DONE

    def _tell(self) -> None:
        first, number, edges = len(self.ends), self._loop.number, memoryview(self._edges).cast("B").cast("I")
        words = memoryview(self._ends).cast("B").cast("q")[_END_WORDS * first : _END_WORDS * number].tolist()
        at = 0
        for row in range(0, len(words), _END_WORDS):
            stop, where, value, virtual_ns, end = words[row : row + _END_WORDS]
            counts = {word >> 8: word & 0xFF for word in edges[at:end].tolist()} if at < end else {}
            self.ends.append(ShortEnd(stop, where & _MASK64, value, virtual_ns, counts))
            at = end
        self._loop.edges_used = 0

    @property
    def inside(self) -> tuple[int, bytes] | None:
        """Of a case that has begun, and was left in its middle: how long it has taken, and its map of edges."""
        if not self._loop.inside:
            return None
        coverage = self._point.coverage
        return self._pcpu.report.now - self._loop.now, b"" if coverage is None else coverage.edges

    def close(self) -> None:
        """Leave the vCPU as it was at the starting point."""
        self._point.put_back(self._pcpu)
        self._pcpu.report.forget_counts()
        self._pcpu.report.put_back_events(self._events)


__all__ = ["HALTED", "IN_PYTHON", "PORT", "TIME", "Series", "ShortEnd"]
