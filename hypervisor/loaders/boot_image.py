"""The bytes of an image, read with bounds.

A header that points outside the file is an error sentence, never an IndexError.
"""

from __future__ import annotations

import struct
from typing import Any

from hypervisor.errors import ImageError


class Image:
    """An image file in memory, with the name that errors call it by."""

    __slots__ = ("data", "name")

    def __init__(self, data: bytes, name: str = "image") -> None:
        self.data = data
        self.name = name

    def __len__(self) -> int:
        return len(self.data)

    def unpack(self, layout: str, offset: int, what: str) -> tuple[Any, ...]:
        """The fields of `struct` ``layout`` at file ``offset``.

        Raises `ImageError` naming ``what`` when the file ends before them.
        """
        size = struct.calcsize(layout)
        self._check(offset, size, what)
        return struct.unpack_from(layout, self.data, offset)

    def slice(self, offset: int, size: int, what: str) -> bytes:
        """``size`` bytes at file ``offset``; raises `ImageError` naming ``what`` when the file ends before them."""
        self._check(offset, size, what)
        return self.data[offset : offset + size]

    def view(self, offset: int, size: int, what: str) -> memoryview:
        """As `slice`, without a copy: for what goes into guest memory."""
        self._check(offset, size, what)
        return memoryview(self.data)[offset : offset + size]

    def error(self, sentence: str) -> ImageError:
        """An `ImageError` about this image: ``sentence`` follows its name."""
        return ImageError(f"{self.name}: {sentence}")

    def _check(self, offset: int, size: int, what: str) -> None:
        if offset < 0 or offset + size > len(self.data):
            raise self.error(
                f"the file is truncated: {what} should be at offset {offset:#x} with {size} bytes, "
                f"but the file has {len(self.data)} bytes. Build or copy it again."
            )
