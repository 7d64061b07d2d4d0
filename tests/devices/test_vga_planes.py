"""The aperture at A0000h: planar accesses against an oracle, chaining, and when the guest gets plain memory."""

from __future__ import annotations

import random

import pytest

from hypervisor.bus.clock import ManualClock
from hypervisor.devices.vga import Kind, Vga, Window
from tests.devices.vga_device import graphics, sequencer, set_mode
from tests.devices.vga_oracle import Oracle


@pytest.fixture
def shown() -> list[Window]:
    return []


@pytest.fixture
def vga(clock: ManualClock, shown: list[Window]) -> Vga:
    return Vga(clock, show=shown.append)


def choose(vga: Vga, oracle: Oracle, rng: random.Random) -> None:
    """A random value for a random register, in both."""
    name = rng.choice(
        ("set_reset", "enable_set_reset", "compare", "rotate", "read_map", "mode", "dont_care", "bit_mask", "map_mask")
    )
    if name == "rotate":
        oracle.rotate, oracle.function = rng.randrange(8), rng.randrange(4)
        graphics(vga, 3, oracle.function << 3 | oracle.rotate)
    elif name == "mode":
        oracle.write_mode, oracle.read_mode = rng.randrange(4), rng.randrange(2)
        graphics(vga, 5, oracle.read_mode << 3 | oracle.write_mode)
    elif name == "map_mask":
        oracle.map_mask = rng.randrange(16)
        sequencer(vga, 2, oracle.map_mask)
    else:
        index, limit = {
            "set_reset": (0, 16), "enable_set_reset": (1, 16), "compare": (2, 16), "read_map": (4, 4),
            "dont_care": (7, 16), "bit_mask": (8, 256),
        }[name]  # fmt: skip
        setattr(oracle, name, rng.randrange(limit))
        graphics(vga, index, getattr(oracle, name))


@pytest.mark.parametrize("seed", range(4))
def test_planar_accesses_do_what_the_manual_says(vga: Vga, seed: int) -> None:
    rng, oracle = random.Random(seed), Oracle(64)
    set_mode(vga, 0x12)
    vga.memory.vram.zero(4 * 64)
    for _ in range(5_000):
        kind = rng.random()
        at = rng.randrange(64)
        if kind < 0.3:
            choose(vga, oracle, rng)
        elif kind < 0.6:
            assert vga.planes.read(at, 1) == oracle.read(at)
        else:
            value = rng.randrange(256)
            vga.planes.write(at, 1, value)
            oracle.write(at, value)
    for plane in range(4):
        assert vga.memory.plane(plane, 0, 64) == oracle.planes[plane]
    assert any(any(plane) for plane in oracle.planes)


def test_wide_accesses_are_bytes_from_the_lowest(vga: Vga) -> None:
    set_mode(vga, 0x12)
    vga.planes.write(0x10, 4, 0x44332211)
    assert vga.memory.plane(3, 0x10, 4) == b"\x11\x22\x33\x44"
    assert vga.planes.read(0x10, 4) == 0x44332211


def test_the_memory_map_says_where_the_adapter_answers(vga: Vga) -> None:
    set_mode(vga, 0x12)
    for which, (inside, outside) in enumerate(
        ((0x1FFFF, None), (0xFFFF, 0x10000), (0x17FFF, 0x18000), (0x18000, 0x17FFF))
    ):
        graphics(vga, 6, which << 2 | 1)
        vga.planes.write(inside, 1, 0x5A)
        assert vga.planes.read(inside, 1) == 0x5A
        if outside is not None:
            vga.planes.write(outside, 1, 0x11)
            assert vga.planes.read(outside, 1) == 0xFF
    vga.write(0x12, 1, vga.read(0x1C, 1) & ~2)
    assert vga.planes.read(0x18000, 1) == 0xFF  # the processor does not reach the memory


def test_text_and_mode_13h_are_memory_and_planar_modes_are_not(vga: Vga, shown: list[Window]) -> None:
    assert shown == [Window(Kind.TEXT, range(0x18000, 0x20000))]
    set_mode(vga, 0x13)
    assert shown[-1] == Window(Kind.LINEAR, range(0x10000))
    sequencer(vga, 4, 0x06)  # unchained
    assert shown[-1].kind is Kind.DEVICE
    sequencer(vga, 4, 0x0E)
    assert shown[-1].kind is Kind.LINEAR
    for index, value, usual in (
        (0, 0xF, None),
        (1, 1, 0),
        (3, 8, 0),
        (5, 0x41, 0x40),
        (5, 0x48, 0x40),
        (8, 0xFE, 0xFF),
    ):
        graphics(vga, index, value)
        assert shown[-1].kind is (Kind.LINEAR if usual is None else Kind.DEVICE)
        if usual is not None:
            graphics(vga, index, usual)
            assert shown[-1].kind is Kind.LINEAR
    set_mode(vga, 0x07)
    assert shown[-1] == Window(Kind.TEXT, range(0x10000, 0x18000))
    set_mode(vga, 0x12)
    assert shown[-1].kind is Kind.DEVICE


def test_text_is_in_planes_0_and_1(vga: Vga) -> None:
    text = b"H\x1fi\x2e"
    vga.memory.text.write(0, text)
    font = vga.memory.plane(2, 0, 0x2000)
    sequencer(vga, 2, 0x04)  # a guest loads a font: no text window meanwhile
    assert vga.memory.plane(0, 0, 2) == b"Hi" and vga.memory.plane(1, 0, 2) == b"\x1f\x2e"
    sequencer(vga, 4, 0x06)
    graphics(vga, 5, 0x00)
    graphics(vga, 6, 0x04)
    vga.planes.write(65 * 32, 1, 0xA5)
    graphics(vga, 6, 0x0E)
    graphics(vga, 5, 0x10)
    sequencer(vga, 4, 0x02)
    sequencer(vga, 2, 0x03)
    assert vga.window.kind is Kind.TEXT
    assert vga.memory.text.read(0, 4) == text
    changed = vga.memory.plane(2, 0, 0x2000)
    assert changed[65 * 32] == 0xA5
    assert changed[: 65 * 32] + font[65 * 32 : 65 * 32 + 1] + changed[65 * 32 + 1 :] == font


def test_odd_and_even_addresses_are_different_planes(vga: Vga) -> None:
    graphics(vga, 8, 0x0F)  # not plain memory any more, so the device answers
    assert vga.window.kind is Kind.DEVICE
    vga.planes.read(0x18000, 1)
    vga.planes.write(0x18000, 2, 0xFFFF)
    assert vga.memory.plane(0, 0, 1) == b"\x2f" and vga.memory.plane(1, 0, 1) == b"\x0f"
    assert vga.planes.read(0x18000, 2) == 0x0F2F


def test_chain_4_through_the_device_is_what_memory_shows(vga: Vga) -> None:
    set_mode(vga, 0x13)
    graphics(vga, 3, 0x08)
    for at, value in ((0, 1), (1, 2), (2, 3), (3, 4), (0xFFFF, 5)):
        graphics(vga, 3, 0x00)
        graphics(vga, 1, 0x00)
        graphics(vga, 8, 0xFF)
        sequencer(vga, 2, 0x0F)
        graphics(vga, 5, 0x40)
        vga.planes.write(at, 1, value)
    assert vga.memory.vram.read(0, 4) == b"\1\2\3\4" and vga.memory.vram.read(0xFFFF, 1) == b"\5"
    assert vga.planes.read(0, 4) == 0x04030201


def test_the_latches_move_whole_cells(vga: Vga) -> None:
    set_mode(vga, 0x12)
    for plane in range(4):
        sequencer(vga, 2, 1 << plane)
        vga.planes.write(7, 1, 0x10 + plane)
    sequencer(vga, 2, 0x0F)
    graphics(vga, 5, 0x01)
    vga.planes.read(7, 1)
    vga.planes.write(99, 1, 0)
    assert vga.memory.vram.read(4 * 99, 4) == b"\x10\x11\x12\x13"
    assert vga.planes.state().latch == 0x13121110
