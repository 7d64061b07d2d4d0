"""The loaders of all formats, which are imported when an image is loaded: a machine that was saved needs none."""

from __future__ import annotations

from collections.abc import Callable

from hypervisor.loaders import flat
from hypervisor.loaders.boot_image import Image
from hypervisor.loaders.elf_kernel import loader
from hypervisor.loaders.entry import BootSpec, Entry, GuestMemory
from hypervisor.loaders.linux_kernel import protocol
from hypervisor.loaders.multiboot import version1, version2

LOADERS: dict[str, Callable[[Image, BootSpec, GuestMemory], Entry]] = {
    "linux": protocol.load,
    "multiboot2": version2.load,
    "multiboot1": version1.load,
    "elf": loader.load,
    "flat": flat.load,
}
"""By the names in `hypervisor.loaders.FORMATS`."""
