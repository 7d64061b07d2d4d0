"""Which layer shows does not depend on the order in which layers came and went: a restored machine has another."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from hypervisor.engine.frame_kernels import frame_kernels
from hypervisor.memory import GuestMemory, Hole, HostMemory, Region
from hypervisor.units import MIB, PAGE_SIZE

PAGES = 16 * MIB // PAGE_SIZE
BLOCK = 8 * PAGE_SIZE
Layer = Region | Hole


@contextmanager
def memories(count: int) -> Iterator[list[GuestMemory]]:
    """Guest memories with three blocks each, at the same addresses of their base maps."""
    host = HostMemory(64 * MIB, frame_kernels())
    made = [GuestMemory(host, [(0, 4 * MIB)], PAGES, object()) for _ in range(count)]
    for memory in made:
        for _ in range(3):
            memory.add(BLOCK)
    try:
        yield made
    finally:
        for memory in made:
            memory.close()


def layers(memory: GuestMemory, rng: random.Random, count: int) -> list[Layer]:
    """Layers that lie over each other in a few pages."""
    blocks = [memory.pages.pages * PAGE_SIZE + n * 2 * MIB for n in range(3)]
    made: list[Layer] = []
    for _ in range(count):
        offset, size = rng.randrange(4) * PAGE_SIZE, rng.randint(1, 4) * PAGE_SIZE
        gpa = 2 * MIB + rng.randrange(-6, 6) * PAGE_SIZE
        base = rng.choice((*blocks, gpa - offset))
        made.append(rng.choice((Hole(gpa, size), Region(gpa, size, base + offset, rng.random() < 0.5))))
    return made


@pytest.mark.parametrize("seed", range(8))
def test_any_order_shows_the_same(seed: int) -> None:
    rng = random.Random(seed)
    with memories(3) as (one, other, changing):
        wanted = layers(one, rng, 9)
        for layer in wanted:
            one.cover(layer)
        for layer in rng.sample(wanted, len(wanted)):
            other.cover(layer)
        there: list[Layer] = []
        for _ in range(60):  # all kinds of layers come and go, until those are left
            missing = [layer for layer in wanted if wanted.count(layer) > there.count(layer)]
            if there and rng.random() < 0.5:
                layer = there.pop(rng.randrange(len(there)))
                changing.uncover(layer)
            else:
                there.append(rng.choice([*missing, *layers(one, rng, 3)]))
                changing.cover(there[-1])
        for layer in there[:]:
            if there.count(layer) > wanted.count(layer):
                there.remove(layer)
                changing.uncover(layer)
        for layer in rng.sample(wanted, len(wanted)):
            if there.count(layer) < wanted.count(layer):
                there.append(layer)
                changing.cover(layer)
        assert one.regions == other.regions == changing.regions
        first, end = 2 * MIB // PAGE_SIZE - 8, 2 * MIB // PAGE_SIZE + 12
        words = [[memory.pages.shown_word(page) >> 12 for page in range(first, end)] for memory in (one, other)]
        holes = [[word == 0 for word in each] for each in words]
        assert holes[0] == holes[1]


@pytest.mark.parametrize("seed", range(4))
def test_many_at_once_show_what_one_by_one_does(seed: int) -> None:
    rng = random.Random(seed)
    with memories(2) as (one, many):
        blocks = [memory.add(4 * MIB)[0] for memory in (one, many)]
        assert blocks[0] == blocks[1]
        whole = Region(8 * MIB, 4 * MIB, blocks[0])  # fills its zones, as a frame buffer does
        wanted = [*layers(one, rng, 9), whole]
        gone = rng.sample(wanted[:-1], 4)
        with many.changing():
            for memory in (one, many):
                for layer in wanted:
                    memory.cover(layer)
                for layer in gone:
                    memory.uncover(layer)
            assert one.regions == many.regions
        for page in range(14 * MIB // PAGE_SIZE):
            words = [memory.pages.shown_word(page) for memory in (one, many)]
            assert (words[0] == 0) == (words[1] == 0)
            assert words[0] & 0xFFF == words[1] & 0xFFF
        assert many.pages.shown_word(8 * MIB // PAGE_SIZE) and not many.pages.shown_word(12 * MIB // PAGE_SIZE)
