"""The host's physical memory: the table of its frames, and what has been promised of them.

A frame is 4 KiB. Whatever VMs have is made of frames: RAM, frame buffers, ROMs, and the leaves of their page maps. A
frame costs the host memory once it is stored to; before that every page shows one frame of zeros. How many references
there are to a frame, and whether it is free, stands in the table, which kernels change (`FrameKernels`); promises are
kept here, so that a guest that stores to all that it has never finds the host without a frame. A host may promise more
than it has (``overcommit``): then each VM has a part for sure, and what it has beyond that as long as there is some.
"""

from __future__ import annotations

import ctypes
import mmap
import resource
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Protocol

from hypervisor.errors import ConfigError
from hypervisor.memory import map_words as w
from hypervisor.memory.balloons import Balloons
from hypervisor.memory.swap_file import SwapFile
from hypervisor.units import GIB, MIB, PAGE_SHIFT, PAGE_SIZE, Hpa, page_up

# Private: of a shared mapping, MADV_DONTNEED would leave the contents for the next VM to read.
PRIVATE: dict[str, int] = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}
_NORESERVE = 0x4000 if sys.platform == "linux" else 0  # `mmap.MAP_NORESERVE` from Python 3.13 on
_SPARSE = {"flags": PRIVATE["flags"] | _NORESERVE} if PRIVATE else PRIVATE

BESIDE, LEAST_BESIDE = (512 * GIB, 16 * GIB), 512 * MIB
"""Addresses of frames for what VMs have beside RAM, for snapshots, and for machines that have gone on from one: as many
as the process may have, and where its addresses are limited. They take memory when they are used.
"""

FOR_SURE = 0.5
"""The part of a host's memory that is kept for its VMs when more was promised: each has its share of it, however much
the others use. What is not kept is anybody's, and what VMs share lies there.
"""


class FrameKernels(NamedTuple):
    """What the engine does to frames and maps, for any thread (`hypervisor.engine.kernels.memory.frame_table`)."""

    take: Callable[[int], int]
    own: Callable[[int, int, int], int]
    own_several: Callable[[int, int, int, int], int]
    lay: Callable[[int, int, int, int], int]
    clear: Callable[[int, int, int, int], int]
    add_leaf: Callable[[int, int], int]
    remove_leaf: Callable[[int, int], int]
    release: Callable[[int, int, int, int], int]
    trim: Callable[[int], int]
    freeze: Callable[[int, int, int], int]
    adopt: Callable[[int, int, int, int, int], int]
    put_back: Callable[[int, int, int, int, int], int]
    drop: Callable[[int, int, int], int]
    keep_for: Callable[[int, int, int], int]
    merge_zone: Callable[[int, int, int, int], int]
    prune: Callable[[int, int, int], int]
    pick: Callable[[int, int, int, int, int], int]
    swap: Callable[[int, int, int], int]
    drop_slots: Callable[[int, int], int]


class Promised(Protocol):
    """What has been promised frames."""

    def release(self) -> None:
        """Give back what it has got of them."""
        ...


class Promise(NamedTuple):
    """Bytes that an owner may come to use, of RAM and of what is beside it."""

    owner: object
    ram: int
    beside: int
    to: Promised | None = None


MakeRoom = Callable[[int, Any, Any], None]


def mapping(size: int) -> mmap.mmap:
    """Zeroed memory of this process that takes room only where it is used."""
    return mmap.mmap(-1, max(size, PAGE_SIZE), **_SPARSE)


def address_of(memory: mmap.mmap) -> int:
    """Where a mapping begins in this process."""
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))


class HostMemory:
    """All frames of a host. VMs are created and closed in any thread."""

    def __init__(
        self, size: int, kernels: FrameKernels, overcommit: float = 1.0, swap_file: SwapFile | None = None
    ) -> None:
        """``size`` bytes of RAM for VMs, of which ``overcommit`` times as many are promised. Slots of ``swap_file`` are
        frames, too, behind all others. Raises `ConfigError` if the process cannot have them.
        """
        self.size = page_up(size)
        self.kernels = kernels
        self.overcommit = overcommit
        self._swap_size = 0 if swap_file is None else swap_file.size
        self.balloons = Balloons(self.size >> PAGE_SHIFT)
        """Guests that are asked for memory when there is little."""
        self.map, beside = self._reserve()
        self.promised_size = page_up(int(self.size * overcommit))
        """Bytes of RAM that VMs may be promised."""
        self.slots = w.FIRST + self.size + beside
        """The first slot of the swap file, which is the end of all other frames."""
        self.end = self.slots + self._swap_size
        """Bytes of frames and slots."""
        self._beside = beside
        self.address = address_of(self.map)
        if swap_file is not None:
            swap_file.show(self.address + self.slots)
        self._room: MakeRoom | None = None
        self._least = w.NEVER
        self.swap_problem = ""
        """Why the swap file could not be written when it was tried last."""
        self.bytes = memoryview(self.map)
        self.words = self.bytes.cast("q")
        """The same as 64-bit words."""
        self.words_size = page_up(self.end >> w.TO_WORD)
        """Bytes of a table with a word for each frame."""
        self._tables, self._marks = mapping(3 * self.words_size), mapping(self.end >> PAGE_SHIFT)
        words, count = memoryview(self._tables).cast("q"), self.words_size >> 3
        self.counts, self.generations = words[:count], words[count : 2 * count]
        """References to each frame, and its generation."""
        self._lost = mapping(self._swap_size >> PAGE_SHIFT)
        self._table = (ctypes.c_int64 * (w.TABLE_SIZE >> 3))()
        self.table = ctypes.addressof(self._table)
        """Where the frame table is, as `hypervisor.memory.map_words` says."""
        self._fill_table()
        self._lock = threading.Lock()
        self._promises: dict[object, list[Promise]] = {}
        """By their owners."""
        self._sums: tuple[int, int] | None = (0, 0)
        """Of RAM and of what is beside it; None where they must be counted."""
        self.forgotten: deque[Promise] = deque()
        """Promises to what has been forgotten, which Python notices anywhere, also where the lock is held: they are
        taken back when the next one is made.
        """
        self.frozen: weakref.WeakSet[Any] = weakref.WeakSet()
        """Base maps as they were (`hypervisor.memory.frozen_map`)."""

    @property
    def limit(self) -> int:
        """Bytes of frames that pages may have: without overcommitment all, as what is promised is there."""
        return self.slots - w.FIRST if self.overcommit == 1 else self.size

    def _reserve(self) -> tuple[mmap.mmap, int]:
        """The memory, and how much of it lies beside RAM."""
        rooms = [LEAST_BESIDE]
        if resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY:
            rooms[:0] = BESIDE
        problem: Exception | None = None
        for beside in rooms:
            try:
                return mapping(w.FIRST + self.size + beside + self._swap_size), beside
            except (OSError, OverflowError, ValueError) as error:
                problem = error
        raise ConfigError(
            f"{self.size // MIB} MiB of host memory cannot be had ({problem}). Ask for less."
        ) from problem

    def _fill_table(self) -> None:
        libc = ctypes.CDLL(None)
        table = self._table
        for word, value in (
            (w.MEMORY, self.address),
            (w.REFERENCES, address_of(self._tables)),
            (w.GENERATIONS, address_of(self._tables) + self.words_size),
            (w.POOL, address_of(self._tables) + 2 * self.words_size),
            (w.FRESH, w.FIRST),
            (w.END, self.slots),
            (w.LEFT, self.limit >> PAGE_SHIFT),
            (w.MARKS, address_of(self._marks)),
            (w.LOW, w.NEVER),
            (w.SLOTS_FRESH, self.slots),
            (w.SLOTS_END, self.end),
            (w.LOST_AT, address_of(self._lost)),
            (w.YIELD, ctypes.cast(libc.sched_yield, ctypes.c_void_p).value or 0),
        ):
            table[word >> 3] = value
        if PRIVATE and sys.platform == "linux":
            table[w.ADVISE >> 3] = ctypes.cast(libc.madvise, ctypes.c_void_p).value or 0
        self.bytes[w.ONES : w.ONES + PAGE_SIZE] = b"\xff" * PAGE_SIZE
        leaf = self.kernels.take(self.table)
        word = w.ZERO | w.MAP_RAM | w.MAP_WRITE | w.MAP_SHARED
        self.bytes[leaf : leaf + PAGE_SIZE] = word.to_bytes(8, "little") * w.LEAF_PAGES
        table[w.ZERO_LEAF >> 3] = self.address + leaf
        for frame in (w.ZERO, w.ONES, leaf):  # whoever stores there is found at once
            libc.mprotect(ctypes.c_void_p(self.address + frame), ctypes.c_size_t(PAGE_SIZE), mmap.PROT_READ)

    # --- frames -------------------------------------------------------------------------------------------------------

    def references(self, frame: int) -> int:
        """How many words of maps lead to a frame."""
        return self.counts[frame >> PAGE_SHIFT]

    def generation(self, frame: int) -> int:
        """Odd while engines may have translated what is in a frame."""
        return self.generations[frame >> PAGE_SHIFT]

    def outdate(self, frame: int) -> None:
        """What engines have translated in a frame is not in it any more. Only of a frame that one VM alone has, which
        is on no pCPU.
        """
        self.generations[frame >> PAGE_SHIFT] += self.generation(frame) & 1

    @property
    def zero_leaf(self) -> int:
        """Process address of the leaf of zones that nobody has stored to."""
        return self._table[w.ZERO_LEAF >> 3]

    def table_word(self, offset: int) -> int:
        """A word of the frame table, as `hypervisor.memory.map_words` names them."""
        return self._table[offset >> 3]

    @property
    def used(self) -> int:
        """Bytes of frames that are not free."""
        table = self._table
        free = table[w.CLEAN >> 3] + table[w.DIRTY >> 3] << PAGE_SHIFT
        return table[w.FRESH >> 3] - w.FIRST - free

    def next_frames(self, size: int) -> range:
        """Addresses of frames that nobody has had, and that come next when VMs need frames of ``size`` bytes."""
        table = self._table
        free = table[w.CLEAN >> 3] + table[w.DIRTY >> 3] << PAGE_SHIFT
        first = table[w.FRESH >> 3]
        return range(self.address + first, self.address + min(first + max(size - free, 0), table[w.END >> 3]))

    def kept_of(self, ram: int) -> int:
        """Of so many bytes of RAM those that a VM has for sure. Where all are there, nothing need be kept."""
        return 0 if self.overcommit == 1 else int(FOR_SURE * ram / self.overcommit) & -PAGE_SIZE

    @property
    def unreserved(self) -> int:
        """Bytes of frames that whoever comes first may take: those that are free, and kept for no VM."""
        return self.table_word(w.LEFT) - self.table_word(w.RESERVED) << PAGE_SHIFT

    # --- the swap file ------------------------------------------------------------------------------------------------

    @property
    def swapped(self) -> int:
        """Bytes of the swap file that are in use, or cannot be used any more."""
        return self.table_word(w.SLOTS_FRESH) - self.slots - (self.table_word(w.SLOTS_FREE) << PAGE_SHIFT)

    @property
    def lost(self) -> int:
        """How many slots of the swap file could not be read, up to now."""
        return self.table_word(w.LOST)

    def is_lost(self, frame: int) -> bool:
        """Whether a frame is such a slot. It reads as zeros."""
        return frame >= self.slots and self._lost[frame - self.slots >> PAGE_SHIFT] != 0

    def lose(self, slots: Iterable[int]) -> None:
        """The contents of these slots are not to be had."""
        for slot in slots:
            self._lost[slot - self.slots >> PAGE_SHIFT] = 1
            self._table[w.LOST >> 3] += 1

    def swaps(self, make_room: MakeRoom | None, low: int) -> None:
        """Let ``make_room(frames, memory, pcpu)`` be called where fewer than ``low`` frames are left; nothing, if it is
        None (`hypervisor.run.frame_swapping`)."""
        self._room, self._least = make_room, low
        self.expect_room()

    def expect_room(self) -> None:
        """Try again, as if none had found that no room can be made."""
        self.low = self._least

    @property
    def low(self) -> int:
        """When there are fewer frames that anybody may take, room is made."""
        return self.table_word(w.LOW)

    @low.setter
    def low(self, frames: int) -> None:
        self._table[w.LOW >> 3] = frames

    @property
    def runs_short(self) -> bool:
        """Whether anything is to be done where little is left: pages go to a file, or guests are asked for some."""
        return self._room is not None or self.balloons.there

    def few(self, frames: int) -> bool:
        """Whether there are fewer than so many that anybody may take."""
        return self.unreserved >> PAGE_SHIFT < frames

    def make_room(self, frames: int = 0, memory: Any = None, pcpu: Any = None) -> None:
        """Let there be so many frames that anybody may take, and not too few, if that can be, where there is a swap
        file. ``memory`` is of the VM that the caller has, on ``pcpu``. Before that guests with balloons are asked.
        """
        if self.balloons.there:
            self.balloons.look(self.unreserved >> PAGE_SHIFT)
        if self._room is None:
            return
        if not self.few(self._least):
            self.expect_room()
        if self.few(max(frames, self.low)):
            self._room(frames, memory, pcpu)

    @property
    def swap_text(self) -> str:
        """A sentence about the swap file, if there is one."""
        if not self._swap_size:
            return ""
        if self.swap_problem:
            return f" {self.swap_problem}"
        if self.swapped == self._swap_size:
            return f" The swap file is full, too ({self._swap_size / MIB:.1f} MiB)."
        return f" No page could be swapped ({self.swapped / MIB:.1f} of {self._swap_size / MIB:.1f} MiB are in use)."

    def mark(self, frame: int) -> int:
        """What `map_words.REFERENCED` and `map_words.MERGED` say of a frame."""
        return self._marks[frame >> PAGE_SHIFT]

    def trim(self) -> None:
        """Give the memory of free frames back to the host's system."""
        self.kernels.trim(self.table)

    # --- promises -----------------------------------------------------------------------------------------------------

    @property
    def promises(self) -> list[Promise]:
        """All that hold."""
        with self._lock:
            self._take_back_forgotten()
            return [promise for owned in self._promises.values() for promise in owned]

    @property
    def free(self) -> int:
        """Bytes of RAM that no VM has been promised."""
        with self._lock:
            return self.promised_size - self._promised()[0]

    def promise(self, promise: Promise) -> None:
        """Keep frames for somebody. Raises `ConfigError` when there are not enough."""
        with self._lock:
            self._take_back_forgotten()
            ram, beside = self._promised()
            if ram + promise.ram > self.promised_size:
                raise ConfigError(
                    f"The host has no {promise.ram // MIB} MiB of memory left for another VM "
                    f"({self.promised_size - ram >> 20} MiB of {self.promised_size // MIB} MiB are free). Close a VM, "
                    "or create the host with more memory."
                )
            if beside + promise.beside > self._beside:
                raise ConfigError(
                    f"The host has no {promise.beside // MIB} MiB of addresses left for snapshots, forks and frame "
                    f"buffers ({self._beside - beside >> 20} MiB of {self._beside // MIB} MiB are free). Close a VM or "
                    "a snapshot, or use another host."
                )
            owned = self._promises.setdefault(promise.owner, [])
            self._sums = None
            owned.append(promise)  # one step: an interrupt finds it done, with its owner, or not begun
            self._sums = ram + promise.ram, beside + promise.beside

    def release(self, promise: Promise) -> None:
        """Take a promise back."""
        with self._lock:
            self._take_back(promise)

    def release_all(self, owner: object) -> None:
        """Take back whatever is left of ``owner``: also what it was given while an interrupt came."""
        for promise in list(self._promises.get(owner, ())):
            if promise.to is not None:
                promise.to.release()
            self.release(promise)

    def _promised(self) -> tuple[int, int]:
        if self._sums is None:  # an interrupt came
            every = [promise for owned in self._promises.values() for promise in owned]
            self._sums = sum(promise.ram for promise in every), sum(promise.beside for promise in every)
        return self._sums

    def _take_back(self, promise: Promise) -> None:
        owned = self._promises.get(promise.owner, [])
        ram, beside = self._promised()
        if promise in owned:
            self._sums = None
            owned.remove(promise)
            self._sums = ram - promise.ram, beside - promise.beside
        if not owned:
            self._promises.pop(promise.owner, None)

    def _take_back_forgotten(self) -> None:
        while self.forgotten:
            self._take_back(self.forgotten[0])
            self.forgotten.popleft()


def frame_of(word: int) -> Hpa:
    """The frame that a word of a map leads to."""
    return Hpa(word & w.FRAME)
