"""Whatever a guest has written, the screen can be looked at; and what the manual says of text is what is drawn."""

from __future__ import annotations

import random

import numpy as np
import pytest

from hypervisor.arch.font import CP437, font
from hypervisor.bus.clock import ManualClock
from hypervisor.devices.vga import Vga, mode_geometry, text_mode
from hypervisor.devices.vga.render import pixels
from hypervisor.devices.vga.video_memory import PLANES_SIZE
from tests.devices.vga_device import attribute, crtc, graphics, sequencer, set_mode


@pytest.fixture
def vga(clock: ManualClock) -> Vga:
    return Vga(clock)


@pytest.mark.parametrize("seed", range(12))
def test_any_registers_can_be_looked_at(vga: Vga, seed: int) -> None:
    rng = random.Random(seed)
    vga.memory.vram.write(0, rng.randbytes(PLANES_SIZE))
    vga.memory.text.write(0, rng.randbytes(vga.memory.text.size))
    for _ in range(60):
        set_mode(vga, rng.choice((0, 3, 4, 6, 7, 0x0D, 0x12, 0x13)))
        crtc(vga, 0x11, rng.randrange(0x80))
        for _ in range(rng.randrange(12)):
            write, count = rng.choice(((crtc, 25), (sequencer, 5), (graphics, 9), (attribute, 21)))
            index = rng.randrange(count)
            if (write, index) != (crtc, 0x11):
                write(vga, index, rng.choice((rng.randrange(256), 0, 0xFF)))
        mode = mode_geometry.mode(vga)
        picture = pixels(vga)
        assert picture.shape == (mode.height, mode.width, 3) and picture.dtype == np.uint8
        rows, place = text_mode.rows(vga), text_mode.cursor(vga)
        assert all(len(row.text) == len(row.attributes) == mode.columns for row in rows)
        assert rows == [] or (mode.kind == "text" and len(rows) == mode.rows)
        assert place is None or (place[0] < mode.rows and place[1] < mode.columns)
        assert text_mode.fingerprint(vga) == text_mode.fingerprint(vga)


def put(vga: Vga, row: int, column: int, value: str, colour: int = 7) -> None:
    for n, character in enumerate(value):
        at = 2 * (80 * row + column + n)
        vga.memory.text.write(at, bytes((CP437.index(character), colour)))


def test_text(vga: Vga) -> None:
    put(vga, 0, 0, "Hello, world")
    put(vga, 24, 70, "corner │é▒")
    lines = text_mode.text(vga).split("\n")
    assert len(lines) == 25
    assert lines[0] == "Hello, world" and lines[24] == " " * 70 + "corner │é▒"
    assert set(lines[1:24]) == {""}


def test_code_page_437_has_256_glyphs_of_its_own() -> None:
    assert len(CP437) == 256
    assert CP437[1] == "☺" and CP437[0x7F] == "⌂" and CP437[0xDB] == "█" and CP437[ord("A")] == "A"
    for height in (16, 14, 8):
        glyphs = [font(height).glyph(character) for character in range(256)]
        assert all(len(glyph) == height for glyph in glyphs)
        blank = [character for character, glyph in enumerate(glyphs) if not any(glyph)]
        assert blank == [0, 32, 255]
        assert len({glyph for glyph in glyphs[33:127]}) == 94  # the printable characters can be told apart


def test_boxes_meet_their_neighbours() -> None:
    """A line that leaves a cell goes on in the next one: ends match at the edges."""
    for height in (16, 14, 8):
        glyphs = font(height)
        for left, right in ("─┐", "═╗", "╠═", "╟─", "─┼", "═╬", "╚═", "╙─", "╞═", "╫─", "─╢", "═╡"):
            ends = [row & 1 for row in glyphs.glyph(CP437.index(left))]
            assert ends == [row >> 7 for row in glyphs.glyph(CP437.index(right))] and any(ends), (left, right)
        for upper, lower in ("│└", "║╚", "╦║", "╤│", "┼│", "╬║", "╒│", "╓║", "│╧", "║╨"):
            assert glyphs.glyph(CP437.index(upper))[-1] == glyphs.glyph(CP437.index(lower))[0] != 0, (upper, lower)


def test_scrolling_and_wrapping(vga: Vga) -> None:
    put(vga, 3, 0, "third")
    crtc(vga, 13, 240)
    assert text_mode.text(vga).startswith("third")
    vga.memory.write_plane(0, 0x4000, b"\x41\x42")  # behind what the text window shows
    crtc(vga, 12, 0x40)
    crtc(vga, 13, 0x00)
    assert mode_geometry.start(vga) == 0x4000 and text_mode.text(vga).startswith("AB")


def test_the_cursor(vga: Vga) -> None:
    crtc(vga, 14, (5 * 80 + 7) >> 8)
    crtc(vga, 15, (5 * 80 + 7) & 0xFF)
    assert text_mode.cursor(vga) == (5, 7)
    lit = pixels(vga)[5 * 16 : 6 * 16, 7 * 9 : 8 * 9].any(axis=(1, 2))
    assert lit.nonzero()[0].tolist() == [13, 14]
    crtc(vga, 10, 0x20)
    assert text_mode.cursor(vga) is None and not pixels(vga).any()
    crtc(vga, 10, 0x0D)
    crtc(vga, 14, 0x20)
    assert text_mode.cursor(vga) is None  # off the screen


def test_attributes(vga: Vga) -> None:
    put(vga, 0, 0, "█", 0x1E)
    put(vga, 0, 1, " ", 0x1E)
    put(vga, 0, 2, "█", 0x94)
    put(vga, 0, 3, " ", 0x94)
    colours = [tuple(pixels(vga)[0, 9 * n]) for n in range(4)]
    yellow, blue, red, bright_blue = (255, 255, 87), (0, 0, 168), (168, 0, 0), (87, 87, 255)
    assert colours == [yellow, blue, red, blue]  # bit 7 blinks
    attribute(vga, 0x10, 0x04)
    assert tuple(pixels(vga)[0, 27]) == bright_blue  # bit 7 is a bright background


def test_monochrome_underlines(vga: Vga) -> None:
    set_mode(vga, 0x07)
    crtc(vga, 10, 0x20)
    at = 0
    for colour in (0x01, 0x07, 0x70, 0x00):
        vga.memory.text.write(at, bytes((0x20, colour)))
        at += 2
    picture = pixels(vga)[:16, :36].any(axis=-1)
    assert picture[13, 0:9].tolist() == [True] * 8 + [False] and picture[:13, :9].sum() == 0
    assert not picture[:, 9:18].any() and picture[:, 18:27].all() and not picture[:, 27:].any()


def test_two_fonts(vga: Vga) -> None:
    solid = b"\xff" * 16 + bytes(16)
    vga.memory.write_plane(2, 0x4000, solid * 256)
    put(vga, 0, 0, "aa")
    vga.memory.text.write(3, b"\x0f")
    sequencer(vga, 3, 0x04)  # attribute bit 3 chooses font 1
    picture = pixels(vga)[:16, :17].any(axis=-1)
    assert picture[:, 9:17].all() and not picture[:, :9].all()
    assert tuple(pixels(vga)[0, 9]) == (168, 168, 168)  # and no longer brightness
