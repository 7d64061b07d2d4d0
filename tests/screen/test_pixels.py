"""What guests draw, pixel by pixel, against pictures computed here from the same noise."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

import hypervisor as hv
from hypervisor.arch.vga_modes import dac
from tests.screen import guests

FRAME_BUFFER = 0xFD000000


@pytest.fixture
def host() -> Iterator[hv.Host]:
    with hv.Host("16M", 1) as host:
        yield host


def draw(host: hv.Host, code: str) -> hv.VM:
    vm = host.create_vm(guests.image(code), memory="8M")
    result = vm.run(timeout=60, virtual_timeout=10)
    assert result.reason is hv.Reason.HALTED, result.message
    assert vm.debugcon.text == "D"
    return vm


def levels(palette: bytes) -> np.ndarray:
    six = np.frombuffer(palette, np.uint8).reshape(256, 3).astype(int)
    return (six << 2 | (six & 1) * 3).astype(np.uint8)


def test_mode_13h(host: hv.Host) -> None:
    palette = bytes((37 * n + n // 7) % 64 for n in range(768))
    vm = draw(host, guests.set_mode(0x13) + guests.load_dac(palette) + guests.noise(0xA0000, 16000, 1))
    numbers = np.frombuffer(guests.noise_bytes(16000, 1), np.uint8).reshape(200, 320)
    assert str(vm.screen.mode) == "320x200x8" and vm.screen.size == (320, 200)
    assert (vm.screen.pixels == levels(palette)[numbers]).all()
    assert vm.stats["mmio_write"] == 0  # the frame buffer is memory


def test_linear_1024x768x32(host: hv.Host) -> None:
    count = 1024 * 768
    vm = draw(host, guests.dispi(1024, 768, 32) + guests.noise(FRAME_BUFFER, count, 2))
    words = np.frombuffer(guests.noise_bytes(count, 2), "<u4").reshape(768, 1024)
    expected = np.stack([words >> 16 & 0xFF, words >> 8 & 0xFF, words & 0xFF], axis=-1)
    assert str(vm.screen.mode) == "1024x768x32"
    assert (vm.screen.pixels == expected).all()
    assert vm.stats["mmio_write"] == 0


@pytest.mark.parametrize(("bits", "size"), [(8, 1), (15, 2), (16, 2), (24, 3)])
def test_other_linear_depths(host: hv.Host, bits: int, size: int) -> None:
    width, height = 640, 400
    count = width * height * size // 4
    vm = draw(host, guests.dispi(width, height, bits) + guests.noise(FRAME_BUFFER, count, bits))
    raw = np.frombuffer(guests.noise_bytes(count, bits), np.uint8).reshape(height, width, size)
    if bits == 8:
        expected = levels(dac("ega"))[raw[..., 0]]
    elif bits == 24:
        expected = raw[..., ::-1]
    else:
        words = raw[..., 0].astype(int) | raw[..., 1].astype(int) << 8
        green = bits - 10
        red, green_level = words >> 5 + green & 31, words >> 5 & (1 << green) - 1
        expected = np.stack([red << 3, green_level << 8 - green, (words & 31) << 3], axis=-1)
        if bits == 16:  # 31 is 255
            expected |= np.stack([red >> 2, green_level >> 4, (words & 31) >> 2], axis=-1)
    assert (vm.screen.pixels == expected).all()


def test_linear_modes_scroll_by_their_offsets(host: hv.Host) -> None:
    count = 320 * 400
    code = guests.dispi(320, 200, 32)
    for index, value in ((6, 640), (8, 24), (9, 100)):
        code += (
            f"    mov dx, 0x1ce\n    mov ax, {index}\n    out dx, ax\n    inc dx\n    mov ax, {value}\n    out dx, ax\n"
        )
    vm = draw(host, code + guests.noise(FRAME_BUFFER, 2 * count, 3))
    words = np.frombuffer(guests.noise_bytes(2 * count, 3), "<u4").reshape(400, 640)[100:300, 24:344]
    expected = np.stack([words >> 16 & 0xFF, words >> 8 & 0xFF, words & 0xFF], axis=-1)
    assert (vm.screen.pixels == expected).all()


@pytest.mark.parametrize("linear", [False, True])
def test_16_colours(host: hv.Host, linear: bool) -> None:
    """Mode 12h, and 800 by 600 by the Bochs interface."""
    width, height = (800, 600) if linear else (640, 480)
    code = guests.set_mode(0x12) + (guests.dispi(width, height, 4) if linear else "")
    count = width * height // 32
    for plane in range(4):
        code += guests.indexed(0x3C4, bytes((1 << plane,)), 2) + guests.noise(0xA0000, count, 10 + plane)
    vm = draw(host, code)
    numbers = np.zeros((height, width), int)
    for plane in range(4):
        bits = np.unpackbits(np.frombuffer(guests.noise_bytes(count, 10 + plane), np.uint8)).reshape(height, width)
        numbers |= bits.astype(int) << plane
    sixteen = [*range(6), 0x14, 7, *range(0x38, 0x40)]
    assert str(vm.screen.mode) == f"{width}x{height}x4"
    assert (vm.screen.pixels == levels(dac("ega"))[sixteen][numbers]).all()


def test_an_unchained_mode(host: hv.Host) -> None:
    """Mode 13h without chaining: each plane holds every fourth pixel, and there is room for four pages."""
    code = guests.set_mode(0x13) + guests.indexed(0x3C4, b"\x06", 4)
    code += guests.indexed(0x3D4, b"\x00", 0x14) + guests.indexed(0x3D4, b"\xe3", 0x17)
    for plane in range(4):
        code += guests.indexed(0x3C4, bytes((1 << plane,)), 2) + guests.noise(0xA4000, 4000, 20 + plane)
    vm = draw(host, code + guests.indexed(0x3D4, b"\x40\x00", 0x0C))
    numbers = np.zeros((200, 320), int)
    for plane in range(4):
        numbers[:, plane::4] = np.frombuffer(guests.noise_bytes(4000, 20 + plane), np.uint8).reshape(200, 80)
    assert str(vm.screen.mode) == "320x200x8"
    assert (vm.screen.pixels == levels(dac("256"))[numbers]).all()


def test_the_screen_splits_at_line_compare(host: hv.Host) -> None:
    code = guests.set_mode(0x13) + guests.noise(0xA0000, 16000, 4)
    # line 199 of 400: bits 8 and 9 of line compare are in the overflow and maximum scan line registers
    code += guests.indexed(0x3D4, b"\x0f", 7) + guests.indexed(0x3D4, b"\x01", 9) + guests.indexed(0x3D4, b"\xc7", 0x18)
    vm = draw(host, code + guests.indexed(0x3D4, b"\x0f\xa0", 0x0C))
    numbers = np.frombuffer(guests.noise_bytes(16000, 4), np.uint8).reshape(200, 320)
    shown = np.concatenate([numbers[50:150], numbers[:100]])
    assert (vm.screen.pixels == levels(dac("256"))[shown]).all()


def test_a_screen_switched_off_is_black(host: hv.Host) -> None:
    vm = draw(host, guests.set_mode(0x13) + guests.noise(0xA0000, 100, 5) + guests.indexed(0x3C4, b"\x21", 1))
    assert vm.screen.size == (320, 200) and not vm.screen.pixels.any()


def test_a_frame_buffer_that_nobody_touches_costs_nothing(host: hv.Host) -> None:
    vm = draw(host, "")
    used = {block.name: block.resident_bytes for block in vm.blocks}
    assert used["vga"] <= 64 << 10  # the font in plane 2, between planes that are not used yet
    assert used["vga-text"] <= 32 << 10  # which the BIOS has cleared
    vm = draw(host, guests.dispi(1024, 768, 32))  # which clears the screen
    assert {block.name: block.resident_bytes for block in vm.blocks}["vga"] <= 192 << 10
