"""What kind of image is this? By looking at it, in a fixed order; a flat binary is never guessed."""

from __future__ import annotations

from collections.abc import Callable

from hypervisor.loaders.boot_image import Image
from hypervisor.loaders.bootsector import SECTOR, is_bootsector, is_cd
from hypervisor.loaders.elf_kernel.elf_file import is_elf
from hypervisor.loaders.linux_kernel.protocol import is_linux
from hypervisor.loaders.multiboot.version1 import is_multiboot1
from hypervisor.loaders.multiboot.version2 import is_multiboot2


def is_disk(image: Image) -> bool:
    """Whether this is a boot sector that is no kernel, whatever lies behind it: GRUB's core image, which follows it on
    a disk, has a multiboot header of its own.
    """
    sector = Image(image.data[:SECTOR], image.name)
    return is_bootsector(image) and not (is_elf(sector) or is_multiboot1(sector) or is_multiboot2(sector))


ORDER: list[tuple[str, Callable[[Image], bool]]] = [
    ("linux", is_linux),
    ("cdrom", is_cd),
    ("bootsector", is_disk),
    ("multiboot2", is_multiboot2),
    ("multiboot1", is_multiboot1),
    ("elf", is_elf),
    ("bootsector", is_bootsector),
]
"""A bzImage is also a boot sector, a multiboot kernel also an ELF file or a boot sector, and many a CD image also a
boot sector: the more specific format comes first.
"""

HINTS = [
    (0, b"\x1f\x8b", "It is gzip-compressed: decompress it first."),
    (0, b"\xfd7zXZ", "It is xz-compressed: decompress it first."),
    (0, b"\x28\xb5\x2f\xfd", "It is zstd-compressed: decompress it first."),
    (0, b"MZ", "It is an EFI or DOS program, which needs that firmware."),
    (0, b"QFI\xfb", "It is a qcow2 disk: convert it to raw with qemu-img first."),
]
"""Offset, bytes, and what to do about a file of that kind."""


def recognise(image: Image) -> str:
    """The format's name; raises `ImageError` if it is none that we know."""
    for name, matches in ORDER:
        if matches(image):
            return name
    for offset, magic, hint in HINTS:
        if image.data[offset : offset + len(magic)] == magic:
            raise image.error(f"this is not a bootable image. {hint}")
    found = image.data[:8].hex(" ") if len(image) else "nothing: the file is empty"
    raise image.error(
        "this is no image of a known format (bzImage, multiboot 2 or 1, ELF, CD, boot sector); "
        f"it begins with {found}. For a raw binary use --format flat with --at, --entry and --mode."
    )
