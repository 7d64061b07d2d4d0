"""What a guest's page tables map, as values. What reads them is `hypervisor.debug.page_tables`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hypervisor.markup import table


@dataclass(frozen=True, slots=True)
class MappedRange:
    """Linear ``[gva, gva + size)`` leads to guest-physical addresses from ``gpa`` on, with the same rights."""

    gva: int
    size: int
    gpa: int
    writable: bool
    user: bool
    executable: bool

    @property
    def rights(self) -> str:
        """``rwx`` with a dash for what is not allowed, and ``u`` where ring 3 may, too."""
        letters = ("w", self.writable), ("x", self.executable), ("u", self.user)
        return "r" + "".join(letter if holds else "-" for letter, holds in letters)

    def __str__(self) -> str:
        return f"{self.gva:016x}-{self.gva + self.size - 1:016x} {self.rights} -> {self.gpa:#x}"


@dataclass(frozen=True)
class PageTables:
    """All that the page tables of a vCPU map, in order of linear addresses. ``str()`` has a line for each range.

    ``complete`` is false where there was more than is shown: a guest's tables may lie in each other.
    """

    mode: str
    ranges: tuple[MappedRange, ...]
    complete: bool = True

    def __iter__(self) -> Iterator[MappedRange]:
        return iter(self.ranges)

    def __len__(self) -> int:
        return len(self.ranges)

    @property
    def _title(self) -> str:
        return self.mode if self.complete else f"{self.mode} (and more)"

    def __str__(self) -> str:
        return "\n".join([f"{self._title}:", *map(str, self.ranges)])

    def _repr_html_(self) -> str:
        rows = [
            (f"{one.gva:#x}-{one.gva + one.size - 1:#x}", f"{one.size >> 10} KiB", f"{one.gpa:#x}", one.rights)
            for one in self.ranges
        ]
        return table(self._title, ("linear addresses", "size", "lead to", "rights"), rows)


__all__ = ["MappedRange", "PageTables"]
