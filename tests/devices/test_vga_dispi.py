"""The Bochs display interface: what it answers, and what it makes of impossible wishes."""

from __future__ import annotations

import random

import pytest

from hypervisor.bus.clock import ManualClock
from hypervisor.devices.vga import Kind, Vga, Window
from hypervisor.devices.vga.dispi import BPP, COUNT, DispiState, LinearMode
from hypervisor.devices.vga.video_memory import OwnMemory
from hypervisor.errors import DeviceError

MIB = 1 << 20


@pytest.fixture
def shown() -> list[Window]:
    return []


@pytest.fixture
def vga(clock: ManualClock, shown: list[Window]) -> Vga:
    return Vga(clock, OwnMemory(16 * MIB), None, shown.append)


def put(vga: Vga, index: int, value: int) -> None:
    vga.dispi.write(0, 2, index)
    vga.dispi.write(1, 2, value)


def get(vga: Vga, index: int) -> int:
    vga.dispi.write(0, 2, index)
    return vga.dispi.read(1, 2)


def enable(vga: Vga, width: int, height: int, bits: int, how: int = 0x41) -> None:
    for index, value in ((4, 0), (1, width), (2, height), (3, bits), (4, how)):
        put(vga, index, value)


def test_versions_and_memory(vga: Vga) -> None:
    assert get(vga, 0) == 0xB0C5 and get(vga, 10) == 256 and get(vga, 99) == 0
    put(vga, 0, 0xB0C2)
    assert get(vga, 0) == 0xB0C2
    put(vga, 0, 0x1234)
    assert get(vga, 0) == 0xB0C2


def test_capabilities(vga: Vga) -> None:
    enable(vga, 640, 480, 32)
    put(vga, 4, 0x43)
    assert (get(vga, 1), get(vga, 2), get(vga, 3)) == (16000, 12000, 32)
    put(vga, 4, 0x41)
    assert (get(vga, 1), get(vga, 2), get(vga, 3)) == (640, 480, 32)


def test_a_mode(vga: Vga) -> None:
    enable(vga, 800, 600, 24)
    assert vga.dispi.mode == LinearMode(800, 600, 24, 2400, 0)
    assert (get(vga, 6), get(vga, 7)) == (800, 16 * MIB // 2400)
    put(vga, 6, 1024)
    put(vga, 8, 10)
    put(vga, 9, 20)
    assert vga.dispi.mode == LinearMode(800, 600, 24, 3072, 20 * 3072 + 30)


@pytest.mark.parametrize(
    ("asked", "given"),
    [((1023, 100, 8), (1016, 100, 8)), ((0, 0, 8), (8, 1, 8)), ((100, 100, 7), (96, 100, 8)),
     ((16001, 12001, 32), (16000, 262, 32)), ((65535, 1, 8), (16000, 1, 8))],
)  # fmt: skip
def test_wishes_are_corrected(vga: Vga, asked: tuple[int, int, int], given: tuple[int, int, int]) -> None:
    enable(vga, *asked)
    mode = vga.dispi.mode
    assert (mode.width, mode.height, mode.depth) == given


def test_enabling_clears_unless_told_otherwise(vga: Vga) -> None:
    for at in (3, 4 * 64 * 64 + 3):
        vga.memory.vram.write(at, b"\1")
    enable(vga, 64, 64, 32, 0xC1)
    assert vga.memory.vram.read(3, 1) == b"\1"
    enable(vga, 64, 64, 32)
    assert not any(vga.memory.vram.read(0, 64 * 64 * 4)) and vga.memory.vram.read(4 * 64 * 64 + 3, 1) == b"\1"


def test_banks_show_at_a0000(vga: Vga, shown: list[Window]) -> None:
    enable(vga, 1024, 768, 8)
    assert shown[-1] == Window(Kind.LINEAR, range(0x10000), 0)
    put(vga, 5, 3)
    assert shown[-1] == Window(Kind.LINEAR, range(0x10000), 0x30000)
    put(vga, 5, 300)
    assert get(vga, 5) == 300 - 256
    put(vga, 4, 0)
    assert vga.bank == 0


def test_an_8_bit_dac(vga: Vga) -> None:
    from hypervisor.devices.vga import palette

    enable(vga, 64, 64, 8, 0x61)
    vga.write(0x18, 1, 1)
    for level in (200, 100, 255):
        vga.write(0x19, 1, level)
    assert palette.dac(vga)[1] == (200, 100, 255)
    put(vga, 4, 0)
    assert palette.dac(vga)[1] == tuple(map(palette.eight_bits, (200, 100, 255)))


def test_accesses_of_other_sizes_mean_nothing(vga: Vga) -> None:
    put(vga, 1, 640)
    vga.dispi.write(1, 1, 3)
    vga.dispi.write(1, 4, 3)
    assert get(vga, 1) == 640
    assert vga.dispi.read(1, 1) == 0xFF and vga.dispi.read(1, 4) == 0xFFFFFFFF


@pytest.mark.parametrize("seed", range(3))
def test_whatever_is_written_what_is_shown_is_in_the_memory(vga: Vga, seed: int) -> None:
    from hypervisor.devices.vga.render import pixels

    rng = random.Random(seed)
    for _ in range(400):
        put(vga, rng.randrange(COUNT + 1), rng.choice((rng.randrange(0x10000), rng.randrange(300), 0x41, 32, 0)))
        if vga.dispi.enabled:
            mode = vga.dispi.mode
            assert mode.start + mode.height * mode.pitch <= vga.memory.vram.size
            if mode.width * mode.height < 100_000:
                assert pixels(vga).shape == (mode.height, mode.width, 3)


def test_states_that_reach_beyond_the_memory_are_refused(vga: Vga) -> None:
    enable(vga, 640, 480, 32)
    good = vga.dispi.state()
    for index, value in ((1, 16000), (2, 12000), (BPP, 5), (5, 256), (6, 0), (9, 65535)):
        registers = list(good.registers)
        registers[index] = value
        with pytest.raises(DeviceError, match="beyond the video memory"):
            vga.dispi.restore(DispiState(0, registers))
        assert vga.dispi.state() == good
    with pytest.raises(DeviceError, match="must have 10"):
        vga.dispi.restore(DispiState(0, [0xB0C5]))
