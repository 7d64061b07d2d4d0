"""The display adapter in text mode."""

from __future__ import annotations

import pytest

from hypervisor.bus.clock import ManualClock
from hypervisor.devices.vga_text import CP437, VgaText


class Screen:
    """Memory at b8000h as a bus master sees it."""

    def __init__(self) -> None:
        self.cells = bytearray(0x8000)

    def read(self, gpa: int, size: int) -> bytes:
        return bytes(self.cells[gpa - 0xB8000 :][:size])

    def write(self, gpa: int, data: bytes) -> None:
        self.cells[gpa - 0xB8000 : gpa - 0xB8000 + len(data)] = data

    def put(self, row: int, column: int, text: str) -> None:
        for n, char in enumerate(text):
            self.write(0xB8000 + (row * 80 + column + n) * 2, bytes((CP437.index(char), 0x07)))


@pytest.fixture
def screen() -> Screen:
    return Screen()


@pytest.fixture
def vga(screen: Screen, clock: ManualClock) -> VgaText:
    return VgaText(screen, clock)


def crtc(vga: VgaText, index: int, value: int) -> None:
    vga.write(0x14, 2, value << 8 | index)  # one word: index and data


def test_text(vga: VgaText, screen: Screen) -> None:
    screen.put(0, 0, "Hello, world")
    screen.put(24, 70, "corner │é▒")
    lines = vga.text().split("\n")
    assert len(lines) == 25
    assert lines[0] == "Hello, world" and lines[24] == " " * 70 + "corner │é▒"
    assert set(lines[1:24]) == {""}


def test_code_page_437_has_256_different_glyphs() -> None:
    assert len(CP437) == 256
    assert CP437[1] == "☺" and CP437[0x7F] == "⌂" and CP437[0xDB] == "█" and CP437[ord("A")] == "A"


def test_start_address_scrolls_and_wraps(vga: VgaText, screen: Screen) -> None:
    screen.put(3, 0, "third")
    crtc(vga, 13, 240)
    assert vga.text().startswith("third")
    screen.put(0, 0, "wrapped")
    crtc(vga, 12, 0x40)
    crtc(vga, 13, 0x00)
    assert vga.start == 0x4000 and vga.text().startswith("wrapped")


def test_cursor(vga: VgaText) -> None:
    crtc(vga, 14, (5 * 80 + 7) >> 8)
    crtc(vga, 15, (5 * 80 + 7) & 0xFF)
    assert vga.cursor == (5, 7)


def test_index_registers_read_back(vga: VgaText) -> None:
    for index_port, count in ((0x04, 5), (0x0E, 9)):
        for index in range(count):
            vga.write(index_port, 1, index)
            vga.write(index_port + 1, 1, 0xA0 + index)
        for index in range(count):
            vga.write(index_port, 1, index)
            assert vga.read(index_port, 1) == index and vga.read(index_port + 1, 1) == 0xA0 + index
        vga.write(index_port, 1, 0xFF)
        vga.write(index_port + 1, 1, 0x12)
        assert vga.read(index_port + 1, 1) == 0


def test_crtc_protects_its_timing(vga: VgaText) -> None:
    vga.write(0x14, 1, 0x00)
    assert vga.read(0x15, 1) == 0x5F
    crtc(vga, 0, 0x11)
    vga.write(0x14, 1, 0x00)
    assert vga.read(0x15, 1) == 0x5F
    crtc(vga, 7, 0x00)
    assert vga.state().crtc[7] == 0x0F  # line compare alone is free
    crtc(vga, 17, 0x0E)
    crtc(vga, 0, 0x11)
    assert vga.state().crtc[0] == 0x11


def test_attribute_flip_flop(vga: VgaText) -> None:
    vga.read(0x1A, 1)
    vga.write(0x00, 1, 0x30)
    vga.write(0x00, 1, 0x0F)
    assert vga.read(0x01, 1) == 0x0F and vga.read(0x00, 1) == 0x30
    vga.write(0x00, 1, 0x31)
    vga.read(0x1A, 1)  # back to the index
    vga.write(0x00, 1, 0x32)
    assert vga.read(0x00, 1) == 0x32


def test_palette_goes_through_red_green_blue(vga: VgaText) -> None:
    vga.write(0x08, 1, 255)
    for value in (0x3F, 0x7F, 0x01, 0x22):
        vga.write(0x09, 1, value)
    vga.write(0x07, 1, 255)
    assert vga.read(0x07, 1) == 3
    assert [vga.read(0x09, 1) for _ in range(4)] == [0x3F, 0x3F, 0x01, 0x22]
    assert vga.read(0x08, 1) == 0


def test_miscellaneous_output(vga: VgaText) -> None:
    assert vga.read(0x0C, 1) == 0x67
    vga.write(0x02, 1, 0xE3)
    assert vga.read(0x0C, 1) == 0xE3
    assert vga.read(0x0B, 1) == 0xFF  # nothing there


def test_retrace_bits_follow_the_clock_at_70_hz(vga: VgaText, clock: ManualClock) -> None:
    retraces, blank, samples, before = 0, 0, 0, False
    while clock.now_ns < 10**9:
        status = vga.read(0x1A, 1)
        now = bool(status & 0x08)
        retraces += now and not before
        before = now
        blank += status & 1
        samples += 1
        clock.advance(7_919)
    assert retraces == 70
    assert blank / samples == pytest.approx(1 - (400 * 720) / (449 * 900), abs=0.01)


def test_restore(vga: VgaText, screen: Screen, clock: ManualClock) -> None:
    crtc(vga, 13, 80)
    twin = VgaText(screen, clock)
    twin.restore(vga.state())
    assert twin.start == 80
    vga.reset()
    assert vga.start == 0 and twin.start == 80
