"""A VM's guest-physical memory as bytes: what devices, loaders and handlers read and write."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Protocol

from hypervisor.errors import ConfigError, GuestFault, HostFull
from hypervisor.markup import table
from hypervisor.memory import map_words as w
from hypervisor.memory.frames import HostMemory, Promise, frame_of
from hypervisor.memory.frozen_map import FrozenMap
from hypervisor.memory.layers import Hole, Layers, Region
from hypervisor.memory.page_map import PageMap, leaves_of
from hypervisor.units import PAGE_MASK, PAGE_SHIFT, PAGE_SIZE, Hpa, by_pages, page_up

_ZEROS = bytes(PAGE_SIZE)
_NOTHING = nullcontext()


class EngineMemory(Protocol):
    """What an engine has of a VM's memory (`hypervisor.engine.instance.engine_memory`)."""

    def own(self, page: int) -> int:
        """Make the frame of a page of the base map the VM's own; its word, 0 if there is none left."""
        ...

    def written(self, hpa: int, size: int) -> None:
        """Drop what was translated from these bytes of a frame."""
        ...

    def flush(self) -> None:
        """Forget every translation of an address."""
        ...


class Engine(Protocol):
    """A pCPU that a VM is on (`hypervisor.engine.pcpu.PCpu`)."""

    @property
    def memory(self) -> EngineMemory:
        """What it has of the VM's memory."""
        ...


class Where(Protocol):
    """Where a VM is (`hypervisor.run.sharing.placing.Place`)."""

    @property
    def fresh(self) -> bool:
        """Whether it has never been on a pCPU."""
        ...

    @property
    def here(self) -> bool:
        """Whether this thread has it on a pCPU at the moment."""
        ...

    def held(self) -> AbstractContextManager[Engine]:
        """A pCPU with the VM on it, for this thread alone, during the block."""
        ...


class BusView:
    """Guest-physical memory as a bus master sees it (`hypervisor.bus.Dma`): stores to what is no memory go nowhere."""

    def __init__(self, memory: GuestMemory) -> None:
        self.read = memory.read
        self.write = memory.store


class GuestMemory:
    """Guest-physical memory. Places without memory read as FFh, as on a PC's bus.

    Nobody else stores to a guest's frames from Python. What another thread stores while the guest runs comes between
    two of the guest's blocks.
    """

    def __init__(
        self, host: HostMemory, ram: Sequence[tuple[int, int]], pages: int, owner: object, *, spare: bool = False
    ) -> None:
        """``ram`` are the ranges of RAM, (start, length) each; the guest can see ``pages`` pages. Its frames are of the
        host's RAM, or of its ``spare`` ones, those of snapshots and forks. Raises `ConfigError` when the host has not
        enough memory left.
        """
        self._host = host
        self._owner = owner
        self._ram = tuple(ram)
        self._closed = False
        self.where: Where | None = None
        """Where the VM is; None while it can be on no pCPU yet."""
        self.from_outside: Callable[[int, bytes | memoryview], AbstractContextManager[None]] = lambda base, data: (
            nullcontext()
        )
        """Entered for a store from outside: by another thread than the one that runs the VM, or between runs."""
        self.at_rest = threading.RLock()
        """Held by who works with frames of a VM that is on no pCPU, or lets pages have others."""
        self.pages = PageMap(host, pages)
        leaves = sum(leaves_of(length) for _, length in self._ram) + self.pages.shown_zones * PAGE_SIZE  # at most
        ram_size = 0 if spare else self.size
        host.promise(Promise(owner, ram_size, leaves + self.size - ram_size, self.pages))
        self._promised = self.size + leaves
        kept = host.kept_of(ram_size)
        if kept:
            host.make_room(kept >> PAGE_SHIFT)
        if not self.pages.keep(kept):
            host.release_all(owner)
            problem = "Other VMs have taken all of the host's memory at the moment."
            if kept:
                problem = (
                    f"{kept >> 10} KiB of the host's memory are to be kept for this VM, and other VMs have taken them "
                    "at the moment."
                )
            raise HostFull(f"{problem} Close one, or create the host with more memory.")
        for start, length in self._ram:
            self.pages.lay(start >> PAGE_SHIFT, page_up(length) >> PAGE_SHIFT)
        self.layers = Layers(self.pages, [Region(start, length, start) for start, length in self._ram])
        self.dma = BusView(self)
        """The same for devices."""

    @property
    def size(self) -> int:
        """Bytes of RAM that the VM has."""
        return sum(length for _, length in self._ram)

    @property
    def ram_ranges(self) -> list[tuple[int, int]]:
        """Where the RAM is, covered or not: pairs of first address and end."""
        return [(start, start + length) for start, length in self._ram]

    @property
    def resident_bytes(self) -> int:
        """Host memory that the RAM takes now, in bytes: pages that were stored to."""
        return sum(self.pages.resident_bytes(start >> PAGE_SHIFT, length >> PAGE_SHIFT) for start, length in self._ram)

    @property
    def counts(self) -> tuple[int, int, int, int]:
        """Bytes of the RAM in frames that nobody else shows, in those that others show, too, that read as zeros and
        take no frame, and in the swap file. While the VM runs, what was so when each part was looked at.
        """
        own = shared = zero = swapped = 0
        for start, length in self._ram:
            one = self.pages.counts(start >> PAGE_SHIFT, page_up(length) >> PAGE_SHIFT)
            own, shared, zero, swapped = own + one[0], shared + one[1], zero + one[2], swapped + one[3]
        return own << PAGE_SHIFT, shared << PAGE_SHIFT, zero << PAGE_SHIFT, swapped << PAGE_SHIFT

    # --- layers -------------------------------------------------------------------------------------------------------

    @property
    def regions(self) -> tuple[Region, ...]:
        """The memory that shows, in order of address."""
        return self.layers.regions

    def __repr__(self) -> str:
        return f"<memory: {self.size >> 20} MiB of RAM, {self.resident_bytes >> 10} KiB stored to>"

    def _repr_html_(self) -> str:
        rows = [
            (f"{one.gpa:#x}-{one.gpa + one.size - 1:#x}", f"{one.size >> 10} KiB", "" if one.writable else "read-only")
            for one in self.regions
        ]
        return table("guest-physical memory", ("addresses", "size", ""), rows)

    def cover(self, layer: Region | Hole) -> None:
        """Put memory, or none, over what lies there (`hypervisor.memory.layers.rank` says which layer shows where there
        are several), from the guest's next block on.
        """
        with self._flushed():
            self.layers.cover(layer)

    def uncover(self, layer: Region | Hole) -> None:
        """Take a layer off again: what lies beneath shows."""
        with self._flushed():
            self.layers.uncover(layer)

    def show(self) -> None:
        """Bring all that shows up to date, when the base map has got other leaves."""
        with self._flushed():
            self.layers.show()

    def changing(self) -> AbstractContextManager[None]:
        """Many layers come and go in the block: a guest sees them behind it. While the VM is on no pCPU."""
        return self.layers.changing()

    def within(self, gpa: int, size: int) -> list[Region]:
        """The memory that shows in a range, cut to it."""
        return self.layers.within(gpa, size)

    def ram_within(self, gpa: int, size: int) -> list[Region]:
        """The RAM that shows in a range, cut to it: not what devices have put over it."""
        end = self.pages.pages << PAGE_SHIFT
        return [region for region in self.within(gpa, size) if region.base < end]

    def trap(self, pages: Mapping[int, int]) -> None:
        """Trap accesses to these guest-physical pages, by the bits of `map_words.MAP_TRAPS`, and to no others."""
        self.layers.trap(pages)

    def fetching(self, pages: Sequence[int]) -> AbstractContextManager[None]:
        """Let instructions be fetched from these guest-physical pages during the block."""
        return self.layers.fetching(pages)

    def lies_at(self, base: int, size: int) -> bool:
        """Whether ``size`` bytes at an address of the base map are memory: RAM, or a block beside it."""
        first, last = base >> PAGE_SHIFT, base + size - 1 >> PAGE_SHIFT
        return 0 <= first <= last < self.pages.zones << w.LEAF_SHIFT and all(
            self.pages.word(page) & w.MAP_RAM for page in range(first, last + 1)
        )

    def is_memory(self, gpa: int) -> bool:
        """Whether there is memory at a guest-physical address."""
        return self.layers.at(gpa) is not None

    def is_writable(self, gpa: int) -> bool:
        """Whether there is memory that can be written."""
        region = self.layers.at(gpa)
        return region is not None and region.writable

    def is_plain(self, gpa: int) -> bool:
        """Whether there is memory that can be written, which nobody watches and which holds no translated code."""
        region = self.layers.at(gpa)
        if region is None or not region.writable or self.layers.traps(gpa >> PAGE_SHIFT):
            return False
        frame = frame_of(self.pages.word(region.base + gpa - region.gpa >> PAGE_SHIFT))
        return not self._host.generation(frame) & 1

    # --- memory that is not RAM ---------------------------------------------------------------------------------------

    def add(self, size: int) -> tuple[int, Promise]:
        """Zeroed memory of whole pages that shows nowhere yet: its address in the base map, and what it was promised.
        Raises `ConfigError` when the host, or the base map, has no room for it.
        """
        promise = Promise(self._owner, 0, size + leaves_of(size))
        self._host.promise(promise)
        self._promised += promise.beside
        return self.pages.lay_behind(size >> PAGE_SHIFT) << PAGE_SHIFT, promise

    def add_again(self, base: int, size: int) -> Promise:
        """The same for a machine that is like another one, at the address that this has it at."""
        promise = Promise(self._owner, 0, size + leaves_of(size))
        self._host.promise(promise)
        self._promised += promise.beside
        self.pages.lay(base >> PAGE_SHIFT, size >> PAGE_SHIFT)
        return promise

    def remove(self, base: int, size: int, promise: Promise) -> None:
        """Give back what `add` has given, which shows nowhere."""
        self.pages.release(base >> PAGE_SHIFT, size >> PAGE_SHIFT)
        self._host.release(promise)
        self._promised -= promise.beside
        self._host.trim()

    # --- as a value ---------------------------------------------------------------------------------------------------

    def freeze(self) -> FrozenMap:
        """All that the base map leads to at this moment. While the VM is set down. Raises `ConfigError` when the host
        has not enough memory left for what may be stored in its place.
        """
        return FrozenMap(self.pages, self._promised)

    def clear(self, base: int, size: int) -> None:
        """Let whole pages of the base map read as zeros again; they take no memory until they are stored to."""
        with self._flushed():
            self.pages.clear(base >> PAGE_SHIFT, size >> PAGE_SHIFT)

    # --- bytes --------------------------------------------------------------------------------------------------------

    def read(self, gpa: int, size: int) -> bytes:
        """``size`` bytes at guest-physical ``gpa``. Bytes that are not memory read as 0xff."""
        if gpa < 0 or size < 0:
            raise GuestFault(f"{size} bytes at {gpa:#x} is not a range of guest-physical memory.")
        self._check_open()
        region = self.layers.at(gpa)
        if region is not None and gpa + size <= region.gpa + region.size:  # the common case
            return self.pages.read(region.base + gpa - region.gpa, size)
        return b"".join(
            self.pages.read(piece.base, piece.size) if isinstance(piece, Region) else b"\xff" * piece.size
            for piece in self.layers.pieces(gpa, size)
        )

    def stored_pages(self, where: range) -> Iterator[tuple[int, bytes]]:
        """The pages of a range of the base map that are not all zeros, in order: address and contents."""
        for at in range(where.start, where.stop, PAGE_SIZE):
            if frame_of(self.pages.word(at >> PAGE_SHIFT)) != w.ZERO:
                data = self.pages.read(at, PAGE_SIZE)
                if data != _ZEROS:
                    yield at, data

    def write(self, gpa: int, data: bytes | memoryview) -> None:
        """Store ``data`` at guest-physical ``gpa``. Raises `GuestFault`, and stores nothing, unless all of that is
        memory that can be written.
        """
        region = self.layers.at(gpa)
        if region is not None and region.writable and gpa + len(data) <= region.gpa + region.size and not self._closed:
            self.store_beneath(region.base + gpa - region.gpa, data)  # the common case
            return
        if not self._closed and gpa >= 0:
            for piece in self.layers.pieces(gpa, len(data)):
                if isinstance(piece, Hole) or not piece.writable:
                    what = "no memory" if isinstance(piece, Hole) else "read-only memory"
                    raise GuestFault(
                        f"{len(data)} bytes cannot be written at {gpa:#x}: "
                        f"{piece.gpa:#x}-{piece.gpa + piece.size - 1:#x} is {what}."
                    )
        self.store(gpa, data)

    def store(self, gpa: int, data: bytes | memoryview) -> None:
        """Store ``data`` at guest-physical ``gpa`` as a bus master does: bytes that are not writable memory are
        dropped.
        """
        if gpa < 0:
            raise GuestFault(f"{gpa:#x} is not a guest-physical address.")
        self._check_open()
        region = self.layers.at(gpa)
        if region is not None and region.writable and gpa + len(data) <= region.gpa + region.size:
            self.store_beneath(region.base + gpa - region.gpa, data)  # the common case
            return
        for piece in self.layers.pieces(gpa, len(data)):
            if isinstance(piece, Region) and piece.writable:
                self.store_beneath(piece.base, data[piece.gpa - gpa : piece.gpa - gpa + piece.size])

    def store_beneath(self, base: int, data: bytes | memoryview) -> None:
        """Store ``data`` at an address of the base map, whatever lies over it. For RAM that is where it shows."""
        where = self.where
        if where is None or where.here:
            self._store_beneath(base, data)
            return
        with self.from_outside(base, data):
            self._store_beneath(base, data, _NOTHING if where.here else self.at_rest)

    def _store_beneath(
        self, base: int, data: bytes | memoryview, alone: AbstractContextManager[object] = _NOTHING
    ) -> None:
        """``alone`` is entered where another thread than the one that has the VM looks up a frame and stores to it."""
        if (base & PAGE_MASK) + len(data) <= PAGE_SIZE:
            self._store_in_page(base, data, alone)
            return
        done = 0
        for at, length in by_pages(base, len(data)):
            self._store_in_page(at, data[done : done + length], alone)
            done += length

    def store_pages(self, base: int, pages: memoryview) -> None:
        """The same with whole pages: many at once while the VM has never been on a pCPU."""
        if self.where is not None and not self.where.fresh:
            for at in range(0, len(pages), PAGE_SIZE):
                self.store_beneath(base + at, bytes(pages[at : at + PAGE_SIZE]))
            return
        self._host.make_room(len(pages) // PAGE_SIZE)
        frames = self.pages.own_several(base >> PAGE_SHIFT, len(pages) // PAGE_SIZE)
        start = 0
        for n, frame in enumerate(frames, start=1):
            if n == len(frames) or frames[n] != frame + PAGE_SIZE:  # they mostly lie one behind the other
                self._put(frames[start], base, pages[start * PAGE_SIZE : n * PAGE_SIZE])
                start = n

    def _store_in_page(self, base: int, data: bytes | memoryview, alone: AbstractContextManager[object]) -> None:
        with alone:
            word = self.pages.word(base >> PAGE_SHIFT)
            if not (word & w.MAP_SHARED or self._host.generation(word & w.FRAME) & 1):
                self._put(frame_of(word), base, data)
                return
        if not word & w.FRAME and data == _ZEROS[: len(data)]:
            return  # zeros, to the frame of zeros
        if self.where is None or self.where.fresh:
            self._host.make_room()
            frame = self.pages.own(base >> PAGE_SHIFT)
            self._host.outdate(frame)
            self._put(frame, base, data)
            return
        with self.where.held() as engine:
            self._host.make_room(0, self, engine)
            word = engine.memory.own(base >> PAGE_SHIFT)
            if not word:
                raise self.pages.failure()
            self._put(frame_of(word), base, data)
            engine.memory.written(frame_of(word) + (base & PAGE_MASK), len(data))

    def _put(self, frame: Hpa, base: int, data: bytes | memoryview) -> None:
        """Store into a frame that is the VM's own. Nobody else does, from Python."""
        at = frame + (base & PAGE_MASK)
        self._host.bytes[at : at + len(data)] = data

    @contextmanager
    def _alone(self) -> Iterator[Engine | None]:
        """Nobody else changes the VM's maps, or runs it, during the block; the engine that the VM is on, None if it has
        never been on one.
        """
        if self.where is None or self.where.fresh:
            yield None
        else:
            with self.where.held() as engine:
                yield engine

    @contextmanager
    def _flushed(self) -> Iterator[None]:
        """Other frames show after the block: no engine knows the old ones any more."""
        with self._alone() as engine:
            yield
            if engine is not None:
                engine.memory.flush()

    def _check_open(self) -> None:
        if self._closed:
            raise ConfigError("The VM is closed, and its memory has been given back.")

    def forked(self) -> None:
        """This is another process, which has none of the threads that may have worked with the frames."""
        self.at_rest = threading.RLock()
        self.pages.forked()

    def close(self) -> None:
        """Return the frames to the host. Closing twice is harmless."""
        if self._closed:
            return
        with self.at_rest:
            self._closed = True
            self.pages.release()
        self._host.trim()
        self._host.release_all(self._owner)
