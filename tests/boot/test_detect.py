from __future__ import annotations

import pytest

from hypervisor.errors import ImageError
from hypervisor.loaders import detect
from hypervisor.loaders.boot_image import Image
from tests.boot.images import (
    CODE,
    bzimage,
    elf,
    multiboot1_elf,
    multiboot1_header,
    multiboot2_elf,
)
from tests.sectors import boot_sector


@pytest.mark.parametrize(
    ("image", "name"),
    [
        (bzimage(), "linux"),
        (multiboot2_elf(), "multiboot2"),
        (multiboot2_elf(64), "multiboot2"),
        (multiboot1_elf(), "multiboot1"),
        (multiboot1_elf(64), "multiboot1"),
        (multiboot1_header(0x10000, addresses=[0] * 5), "multiboot1"),
        (elf(), "elf"),
        (elf(64), "elf"),
        (elf(machine=40), "elf"),
        (boot_sector(b""), "bootsector"),
        # A disk whose boot loader has the words of a header in it is still a disk.
        (boot_sector(b"") + multiboot1_header(0), "bootsector"),
        (boot_sector(b"") + multiboot1_header(0x10000, addresses=[0] * 5), "bootsector"),
        (bytes(4) + multiboot1_header(0x10000) + boot_sector(b"")[16:], "multiboot1"),
    ],
)
def test_detection(image: bytes, name: str) -> None:
    assert detect(Image(image)) == name


@pytest.mark.parametrize(
    ("image", "sentence"),
    [
        (b"", "begins with nothing: the file is empty"),
        (CODE, "begins with f4 f4 f4"),
        (bytes(510) + b"\x55", "no image of a known format"),
        (multiboot1_header(0), "no image of a known format"),
        (b"\x1f\x8b\x08" + bytes(600), "gzip-compressed"),
        (b"MZ" + bytes(600), "EFI or DOS program"),
        (b"QFI\xfb" + bytes(600), "qcow2"),
    ],
)
def test_what_is_no_image_is_said_in_a_sentence(image: bytes, sentence: str) -> None:
    with pytest.raises(ImageError, match=f"^disk.img: .*{sentence}"):
        detect(Image(image, "disk.img"))
