"""The moment at which runs of a VM with one vCPU begin again and again, as long as nobody in Python is asked.

All that the engine knows of the vCPU is put back from copies, memory by a frozen map. Devices and timers need not be,
because none is reached: an access that a device would serve ends the run, and so does a timer.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any, NamedTuple

from hypervisor.engine import block as b
from hypervisor.engine import layout
from hypervisor.engine.coverage_memory import CoverageMemory
from hypervisor.engine.kernels.repeating.case_loop import NO_REGISTER, CaseLoop
from hypervisor.engine.pcpu import PCpu
from hypervisor.engine.shared_words.scheduling import TurnWords
from hypervisor.engine.state import GPR
from hypervisor.engine.vcpu_state import VcpuState
from hypervisor.engine.vcpu_tlb import ENTRY
from hypervisor.units import FOREVER_NS

_NOW, _INTR, _AGE = b.NOW >> 3, b.INTR >> 3, b.GUEST_TLB_AGE - b.VCPU >> 3


class Area(NamedTuple):
    """Memory that is put back: so many zones from one on, and the address of the first one's leaf in a frozen map."""

    zone: int
    leaf_at: int
    zones: int


class Place(NamedTuple):
    """Where something is stored: pages of the base map, and the offset in the first of them."""

    pages: Sequence[int]
    offset: int


class StartingPoint:
    """Of a vCPU, as it is now. The frozen map of its ``areas`` must be there as long as this is used."""

    def __init__(
        self,
        pcpu: PCpu,
        vcpu: VcpuState,
        turns: TurnWords,
        areas: Sequence[Area],
        others: Sequence[tuple[int, int]],
        coverage: CoverageMemory | None,
    ) -> None:
        """While the vCPU is on the pCPU; ``others`` are addresses and sizes of what else a run may change, in multiples
        of 8 bytes.
        """
        self._vcpu = vcpu
        self.coverage = coverage
        if pcpu.words[b.DIRTY >> 3]:
            pcpu.sync()
        self._state = (ctypes.c_ubyte * layout.STATE_SIZE)()
        self._extra = (ctypes.c_int64 * len(vcpu.extra))()
        pcpu.save(ctypes.addressof(self._state), ctypes.addressof(self._extra))
        self.age = self._extra[_AGE]
        """Of the entries of the vCPU's TLB."""
        self._entries, self._large = vcpu.tlb.entries(self.age), vcpu.tlb.large()
        self._kept: list[Any] = []
        own = [(ctypes.addressof(part), ctypes.sizeof(part)) for part in (vcpu.words, turns)]
        copies = [(at, self._bytes(ctypes.string_at(at, size)), size) for at, size in (*own, *others)]
        self.loop = CaseLoop(
            state_at=ctypes.addressof(self._state),
            extra_at=ctypes.addressof(self._extra),
            home_at=ctypes.addressof(vcpu.extra),
            entries_at=self._bytes(self._entries),
            entry_count=len(self._entries) // ENTRY,
            large_at=self._table([self._large]),
            now=pcpu.words[_NOW],
            intr=pcpu.words[_INTR],
            copies_at=self._table(copies),
            copy_count=len(copies),
            zones_at=self._table(areas),
            zones_count=len(areas),
        )
        """What the kernel follows."""

    def _bytes(self, content: bytes) -> int:
        """The address of bytes that stay as long as this does."""
        self._kept.append(ctypes.create_string_buffer(content, len(content) or 1))
        return ctypes.addressof(self._kept[-1])

    def _table(self, rows: Sequence[Sequence[int]]) -> int:
        """The same of a table of words."""
        words = [b.signed(word) for row in rows for word in row]
        self._kept.append((ctypes.c_int64 * (len(words) or 1))(*words))
        return ctypes.addressof(self._kept[-1])

    def aim(self, content: Place, length: Place | str | None) -> None:
        """The bytes of a case go there, and how many they are into 32 bits of memory, or a general register."""
        loop = self.loop
        loop.pages_at, loop.offset = self._table([content.pages]), content.offset
        loop.length_register = GPR.index(length) if isinstance(length, str) else NO_REGISTER
        if isinstance(length, Place):
            loop.length_pages_at, loop.length_offset = self._table([length.pages]), length.offset

    def limit(self, time_ns: int, until_ns: int, ports: range) -> None:
        """A case ends when so much virtual time is over, or with a write to one of these ports; at the moment
        ``until_ns`` it is Python's.
        """
        loop = self.loop
        loop.end, loop.until = min(loop.now + time_ns, FOREVER_NS), until_ns
        loop.first_port, loop.end_port = ports.start, ports.stop

    def begin(self, pcpu: PCpu) -> None:
        """What the loop does before each case: the vCPU, which is on this pCPU, stands there again."""
        pcpu.kernel("begin_case", ctypes.addressof(self.loop))

    def put_back(self, pcpu: PCpu) -> None:
        """The same, and nothing is left of what has been run."""
        vcpu = self._vcpu
        self.begin(pcpu)
        vcpu.tlb.put_back(self.age, self._entries, self._large)
        vcpu.tlb.unpack()  # the vCPU is on a pCPU
        ctypes.memmove(vcpu.extra, self._extra, ctypes.sizeof(self._extra))
        pcpu.reload(ctypes.addressof(self._state), ctypes.addressof(vcpu.extra))
        if self.coverage is not None:
            self.coverage.clear()


__all__ = ["Area", "Place", "StartingPoint"]
