"""The kernels that boot from drives, under SeaBIOS here and there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conventions import build, here, qemu
from tests.conventions.table import KERNELS, Kernel, Medium

IN_SHORT = ("hello", "stage2_lba", "int8_chain", "vbe", "multiboot2_framebuffer")
"""One from each kind of drive, and those that ask most of the firmware; the others come with the long form."""
BOOTED = [
    pytest.param(kernel, id=kernel.name, marks=() if kernel.name in IN_SHORT else pytest.mark.stress)
    for kernel in KERNELS
    if kernel.medium is not Medium.KERNEL
]


@pytest.mark.parametrize("kernel", BOOTED)
def test_the_same_as_under_qemu(kernel: Kernel, debian_file: Callable[[str, str], Path], tmp_path: Path) -> None:
    firmware = debian_file("seabios", "usr/share/seabios/bios-256k.bin")
    image = build.image(kernel, kernel.medium, tmp_path)
    there = qemu.run(kernel, kernel.medium, image, tmp_path)
    ours = here.run(kernel, kernel.medium, image, firmware)
    assert str(ours) == str(there)
    assert ours.colours == there.colours
    assert ours.picture == there.picture
