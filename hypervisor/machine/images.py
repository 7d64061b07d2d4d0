"""What a user gives for an image: a file, the name of a shipped guest, or bytes. Looked at first, read when needed."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from hypervisor import loaders
from hypervisor.backends.image_source import BytesSource, ImageLike, Source, open_source
from hypervisor.errors import ImageError
from hypervisor.units import KIB, MIB

MAX_WHOLE = 1 << 30
"""Bytes of a file that is read into memory as a whole: kernels with all their debug data have less."""
HEAD = 64 * KIB
"""Bytes in which an image says what it is: a multiboot header lies in the first 32 KiB, a CD's descriptor behind."""


@dataclass(frozen=True)
class Subject:
    """An image, and the name to call it by. ``symbols`` are a shipped guest's."""

    source: Source
    name: str
    symbols: dict[str, int]

    def kind(self, format: str | None) -> str:
        """Its format, by name: ``format`` if that is given, else what it looks like. Raises `ImageError`."""
        if format is not None:
            return format
        return loaders.detect(self.head())

    def head(self) -> loaders.Image:
        """Its first bytes, as far as a format shows in them."""
        return loaders.Image(self._read(min(self.source.size, HEAD)), self.name)

    def whole(self) -> bytes:
        """All its bytes. Raises `ImageError` for a file that is too large or that cannot be read."""
        if self.source.size > MAX_WHOLE:
            raise ImageError(f"{self.name} is larger than {MAX_WHOLE // MIB} MiB; no guest's image is.")
        return self._read(self.source.size)

    def _read(self, size: int) -> bytes:
        try:
            return self.source.read(0, size)
        except OSError as error:
            raise ImageError(f"{self.name} cannot be read: {error.strerror or error}.") from error
        except MemoryError as error:
            raise ImageError(f"{self.name} has {size // MIB} MiB, and the host has no memory left for them.") from error


def look_at(image: ImageLike) -> Subject:
    """Open ``image``. Raises `ImageError` for a file that cannot be used, `ConfigError` for what is no image at all."""
    if isinstance(image, str) and os.sep not in image and not Path(image).exists():
        from hypervisor import guests

        if image in guests.names():
            guest = guests.shipped(image)
            return Subject(BytesSource(guest.image, image), image, guest.symbols)
        known = ", ".join(guests.names())
        raise ImageError(f"{image}: there is no such file, and no shipped guest of that name ({known}).")
    source = open_source(image, "image")
    return Subject(source, source.name, {})


def contents(what: str, file: ImageLike) -> bytes:
    """The bytes of a file; bytes are themselves. Raises `ImageError` for what cannot be read."""
    source = open_source(file, what)
    try:
        return Subject(source, source.name, {}).whole()
    finally:
        source.close()
