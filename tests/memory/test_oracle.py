"""Guest memory against a dictionary of bytes: layers, blocks, holes, shared leaves, and the count of every frame."""

from __future__ import annotations

import errno
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

import pytest

from hypervisor.engine.frame_kernels import frame_kernels
from hypervisor.errors import ConfigError, GuestFault
from hypervisor.memory import GuestMemory, Hole, HostMemory, Region
from hypervisor.memory import map_words as w
from hypervisor.memory.frame_index import FrameIndex
from hypervisor.memory.frames import Promise
from hypervisor.memory.page_map import PageMap
from hypervisor.memory.swap_file import SwapFile
from hypervisor.memory.swapper import Swapper
from hypervisor.units import MIB, PAGE_SIZE, by_pages
from tests.memory.maps import census, share

RAM = [(0, 5 * MIB + 7 * PAGE_SIZE), (8 * MIB, 2 * MIB)]
PAGES = 16 * MIB // PAGE_SIZE
CONTENTS = [bytes(PAGE_SIZE), *(bytes([n]) * (PAGE_SIZE - 1) + b"end"[n % 3 : n % 3 + 1] for n in (7, 7, 7, 8))]
"""What many pages are filled with: some differ in their last byte alone."""


class Bytes:
    """The oracle: which page of a dictionary of bytes a guest's page is."""

    def __init__(self) -> None:
        self.pages: dict[int, bytearray] = {}
        self.layers: list[Region | Hole] = []

    def place(self, gpa: int) -> tuple[int, bool] | None:
        """The address in the base map, and whether stores go there."""
        for layer in sorted(self.layers, key=self._height, reverse=True):
            if layer.gpa <= gpa < layer.gpa + layer.size:
                if isinstance(layer, Hole):
                    return None
                return layer.base + gpa - layer.gpa, layer.writable
        if any(start <= gpa < start + size for start, size in RAM):
            return gpa, True
        return None

    def _height(self, layer: Region | Hole) -> tuple[int, ...]:
        """Holes are over RAM, blocks over holes, later blocks over earlier ones, read-only views over others."""
        if isinstance(layer, Hole):
            return (1,)
        return 2 * (layer.base != layer.gpa), layer.base, int(not layer.writable), layer.gpa, layer.size

    def read(self, gpa: int, size: int) -> bytes:
        parts = []
        for at, length in by_pages(gpa, size):
            place = self.place(at)
            page = bytes(PAGE_SIZE) if place is None else self.pages.get(place[0] // PAGE_SIZE, bytes(PAGE_SIZE))
            parts.append(b"\xff" * length if place is None else bytes(page[at % PAGE_SIZE :][:length]))
        return b"".join(parts)

    def store(self, gpa: int, data: bytes) -> None:
        for at, length in by_pages(gpa, len(data)):
            place = self.place(at)
            if place is not None and place[1]:
                self.store_beneath(place[0], data[at - gpa :][:length])

    def store_beneath(self, base: int, data: bytes) -> None:
        for at, length in by_pages(base, len(data)):
            page = self.pages.setdefault(at // PAGE_SIZE, bytearray(PAGE_SIZE))
            page[at % PAGE_SIZE : at % PAGE_SIZE + length] = data[at - base :][:length]

    def writable(self, gpa: int, size: int) -> bool:
        places = [self.place(at) for at, _ in by_pages(gpa, size)]
        return all(place is not None and place[1] for place in places)

    def clear(self, base: int, size: int) -> None:
        for page in range(base // PAGE_SIZE, (base + size) // PAGE_SIZE):
            self.pages.pop(page, None)

    def child(self) -> dict[int, bytearray]:
        """What RAM is in a VM that has been given this one's."""
        return {page: bytearray(data) for page, data in self.pages.items() if page < PAGES}


class Twin:
    """A guest's memory and its oracle."""

    def __init__(self, host: HostMemory) -> None:
        self.memory = GuestMemory(host, RAM, PAGES, self)
        self.oracle = Bytes()
        self.blocks: list[tuple[int, int, Promise]] = []

    def step(self, rng: random.Random) -> None:
        """One random operation in both."""
        stores = (self._store, self._store, self._write, self._zeros, self._beneath)
        layers = (self._cover, self._uncover, self._add, self._remove, self._clear, self._trap)
        rng.choice((*stores, self._repeat, self._read, self._read, *layers))(rng)

    def _where(self, rng: random.Random) -> tuple[int, int]:
        edges = (0, PAGE_SIZE, 2 * MIB, RAM[0][1], RAM[1][0], sum(RAM[1]), *(layer.gpa for layer in self.oracle.layers))
        gpa = max(rng.choice(edges) + rng.randrange(-300, 300), 0) if rng.random() < 0.7 else rng.randrange(12 * MIB)
        return gpa, rng.randrange(1, rng.choice((9, 600, 3 * PAGE_SIZE)))

    def _store(self, rng: random.Random) -> None:
        gpa, size = self._where(rng)
        data = rng.randbytes(size)
        self.memory.store(gpa, data)
        self.oracle.store(gpa, data)

    def _repeat(self, rng: random.Random) -> None:
        """Fill pages with what is in others, too."""
        for _ in range(rng.randrange(1, 9)):
            gpa, data = rng.choice((0, 2 * MIB, 8 * MIB)) + rng.randrange(9) * PAGE_SIZE, rng.choice(CONTENTS)
            self.memory.store(gpa, data)
            self.oracle.store(gpa, data)

    def _write(self, rng: random.Random) -> None:
        gpa, size = self._where(rng)
        data = rng.randbytes(size)
        if self.oracle.writable(gpa, size):
            self.memory.write(gpa, data)
            self.oracle.store(gpa, data)
        else:
            with pytest.raises(GuestFault):
                self.memory.write(gpa, data)

    def _zeros(self, rng: random.Random) -> None:
        gpa, size = self._where(rng)
        self.memory.store(gpa, bytes(size))
        self.oracle.store(gpa, bytes(size))

    def _read(self, rng: random.Random) -> None:
        gpa, size = self._where(rng)
        assert self.memory.read(gpa, size) == self.oracle.read(gpa, size)

    def _cover(self, rng: random.Random) -> None:
        if len(self.oracle.layers) > 6:
            return
        gpa = rng.randrange(PAGES) * PAGE_SIZE
        if self.blocks and rng.random() < 0.6:
            base, size, _ = rng.choice(self.blocks)
            if rng.random() < 0.3:
                gpa &= -2 * MIB
            size = min(size, PAGES * PAGE_SIZE - gpa)
            layer: Region | Hole = Region(gpa, size, base, rng.random() < 0.7)
        else:
            size = min(rng.choice((1, 5, 600)) * PAGE_SIZE, PAGES * PAGE_SIZE - gpa)
            layer = Hole(gpa, size)
            regions = self.memory.within(gpa, size)
            if regions and rng.random() < 0.5:  # read-only from now on
                layer = regions[0]._replace(writable=False)
        self.memory.cover(layer)
        self.oracle.layers.append(layer)

    def _uncover(self, rng: random.Random) -> None:
        if self.oracle.layers:
            layer = rng.choice(self.oracle.layers)
            self.memory.uncover(layer)
            self.oracle.layers.remove(layer)

    def _add(self, rng: random.Random) -> None:
        size = rng.choice((1, 3, 512, 700)) * PAGE_SIZE
        if len(self.blocks) < 4:
            with suppress(ConfigError):
                base, promise = self.memory.add(size)
                self.blocks.append((base, size, promise))

    def _remove(self, rng: random.Random) -> None:
        if self.blocks:
            base, size, promise = self.blocks.pop(rng.randrange(len(self.blocks)))
            for layer in [layer for layer in self.oracle.layers if isinstance(layer, Region)]:
                if base <= layer.base < base + size:
                    self.memory.uncover(layer)
                    self.oracle.layers.remove(layer)
            self.memory.remove(base, size, promise)
            self.oracle.clear(base, size)

    def _beneath(self, rng: random.Random) -> None:
        base, size = 0, RAM[0][1]
        if self.blocks and rng.random() < 0.7:
            base, size, _ = rng.choice(self.blocks)
        at = rng.randrange(size)
        data = rng.randbytes(min(rng.randrange(1, 2 * PAGE_SIZE), size - at))
        self.memory.store_beneath(base + at, data)
        self.oracle.store_beneath(base + at, data)
        assert self.memory.pages.read(base + at, len(data)) == data

    def _clear(self, rng: random.Random) -> None:
        if self.blocks:
            base, size, _ = rng.choice(self.blocks)
            size = rng.randrange(1, size // PAGE_SIZE + 1) * PAGE_SIZE
            self.memory.clear(base, size)
            self.oracle.clear(base, size)

    def _trap(self, rng: random.Random) -> None:
        pages = [rng.randrange(PAGES) for _ in range(rng.randrange(4))]
        self.memory.trap({page: rng.choice((w.MAP_TRAP_READ, w.MAP_TRAPS)) for page in pages})
        for page in pages:
            assert self.memory.pages.shown_word(page) & w.MAP_TRAP_READ

    def check(self) -> None:
        """All that the guest can see, by Python and as the engine's map has it."""
        assert self.memory.read(0, PAGES * PAGE_SIZE) == self.oracle.read(0, PAGES * PAGE_SIZE)
        host = self.memory.pages.host
        for page in range(PAGES):
            word, place = self.memory.pages.shown_word(page), self.oracle.place(page * PAGE_SIZE)
            assert bool(word & w.MAP_RAM) == (place is not None), hex(page)
            assert bool(word & w.MAP_WRITE) == (place is not None and place[1]), hex(page)
            if place is not None:
                frame = word & w.FRAME
                assert bytes(host.bytes[frame : frame + 64]) == self.oracle.read(page * PAGE_SIZE, 64), hex(page)


@pytest.fixture
def host() -> Iterator[HostMemory]:
    yield HostMemory(64 * MIB, frame_kernels())


@pytest.mark.parametrize("seed", range(4))
def test_alone(host: HostMemory, seed: int) -> None:
    rng = random.Random(seed)
    twin = Twin(host)
    for n in range(400):
        twin.step(rng)
        if n % 100 == 99:
            twin.check()
            census(host, [twin.memory.pages])
    twin.memory.close()
    census(host, [])


def come_and_go(rng: random.Random, twins: list[Twin], host: HostMemory) -> bool:
    """Now and then one gets a child, or is closed; whether it was now."""
    if len(twins) < 4 and rng.random() < 0.03:
        child, parent = Twin(host), rng.choice(twins)
        share(parent.memory, child.memory)
        child.oracle.pages = parent.oracle.child()
        twins.append(child)
        return True
    if len(twins) > 1 and rng.random() < 0.02:
        twins.pop(rng.randrange(len(twins))).memory.close()
        return True
    return False


@pytest.mark.parametrize("seed", range(4))
def test_relatives(host: HostMemory, seed: int) -> None:
    """VMs that have leaves and frames in common, which come and go: none ever sees what another one stores."""
    rng = random.Random(seed)
    twins = [Twin(host)]
    for n in range(600):
        rng.choice(twins).step(rng)
        come_and_go(rng, twins, host)
        if n % 150 == 149:
            for twin in twins:
                twin.check()
            census(host, [twin.memory.pages for twin in twins])
    for twin in twins:
        twin.memory.close()
    census(host, [])
    assert host.used == PAGE_SIZE, "of a host without VMs the leaf of zeros is left"


@pytest.mark.parametrize("seed", range(4))
def test_relatives_whose_frames_are_merged(host: HostMemory, seed: int) -> None:
    """The same while frames that hold the same become one, and are one's own again where somebody stores."""
    rng, index = random.Random(seed), FrameIndex(host)
    twins = [Twin(host), Twin(host)]

    def merge() -> None:
        index.begin_round()
        for twin in rng.sample(twins, len(twins)):
            for zone in range(twin.memory.pages.zones):
                if twin.memory.pages.base[zone]:
                    index.merge(twin.memory.pages, zone)

    for n in range(600):
        rng.choice(twins).step(rng)
        if rng.random() < 0.04:
            merge()
        if not come_and_go(rng, twins, host) and rng.random() < 0.01:
            index.prune() if rng.random() < 0.8 else index.clear()
        if n % 100 == 99:
            for twin in twins:
                twin.check()
            census(host, [twin.memory.pages for twin in twins], index.frames)
    assert min(index.counts) > 0, f"{index.counts}: nothing of a kind was tried"
    for _ in range(3):
        merge()
    used = host.used
    merge()
    assert host.used == used and len(set(contents(host, index.frames))) == len(index.frames)
    for twin in twins:
        twin.check()
        twin.memory.close()
    assert index.prune() and not index.frames
    census(host, [])
    assert host.used == PAGE_SIZE


@pytest.mark.parametrize("seed", range(4))
def test_relatives_whose_pages_are_swapped(seed: int) -> None:
    """The same with a swap file, in which there is not always a slot, and to which writing fails now and then."""
    rng, file = random.Random(seed), FailingFile(2 * MIB, random.Random(f"file {seed}"))
    host = HostMemory(64 * MIB, frame_kernels(), 2, file)
    index, swapper = FrameIndex(host), Swapper(host, file)
    twins, most = [Twin(host), Twin(host)], 0

    def everywhere(work: Callable[[PageMap, int], object]) -> None:
        for twin in rng.sample(twins, len(twins)):
            twin.memory.pages.keep(0)  # what is kept for it would not be swapped
            for zone, leaf in enumerate(twin.memory.pages.base):
                if leaf and rng.random() < 0.8:
                    work(twin.memory.pages, zone)

    for n in range(600):
        rng.choice(twins).step(rng)
        if rng.random() < 0.06:
            everywhere(lambda pages, zone: swapper.swap(pages, zone, rng.choice((1, 20, 512))))
            most = max(most, host.swapped)
        if rng.random() < 0.02:
            index.begin_round()
            everywhere(index.merge)
        if not come_and_go(rng, twins, host) and rng.random() < 0.01:
            index.prune()
        if n % 100 == 99:
            for twin in twins:
                twin.check()
            census(host, [twin.memory.pages for twin in twins], index.frames)
    assert most > 200 << 10 and swapper.written > 100 and file.failed, (most, swapper.written)
    for twin in twins:
        twin.check()
        twin.memory.close()
    index.prune()
    census(host, [])
    assert host.used == PAGE_SIZE and not host.swapped


class FailingFile(SwapFile):
    """A swap file on a disk that fails now and then, before or behind a part of what is written."""

    def __init__(self, size: int, rng: random.Random) -> None:
        super().__init__(size)
        self._rng, self.failed = rng, 0

    def write(self, pages: Sequence[tuple[int, memoryview]]) -> None:
        if self._rng.random() < 0.2:
            self.failed += 1
            super().write(pages[: self._rng.randrange(len(pages))])
            raise OSError(errno.EIO, "Input/output error")
        super().write(pages)


def contents(host: HostMemory, frames: list[int]) -> list[bytes]:
    """What is in frames."""
    return [bytes(host.bytes[frame : frame + PAGE_SIZE]) for frame in frames]
