"""The mouse's side of the wire: commands and packets."""

from __future__ import annotations

import random

import pytest

from hypervisor.devices.parts.ps2_mouse import SUM_LIMIT, Mouse, MouseState


class Wire:
    def __init__(self) -> None:
        self.state = MouseState()
        self.mouse = Mouse(self.state)

    def drain(self) -> list[int]:
        got = []
        while (byte := self.mouse.next_byte()) is not None:
            got.append(byte)
        return got

    def say(self, *values: int) -> list[int]:
        got = []
        for value in values:
            self.mouse.command(value)
            got += self.drain()
        return got


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.mark.parametrize(
    ("values", "answer"),
    [
        ((0xFF,), [0xFA, 0xAA, 0x00]),
        ((0xF2,), [0xFA, 0x00]),
        ((0xE9,), [0xFA, 0x00, 2, 100]),
        ((0xF4, 0xE7, 0xE8, 3, 0xF3, 200, 0xE9), [0xFA] * 7 + [0x30, 3, 200]),
        ((0xF0, 0xE9), [0xFA, 0xFA, 0x40, 2, 100]),
        ((0xF4, 0xF6, 0xE9), [0xFA, 0xFA, 0xFA, 0x00, 2, 100]),
        ((0xEB,), [0xFA, 0x08, 0, 0]),
        ((0xE8, 4), [0xFA, 0xFE]),
        ((0xF3, 99), [0xFA, 0xFE]),
        ((0xEE, 0x12, 0xF4, 0xEC, 0xF2), [0xFA, 0x12, 0xF4, 0xFA, 0xFA, 0x00]),
        ((0x00,), [0xFE]),
        ((0xF3, 200, 0xF3, 100, 0xF3, 80, 0xF2), [0xFA] * 7 + [3]),
        ((0xF3, 200, 0xF3, 200, 0xF3, 80, 0xF2), [0xFA] * 7 + [4]),
        ((0xF3, 200, 0xF3, 100, 0xF3, 80, 0xFF, 0xF2), [0xFA] * 6 + [0xFA, 0xAA, 0x00, 0xFA, 0x00]),
    ],
)
def test_commands(wire: Wire, values: tuple[int, ...], answer: list[int]) -> None:
    assert wire.say(*values) == answer


def test_it_is_silent_until_it_is_enabled(wire: Wire) -> None:
    wire.mouse.move(1, 2, 0, 0)
    assert wire.drain() == []
    assert wire.say(0xF4) == [0xFA, 0x08, 1, 2]


def test_in_remote_mode_it_is_asked(wire: Wire) -> None:
    wire.say(0xF0, 0xF4)
    wire.mouse.move(-1, 0, 0, 1)
    assert wire.drain() == []
    assert wire.say(0xEB) == [0xFA, 0x19, 0xFF, 0]
    assert wire.say(0xFE) == [0x19, 0xFF, 0]


def test_five_buttons(wire: Wire) -> None:
    wire.say(0xF3, 200, 0xF3, 200, 0xF3, 80, 0xF4)
    wire.mouse.move(0, 0, -2, 0x18)
    assert wire.drain() == [0x08, 0, 0, 0x3E]


@pytest.mark.parametrize("seed", range(10))
def test_no_movement_is_lost(wire: Wire, seed: int) -> None:
    """However large the moves and however they come, packets add up to them."""
    rng = random.Random(seed)
    kind = rng.choice([0, 3, 4])
    if kind:
        wire.say(0xF3, 200, 0xF3, 100 if kind == 3 else 200, 0xF3, 80)
    wire.say(0xF4)
    moved, told, size = [0, 0, 0], [0, 0, 0], 4 if kind else 3
    for _ in range(50):
        move = [rng.randrange(-600, 600), rng.randrange(-600, 600), rng.randrange(-20, 20) if kind else 0]
        moved = [a + b for a, b in zip(moved, move, strict=True)]
        wire.mouse.move(*move, rng.randrange(8))
        packets = wire.drain()
        assert len(packets) % size == 0 and wire.mouse.idle
        for at in range(0, len(packets), size):
            first, dx, dy = packets[at : at + 3]
            assert first & 0x08
            told[0] += dx - (first << 4 & 0x100)
            told[1] += dy - (first << 3 & 0x100)
            if kind:
                dz = packets[at + 3] & (0xF if kind == 4 else 0xFF)
                told[2] += dz - (2 * dz & (0x10 if kind == 4 else 0x100))
    assert told == moved


def test_its_memory_is_bounded(wire: Wire) -> None:
    for _ in range(10_000):
        wire.mouse.move(SUM_LIMIT, -SUM_LIMIT, SUM_LIMIT, 0xFF)
        wire.mouse.command(0xE9)
    state = wire.state
    assert (state.dx, state.dy, state.dz, len(state.replies)) == (SUM_LIMIT, -SUM_LIMIT, SUM_LIMIT, 16)
