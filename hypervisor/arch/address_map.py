"""Where a PC's physical addresses lead, as far as all of its parts must agree on it."""

from __future__ import annotations

FOUR_GIB = 1 << 32
PCI_HOLE = 3 << 30
"""RAM below 4 GiB ends here at the latest; the windows of devices follow, and the rest of RAM begins at 4 GiB."""


def ram_ranges(size: int) -> list[tuple[int, int]]:
    """Where ``size`` bytes of RAM are: (start, length) each, below the PCI hole and from 4 GiB."""
    low = min(size, PCI_HOLE)
    return [(0, low)] + ([(FOUR_GIB, size - low)] if size > low else [])
