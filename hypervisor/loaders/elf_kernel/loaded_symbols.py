"""Symbols of an ELF image, read when somebody first looks: a kernel has a hundred thousand and most runs need none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from hypervisor.elf import ElfError, symbols
from hypervisor.loaders.boot_image import Image


class ElfSymbols(Mapping[str, int]):
    """Names of functions, objects and plain labels to virtual addresses, as `hypervisor.elf.symbols` reads them.

    A file without a symbol table, with a damaged one, or with one beyond the limits has no symbols: the image runs
    without them.
    """

    def __init__(self, image: Image) -> None:
        self._image = image
        self._table: dict[str, int] | None = None

    def __getitem__(self, name: str) -> int:
        return self._read()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._read())

    def __len__(self) -> int:
        return len(self._read())

    def _read(self) -> dict[str, int]:
        if self._table is None:
            try:
                self._table = symbols(self._image.data)
            except (ElfError, MemoryError):
                self._table = {}
        return self._table
