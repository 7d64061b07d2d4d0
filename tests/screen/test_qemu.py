"""The same guest under QEMU: its pixels are ours."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import hypervisor as hv
from tests.screen import guests, qemu

PALETTE = bytes((37 * n + n // 7) % 64 for n in range(768))


@pytest.fixture
def host() -> Iterator[hv.Host]:
    with hv.Host("16M", 1) as host:
        yield host


def planes(count: int) -> str:
    return "".join(
        guests.indexed(0x3C4, bytes((1 << plane,)), 2) + guests.noise(0xA0000, count, 10 + plane) for plane in range(4)
    )


LFB = 0xFD000000
OWN_FONT = (
    guests.indexed(0x3D4, b"\x20", 0x0A)  # no cursor: QEMU's blinks by the host's time
    + "    mov dx, 0x3da\n    in al, dx\n    mov dx, 0x3c0\n"
    + "    mov al, 0x30\n    out dx, al\n    xor al, al\n    out dx, al\n"
    + guests.indexed(0x3C4, b"\x04\x00\x06", 2)
    + guests.indexed(0x3CE, b"\x00\x00\x04", 4)
    + guests.noise(0xA0000, 2048, 77)
    + guests.indexed(0x3C4, b"\x03\x00\x02", 2)
    + guests.indexed(0x3CE, b"\x00\x10\x0e", 4)
)
"""Text without cursor, blinking and line graphics, where QEMU is no model, in a font of noise."""
SCENES = {
    "13h": guests.set_mode(0x13) + guests.load_dac(PALETTE) + guests.noise(0xA0000, 16000, 1),
    "13h scrolled": guests.set_mode(0x13) + guests.noise(0xA0000, 16384, 1) + guests.indexed(0x3D4, b"\x07\xd0", 0x0C),
    "unchained": guests.set_mode(0x13)
    + guests.indexed(0x3C4, b"\x06", 4)
    + guests.indexed(0x3D4, b"\x00", 0x14)
    + guests.indexed(0x3D4, b"\xe3", 0x17)
    + planes(4000),
    "12h": guests.set_mode(0x12) + planes(9600),
    "0Dh": guests.set_mode(0x0D) + planes(2000),
    "10h": guests.set_mode(0x10) + planes(7000),
    "4": guests.set_mode(0x04) + guests.noise(0xB8000, 4096, 7),
    "6": guests.set_mode(0x06) + guests.noise(0xB8000, 4096, 8),
    "1024x768x32": guests.dispi(1024, 768, 32) + guests.noise(LFB, 1024 * 768, 2),
    "800x600x24": guests.dispi(800, 600, 24) + guests.noise(LFB, 800 * 600 * 3 // 4, 3),
    "640x480x16": guests.dispi(640, 480, 16) + guests.noise(LFB, 640 * 480 // 2, 4),
    "640x480x15": guests.dispi(640, 480, 15) + guests.noise(LFB, 640 * 480 // 2, 5),
    "640x400x8": guests.set_mode(0x13) + guests.dispi(640, 400, 8) + guests.noise(LFB, 640 * 100, 6),
    "text": guests.set_mode(0x03) + OWN_FONT + guests.noise(0xB8000, 1000, 9),
    "text of 8 dots and 50 rows": guests.set_mode(0x03)
    + OWN_FONT
    + guests.indexed(0x3D4, b"\x47", 0x09)
    + guests.indexed(0x3C4, b"\x01", 0x01)
    + guests.noise(0xB8000, 2000, 10),
}


@pytest.mark.parametrize("scene", SCENES)
def test_the_picture_is_qemus(host: hv.Host, tmp_path: Path, scene: str) -> None:
    vm = host.create_vm(guests.image(SCENES[scene]), memory="8M")
    assert vm.run(timeout=60, virtual_timeout=10).reason is hv.Reason.HALTED
    ours = vm.screen.pixels
    theirs = qemu.picture(qemu.kernel(guests.image(SCENES[scene]), tmp_path), tmp_path)
    assert theirs.shape[0] % ours.shape[0] == 0 and theirs.shape[1] % ours.shape[1] == 0
    scale = theirs.shape[0] // ours.shape[0], theirs.shape[1] // ours.shape[1]
    shown = ours.repeat(scale[0], axis=0).repeat(scale[1], axis=1)
    wrong = np.argwhere((shown != theirs).any(axis=-1))
    assert not len(wrong), f"{len(wrong)} pixels differ, the first at (line, column) {wrong[0]}"
