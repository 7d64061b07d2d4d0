"""The DMA controllers, moved by a device as a floppy controller does."""

from __future__ import annotations

import pytest

from hypervisor.devices.i8237 import PAGES, SECOND, I8237Pair
from tests.boot.fakes import FakeMemory

READ, WRITE, VERIFY = 0x48, 0x44, 0x40
"""Single mode: from memory, to memory, nowhere."""


class Machine:
    def __init__(self) -> None:
        self.memory = FakeMemory(16 << 20)
        self.pair = I8237Pair(self.memory)

    def program(self, channel: int, address: int, size: int, mode: int) -> None:
        """As a driver does: mask, mode, address, count, page, unmask."""
        base = SECOND if channel > 3 else 0
        n = channel & 3
        write = self.pair.write
        write(base + 0xA, 1, 4 | n)
        write(base + 0xC, 1, 0)
        write(base + 0xB, 1, mode | n)
        unit = 2 if channel > 3 else 1
        for register, value in ((2 * n, address // unit & 0xFFFF), (2 * n + 1, size // unit - 1)):
            write(base + register, 1, value & 0xFF)
            write(base + register, 1, value >> 8)
        pages = {0: 7, 1: 3, 2: 1, 3: 2, 5: 0xB, 6: 9, 7: 0xA}
        write(PAGES + pages[channel], 1, address >> 16)
        write(base + 0xA, 1, n)

    def status(self, channel: int) -> int:
        return self.pair.read((SECOND if channel > 3 else 0) + 8, 1)


@pytest.mark.parametrize("channel", [0, 1, 2, 3, 5, 6, 7])
def test_to_memory_until_terminal_count(channel: int) -> None:
    one = Machine()
    one.program(channel, 0x123400, 1024, WRITE)
    line = one.pair.channel(channel)
    assert line.ready
    assert line.give(b"a" * 512) == (512, False)
    assert line.give(b"b" * 600) == (512, True)
    assert line.give(b"c") == (0, False) and not line.ready
    assert one.memory.read(0x1233FF, 1026) == b"\0" + b"a" * 512 + b"b" * 512 + b"\0"
    assert (one.status(channel), one.status(channel)) == (1 << (channel & 3), 0)


def test_from_memory() -> None:
    one = Machine()
    one.memory.write(0x20000, b"0123456789")
    one.program(2, 0x20000, 10, READ)
    line = one.pair.channel(2)
    assert [line.take(4), line.take(100), line.take(1)] == [(b"0123", False), (b"456789", True), (b"", False)]


def test_the_other_directions_count_but_move_nothing() -> None:
    one = Machine()
    one.program(2, 0x20000, 4, VERIFY)
    assert one.pair.channel(2).give(b"abcd") == (4, True)
    assert one.memory.read(0x20000, 4) == bytes(4)
    one.program(2, 0x20000, 4, WRITE)
    assert one.pair.channel(2).take(4) == (b"\xff" * 4, True)


def test_auto_initialisation_starts_again() -> None:
    one = Machine()
    one.program(1, 0x30000, 4, WRITE | 0x10)
    line = one.pair.channel(1)
    assert [line.give(b"abcdef"), line.give(b"ef")] == [(4, True), (2, False)]
    assert one.memory.read(0x30000, 4) == b"efcd"


def test_downwards() -> None:
    one = Machine()
    one.program(1, 0x30003, 4, WRITE | 0x20)
    assert one.pair.channel(1).give(b"abcd") == (4, True)
    assert one.memory.read(0x30000, 4) == b"dcba"


def test_addresses_wrap_within_their_page() -> None:
    one = Machine()
    one.program(2, 0x4FFFE, 4, WRITE)
    line = one.pair.channel(2)
    assert [line.give(b"abcd"), line.give(b"cd")] == [(2, False), (2, True)]
    assert (one.memory.read(0x4FFFE, 2), one.memory.read(0x40000, 2)) == (b"ab", b"cd")


def test_registers_read_back_and_the_flip_flop() -> None:
    one = Machine()
    one.program(2, 0x051234, 0x5678, WRITE)
    one.pair.write(0xC, 1, 0)
    assert [one.pair.read(register, 1) for register in (4, 4, 5, 5)] == [0x34, 0x12, 0x77, 0x56]
    assert (one.pair.read(PAGES + 1, 1), one.pair.read(0xF, 1)) == (0x05, 0xFB)


def test_masks_the_controller_switch_and_master_clear() -> None:
    one = Machine()
    heard: list[int] = []
    line = one.pair.channel(2)
    line.when_ready(lambda: heard.append(1))
    one.program(2, 0, 16, WRITE)
    one.pair.write(8, 1, 4)
    assert (line.ready, heard) == (False, [1])
    one.pair.write(8, 1, 0)
    assert (line.ready, heard) == (True, [1, 1])
    one.pair.write(0xD, 1, 0)
    assert not line.ready
    one.pair.write(0xE, 1, 0)
    assert (line.ready, heard) == (True, [1, 1, 1])
