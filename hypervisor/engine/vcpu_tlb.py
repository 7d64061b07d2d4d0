"""A vCPU's TLB as a value: its entries can be taken out and put into that of another (`kernels.memory.guest_tlb`)."""

from __future__ import annotations

import ctypes
import mmap
import threading

from hypervisor.engine import block as b
from hypervisor.engine.compiling.compiler import code
from hypervisor.memory.frames import address_of

PLACES = b.GUEST_TLB_DATA + b.GUEST_TLB_CODE
ENTRY = 24
"""Bytes of a packed entry (`kernels.memory.packed_tlb`)."""
_LARGE_AT, _LARGE_WORDS = b.GUEST_TLB_BLOOM_AT >> 3, b.BLOOM_BITS // 64


class VcpuTlb:
    """What lies at `block.GUEST_TLB_AT` of a vCPU's memory. Only while no guest runs on the vCPU.

    What is put back stays packed until the vCPU runs, and what is set aside is packed: most of a crowd of machines
    never runs at the same time.
    """

    def __init__(self, room: mmap.mmap) -> None:
        self._room = room
        self._at = address_of(room) + b.GUEST_TLB_AT
        self._words = memoryview(room)[b.GUEST_TLB_AT : b.GUEST_TLB_AT + b.GUEST_TLB_SIZE].cast("Q")
        self._packed: tuple[int, bytes, list[int]] | None = None
        """What the entries are; then none is valid in the memory, where some of other ages may be."""
        self._taken = False
        """Whether memory has been taken for entries, and not been given back."""
        self._changing = threading.RLock()  # another VM's thread sets aside what this one's looks at

    @property
    def packed(self) -> bool:
        """Whether it takes the room of its entries alone."""
        return self._packed is not None

    def entries(self, age: int) -> bytes:
        """The entries of this age, packed."""
        with self._changing:
            if self._packed is not None and self._packed[0] == age:
                return self._packed[1]
            self.unpack()
            pack = code().call["pack_tlb"]
            packed = ctypes.create_string_buffer(ENTRY * pack(self._at, age, 0))
            pack(self._at, age, ctypes.addressof(packed))
            return packed.raw

    def large(self) -> list[int]:
        """The filter that says where large pages lie."""
        with self._changing:
            if self._packed is not None:
                return self._packed[2].copy()
            return self._words[_LARGE_AT : _LARGE_AT + _LARGE_WORDS].tolist()

    def put_back(self, age: int, entries: bytes, large: list[int]) -> None:
        """Have these entries of this age, and no others."""
        with self._changing:
            self._give_back()
            self._packed = (age, entries, large.copy())

    def put_over(self, age: int, entries: bytes, large: list[int]) -> None:
        """The same for an age that none has had: what is there is not valid, and so can stay."""
        with self._changing:
            self._packed = (age, entries, large.copy())

    def _give_back(self) -> None:
        if self._taken:
            size = b.GUEST_TLB_SIZE + mmap.PAGESIZE - 1 & -mmap.PAGESIZE
            self._room.madvise(mmap.MADV_DONTNEED, b.GUEST_TLB_AT, size)
            self._taken = False

    def set_aside(self, age: int) -> None:
        """Give back the memory of entries that nobody needs soon. While the vCPU is on no pCPU, and cannot come to one;
        in any thread.
        """
        with self._changing:
            if self._packed is None:
                self._packed = (age, self.entries(age), self.large())
            self._give_back()

    def unpack(self) -> None:
        """Let the engine see what was put back."""
        self._taken = True
        if self._packed is None:
            return
        with self._changing:
            (age, entries, large), self._packed = self._packed, None
            packed = ctypes.cast(ctypes.c_char_p(entries), ctypes.c_void_p).value
            code().call["unpack_tlb"](self._at, age, packed, len(entries) // ENTRY)
            words = self._words
            for at, word in enumerate(large, _LARGE_AT):
                if words[at] != word:
                    words[at] = word


__all__ = ["ENTRY", "PLACES", "VcpuTlb"]
