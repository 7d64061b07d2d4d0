"""What a drive reads and writes: numbered sectors. A disk controller knows a medium, not the file behind it."""

from __future__ import annotations

from typing import NamedTuple, Protocol


class Geometry(NamedTuple):
    """Cylinders, heads, sectors a track."""

    cylinders: int
    heads: int
    sectors: int

    @property
    def total(self) -> int:
        """Sectors in all."""
        return self.cylinders * self.heads * self.sectors

    def lba(self, cylinder: int, head: int, sector: int) -> int | None:
        """The number of a sector (``sector`` counts from 1), or None if there is none of this address."""
        if not (cylinder < self.cylinders and head < self.heads and 1 <= sector <= self.sectors):
            return None
        return (cylinder * self.heads + head) * self.sectors + sector - 1


class Medium(Protocol):
    """A disk, a floppy or a CD.

    What the host cannot do (a read error, a full overlay, a medium that cannot be written) is an `OSError`, which a
    controller turns into its guest's error status.
    """

    sector_size: int
    """In bytes: 512, or 2048 for a CD."""
    sectors: int
    """How many there are; their numbers are 0 to ``sectors`` - 1."""
    geometry: Geometry
    """What addresses by cylinder, head and sector mean."""
    writable: bool
    """Whether a guest may write: an overlay is writable, too."""

    def read(self, first: int, count: int) -> bytes:
        """``count`` sectors from ``first``, which must be on the medium."""
        ...

    def write(self, first: int, data: bytes) -> None:
        """Store whole sectors of ``data`` from sector ``first``, which must be on the medium."""
        ...

    def discard(self, first: int, count: int) -> None:
        """Nobody needs what has been written to these sectors, which must be on the medium: they may read as before it
        was. Only asked of a medium that says that it is ``thin``.
        """
        ...

    def flush(self) -> None:
        """Have what was written reach the host's storage."""
        ...
