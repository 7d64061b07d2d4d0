"""Debug data of a guest's ELF file, read when somebody first asks: most runs need none of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from hypervisor.elf import ElfError
from hypervisor.errors import ConfigError

T = TypeVar("T")


class Once(Generic[T]):
    """What ``read`` returns, read once; None if the file is damaged, cannot be read, or takes more memory than there
    is: a report does without it.
    """

    def __init__(self, read: Callable[[], T]) -> None:
        self._read: Callable[[], T] | None = read
        self._found: T | None = None

    def get(self) -> T | None:
        """It, or None."""
        if self._read is not None:
            read, self._read = self._read, None
            try:
                self._found = read()
            except (ElfError, ConfigError, OSError, MemoryError):
                self._found = None
        return self._found
