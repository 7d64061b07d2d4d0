"""Loaders: they write an image into guest memory and return the state to enter it in.

They know no CPU and no VM: bytes and a `BootSpec` in, an `Entry` out. Which addresses they use is in
`hypervisor.loaders.memory_map.LOADER_AREA` and in each format's docstring.
"""

from __future__ import annotations

from collections.abc import Callable

from hypervisor.errors import ConfigError
from hypervisor.loaders import bootsector, elf, flat, linux, multiboot1, multiboot2
from hypervisor.loaders.detect import detect
from hypervisor.loaders.entry import BootSpec, Entry, GuestMemory, Segment, Table
from hypervisor.loaders.image import Image
from hypervisor.loaders.memory_map import default_memory_map

FORMATS: dict[str, Callable[[Image, BootSpec, GuestMemory], Entry]] = {
    "linux": linux.load,
    "multiboot2": multiboot2.load,
    "multiboot1": multiboot1.load,
    "elf": elf.load,
    "bootsector": bootsector.load,
    "flat": flat.load,
}
"""Loaders by the name that ``--format`` takes."""


def load(image: bytes, spec: BootSpec, memory: GuestMemory) -> Entry:
    """Write ``image`` and what belongs to it into ``memory``; returns the state at its first instruction.

    Raises `ImageError` for an image that is damaged, of no known format or too big for the memory, and `ConfigError`
    for options that the format cannot honour.
    """
    subject = Image(image, spec.name)
    chosen = spec.format if spec.format is not None else detect(subject)
    if chosen not in FORMATS:
        raise ConfigError(f"{chosen!r} is not an image format; use one of {', '.join(FORMATS)}.")
    if chosen != "flat" and (spec.at is not None or spec.entry is not None):
        raise ConfigError(
            f"{spec.name}: --at and --entry are for --format flat; a {chosen} image brings its own addresses."
        )
    if chosen not in ("flat", "linux") and spec.mode is not None:
        raise ConfigError(
            f"{spec.name}: --mode is for flat binaries and Linux kernels; a {chosen} image starts in a mode of its own."
        )
    return FORMATS[chosen](subject, spec, memory)


__all__ = [
    "FORMATS",
    "BootSpec",
    "Entry",
    "GuestMemory",
    "Image",
    "Segment",
    "Table",
    "default_memory_map",
    "detect",
    "load",
]
