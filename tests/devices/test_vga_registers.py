"""The VGA's registers."""

from __future__ import annotations

import pytest

from hypervisor.arch.vga_modes import MODES, dac
from hypervisor.bus.clock import ManualClock
from hypervisor.devices.vga import Vga, mode_geometry
from hypervisor.devices.vga.vga_registers import PORTS, SIZE
from tests.devices.vga_device import attribute, crtc, graphics, sequencer, set_mode


@pytest.fixture
def vga(clock: ManualClock) -> Vga:
    return Vga(clock)


@pytest.mark.parametrize(
    ("index_port", "masks"), [(0x14, "033d0f3f0e"), (0x1E, "0f0f0f1f037b0f0fff")], ids=["sequencer", "graphics"]
)
def test_index_registers_hold_the_bits_that_exist(vga: Vga, index_port: int, masks: str) -> None:
    for index, mask in enumerate(bytes.fromhex(masks)):
        for value in (0xFF, 0xA5, 0x5A):
            vga.write(index_port, 1, index)
            vga.write(index_port + 1, 1, value)
            assert vga.read(index_port, 1) == index and vga.read(index_port + 1, 1) == value & mask
    vga.write(index_port, 1, 0xFF)
    vga.write(index_port + 1, 1, 0x12)
    assert vga.read(index_port + 1, 1) == 0


def test_crtc_protects_its_timing(vga: Vga) -> None:
    vga.write(0x24, 1, 0x00)
    assert vga.read(0x25, 1) == 0x5F
    crtc(vga, 0, 0x11)
    vga.write(0x24, 1, 0x00)
    assert vga.read(0x25, 1) == 0x5F
    crtc(vga, 7, 0x00)
    assert vga.state().crtc[7] == 0x0F  # line compare alone is free
    crtc(vga, 17, 0x0E)
    crtc(vga, 0, 0x11)
    assert vga.state().crtc[0] == 0x11


def test_the_crtc_is_where_miscellaneous_output_says(vga: Vga) -> None:
    vga.write(0x24, 1, 0x0C)
    assert vga.read(0x24, 1) == 0x0C and vga.read(0x04, 1) == 0xFF
    vga.write(0x12, 1, 0x66)
    assert vga.read(0x24, 1) == 0xFF and vga.read(0x04, 1) == 0x0C and vga.read(0x2A, 1) == 0xFF
    vga.write(0x04, 2, 0x120D)
    assert vga.state().crtc[13] == 0x12
    assert vga.read(0x0A, 1) != 0xFF


def test_attribute_flip_flop(vga: Vga) -> None:
    vga.read(0x2A, 1)
    vga.write(0x10, 1, 0x30)
    vga.write(0x10, 1, 0x0F)
    assert vga.read(0x11, 1) == 0x0F and vga.read(0x10, 1) == 0x30
    vga.write(0x10, 1, 0x31)
    vga.read(0x2A, 1)  # back to the index
    vga.write(0x10, 1, 0x32)
    assert vga.read(0x10, 1) == 0x32
    attribute(vga, 0x05, 0xFF)
    assert vga.read(0x11, 1) == 0x3F


def test_dac_goes_through_red_green_blue(vga: Vga) -> None:
    vga.write(0x18, 1, 255)
    for value in (0x3F, 0x7F, 0x01, 0x22):
        vga.write(0x19, 1, value)
    vga.write(0x17, 1, 255)
    assert vga.read(0x17, 1) == 3
    assert [vga.read(0x19, 1) for _ in range(4)] == [0x3F, 0x3F, 0x01, 0x22]
    assert vga.read(0x18, 1) == 0


def test_colours_pass_the_mask_and_are_scaled(vga: Vga) -> None:
    from hypervisor.devices.vga import palette

    assert [palette.eight_bits(level) for level in (0, 1, 2, 0x15, 0x2A, 0x3E, 0x3F)] == [0, 7, 8, 87, 168, 248, 255]
    vga.write(0x18, 1, 3)
    for value in (0x3F, 0x00, 0x2A):
        vga.write(0x19, 1, value)
    assert palette.dac(vga)[3] == (255, 0, 168)
    vga.write(0x16, 1, 0x03)
    assert palette.dac(vga)[7] == (255, 0, 168)
    vga.write(0x16, 1, 0xFF)
    attribute(vga, 0x05, 0x03)
    assert palette.attributes(vga)[5] == (255, 0, 168)
    attribute(vga, 0x14, 0x04)  # colour select: bits 7 and 6
    assert palette.attributes(vga)[5] == palette.dac(vga)[0x43]
    attribute(vga, 0x10, 0x8C)  # and bits 5 and 4
    attribute(vga, 0x14, 0x05)
    assert palette.attributes(vga)[5] == palette.dac(vga)[0x53]


def test_miscellaneous_output_reads_at_another_port(vga: Vga) -> None:
    assert vga.read(0x1C, 1) == 0x67
    vga.write(0x12, 1, 0xE3)
    assert vga.read(0x1C, 1) == 0xE3
    assert vga.read(0x1B, 1) == 0xFF  # nothing there


def test_the_table_names_every_port_that_answers(vga: Vga) -> None:
    vga.write(0x16, 1, 0)  # the only register that is FFh
    answering = {offset for offset in range(SIZE) if vga.read(offset, 1) != 0xFF}
    vga.write(0x12, 1, 0x66)
    answering |= {offset for offset in range(SIZE) if vga.read(offset, 1) != 0xFF}
    assert answering == {row.offset for row in PORTS if "r" in row.access}


def test_retrace_bits_follow_the_clock_at_70_hz(vga: Vga, clock: ManualClock) -> None:
    retraces, blank, samples, before = 0, 0, 0, False
    while clock.now_ns < 10**9:
        status = vga.read(0x2A, 1)
        now = bool(status & 0x08)
        retraces += now and not before
        before = now
        blank += status & 1
        samples += 1
        clock.advance(7_919)
    assert retraces == 70
    assert blank / samples == pytest.approx(1 - (400 * 720) / (449 * 900), abs=0.01)


def test_mode_12h_retraces_at_60_hz(vga: Vga, clock: ManualClock) -> None:
    set_mode(vga, 0x12)
    edges, before = 0, False
    while clock.now_ns < 10**9:
        now = bool(vga.read(0x2A, 1) & 0x08)
        edges += now and not before
        before = now
        clock.advance(20_011)
    assert edges in (59, 60)


def test_any_timing_is_borne(vga: Vga, clock: ManualClock) -> None:
    for value in (0x00, 0xFF):
        crtc(vga, 17, value & 0x7F)
        for index in range(25):
            crtc(vga, index, value & 0x7F if index == 17 else value)
        clock.advance(123_456)
        assert 0 <= vga.read(0x2A, 1) <= 9


@pytest.mark.parametrize("number", MODES)
def test_each_mode_is_what_its_registers_show(vga: Vga, number: int) -> None:
    sizes = {
        0x00: "text 40x25", 0x01: "text 40x25", 0x02: "text 80x25", 0x03: "text 80x25", 0x04: "320x200x2",
        0x05: "320x200x2", 0x06: "640x200x1", 0x07: "text 80x25", 0x0D: "320x200x4", 0x0E: "640x200x4",
        0x0F: "640x350x4", 0x10: "640x350x4", 0x11: "640x480x4", 0x12: "640x480x4", 0x13: "320x200x8",
    }  # fmt: skip
    set_mode(vga, number)
    assert str(mode_geometry.mode(vga)) == sizes[number]


def test_unchained_modes_have_the_size_that_the_registers_imply(vga: Vga) -> None:
    """320 by 240: the 480 lines of mode 12h, each shown twice (the well-known recipe for mode 13h without chaining)."""
    set_mode(vga, 0x13)
    sequencer(vga, 4, 0x06)
    vga.write(0x12, 1, 0xE3)
    crtc(vga, 0x11, 0x2C)
    for index, value in (
        (0x06, 0x0D), (0x07, 0x3E), (0x09, 0x41), (0x10, 0xEA), (0x11, 0xAC), (0x12, 0xDF), (0x14, 0x00), (0x15, 0xE7),
        (0x16, 0x06), (0x17, 0xE3),
    ):  # fmt: skip
        crtc(vga, index, value)
    assert str(mode_geometry.mode(vga)) == "320x240x8"


def test_default_colours() -> None:
    ega, cga, wheel = dac("ega"), dac("cga"), dac("256")
    assert ega[3 * 0x14 : 3 * 0x15] == bytes((0x2A, 0x15, 0x00))  # brown is attribute 6's 14h
    assert ega[3 * 0x3F :][:3] == b"\x3f\x3f\x3f"
    assert cga[3 * 6 : 3 * 7] == bytes((0x2A, 0x15, 0x00)) and cga[3 * 0x17 : 3 * 0x18] == b"\x3f\x3f\x3f"
    assert wheel[:48] == b"".join(cga[3 * n : 3 * n + 3] for n in (*range(8), *range(16, 24)))
    assert wheel[3 * 32 : 3 * 33] == bytes((0, 0, 0x3F)) and wheel[3 * 40 : 3 * 41] == bytes((0x3F, 0, 0))
    assert wheel[3 * 248 :] == bytes(24)
    hues = {wheel[3 * n : 3 * n + 3] for n in range(32, 248)}
    assert len(hues) == 216


def test_restore(vga: Vga, clock: ManualClock) -> None:
    crtc(vga, 13, 80)
    graphics(vga, 8, 0x12)
    twin = Vga(clock)
    twin.restore(vga.state())
    assert mode_geometry.start(twin) == 80 and twin.window == vga.window
    vga.reset()
    assert mode_geometry.start(vga) == 0 and mode_geometry.start(twin) == 80
