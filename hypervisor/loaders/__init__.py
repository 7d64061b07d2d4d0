"""Loaders: they write an image into guest memory and return the state to enter it in.

They know no CPU and no VM: bytes and a `BootSpec` in, an `Entry` out. Which addresses they use is in
`hypervisor.loaders.memory_map.LOADER_AREA` and in each format's docstring.
"""

from __future__ import annotations

from hypervisor.arch.segments import Segment, Table
from hypervisor.errors import ConfigError
from hypervisor.loaders.boot_image import Image
from hypervisor.loaders.entry import BootSpec, Entry, GuestMemory
from hypervisor.loaders.memory_map import default_memory_map

FORMATS = ("linux", "multiboot2", "multiboot1", "elf", "flat")
"""Formats that are loaded into memory, as ``--format`` calls them."""

MEDIA_FORMATS = ("bootsector", "cdrom")
"""Formats that no loader loads: the BIOS reads them from a drive (see `hypervisor.loaders.bootsector`)."""


def check_format(name: str) -> str:
    """``name`` if ``--format`` takes it; raises `ConfigError`."""
    if name not in (*FORMATS, *MEDIA_FORMATS):
        raise ConfigError(f"{name!r} is not an image format; use one of {', '.join((*FORMATS, *MEDIA_FORMATS))}.")
    return name


def detect(image: Image) -> str:
    """The name of an image's format; raises `ImageError` if it is none that we know."""
    from hypervisor.loaders.recognising import recognise

    return recognise(image)


def check_options(spec: BootSpec, chosen: str) -> None:
    """Raise `ConfigError` for addresses or a mode that a ``chosen`` image brings itself."""
    if chosen != "flat" and (spec.at is not None or spec.entry is not None):
        raise ConfigError(
            f"{spec.name}: --at and --entry are for --format flat; a {chosen} image brings its own addresses."
        )
    if chosen not in ("flat", "linux") and spec.mode is not None:
        raise ConfigError(
            f"{spec.name}: --mode is for flat binaries and Linux kernels; a {chosen} image starts in a mode of its own."
        )


def load(image: bytes, spec: BootSpec, memory: GuestMemory) -> Entry:
    """Write ``image`` and what belongs to it into ``memory``; returns the state at its first instruction.

    Raises `ImageError` for an image that is damaged, of no known format or too big for the memory, and `ConfigError`
    for options that the format cannot honour.
    """
    from hypervisor.loaders.formats import LOADERS

    subject = Image(image, spec.name)
    chosen = check_format(detect(subject) if spec.format is None else spec.format)
    check_options(spec, chosen)
    if chosen in MEDIA_FORMATS:
        raise ConfigError(f"{spec.name}: a {chosen} image is put into a drive, not loaded.")
    return LOADERS[chosen](subject, spec, memory)


__all__ = [
    "FORMATS",
    "MEDIA_FORMATS",
    "BootSpec",
    "Entry",
    "GuestMemory",
    "Image",
    "Segment",
    "Table",
    "check_format",
    "check_options",
    "default_memory_map",
    "detect",
    "load",
]
