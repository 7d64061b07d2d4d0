"""A vCPU's TLB as values: its entries can be taken out and put into that of another (`kernels.memory.guest_tlb`)."""

from __future__ import annotations

import mmap

from hypervisor.engine import block as b

PLACES = b.GUEST_TLB_DATA + b.GUEST_TLB_CODE
_WORDS, _LARGE_WORDS = 2 * PLACES, b.BLOOM_BITS // 64
_MASK32 = 0xFFFFFFFF


class VcpuTlb:
    """What lies at `block.GUEST_TLB_AT` of a vCPU's memory. Only while no guest runs on the vCPU."""

    def __init__(self, room: mmap.mmap) -> None:
        self._room = room
        self._words = memoryview(room)[b.GUEST_TLB_AT : b.GUEST_TLB_AT + b.GUEST_TLB_SIZE].cast("Q")

    def entries(self, age: int) -> list[int]:
        """Three numbers for each entry of this age: its place, its first word, and the lower half of its second."""
        seconds = self._words[1:_WORDS:2].tolist()
        return [
            number
            for place, second in enumerate(seconds)
            if second >> 32 == age
            for number in (place, self._words[2 * place], second & _MASK32)
        ]

    def large(self) -> list[int]:
        """The filter that says where large pages lie."""
        return self._words[_WORDS : _WORDS + _LARGE_WORDS].tolist()

    def put_back(self, age: int, entries: list[int], large: list[int]) -> None:
        """Have these entries of this age, and no others."""
        self._room.madvise(mmap.MADV_DONTNEED, b.GUEST_TLB_AT, b.GUEST_TLB_SIZE + mmap.PAGESIZE - 1 & -mmap.PAGESIZE)
        for place, first, second in zip(entries[::3], entries[1::3], entries[2::3], strict=True):
            self._words[2 * place] = first
            self._words[2 * place + 1] = age << 32 | second & _MASK32
        for n, word in enumerate(large):
            self._words[_WORDS + n] = word


__all__ = ["PLACES", "VcpuTlb"]
