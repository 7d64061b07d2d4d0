"""How far a save has come: told by where in the memory of its machines it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from hypervisor.units import MIB, PAGE_SIZE
from hypervisor.vm.saved.page_streams import Numbered, Sparse

Progress = Callable[[int, int], object]
"""Told how many bytes of memory a save has gone through, and of how many. What it raises ends the save, and no file is
there.
"""

STEP = 4 * MIB
"""Bytes after which it is told again."""


class SaveProgress:
    """Tells of sparse parts, ``whole`` bytes in all, while their pages are taken."""

    def __init__(self, tell: Progress, whole: int) -> None:
        self._tell, self._whole = tell, whole
        self._before = 0

    def through(self, sparse: Sparse) -> Sparse:
        """The same part, which is told of as it is taken."""
        return Sparse(sparse.size, self._told(sparse))

    def _told(self, sparse: Sparse) -> Iterator[Numbered]:
        following = STEP
        for number, content in sparse.pages:
            if number * PAGE_SIZE >= following:
                self._tell(self._before + number * PAGE_SIZE, self._whole)
                following = number * PAGE_SIZE + STEP
            yield number, content
        self._before += sparse.size
        self._tell(self._before, self._whole)


__all__ = ["STEP", "Progress", "SaveProgress"]
