"""What is in a machine's drives."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypervisor.backends.disk_image import ImageMedium

DEFAULT_ORDER = "cad"
"""The devices that a machine boots from unless it is told, as `Media` has them."""


@dataclass
class Media:
    """What is in the drives. ``order`` are the devices to boot, as letters: a floppy, c disk, d CD."""

    floppies: list[ImageMedium] = field(default_factory=list)
    disks: list[ImageMedium] = field(default_factory=list)
    cd: ImageMedium | None = None
    order: str = DEFAULT_ORDER

    def __bool__(self) -> bool:
        return bool(self.floppies or self.disks or self.cd)

    @property
    def ide(self) -> list[ImageMedium | None]:
        """The drives of the IDE controller: primary master and slave, secondary master (a CD, if there is one) and
        slave.
        """
        places: list[ImageMedium | None] = [None] * 4
        free = [0, 1, 3] if self.cd is not None else [0, 1, 2, 3]
        for place, medium in zip(free, self.disks, strict=False):
            places[place] = medium
        if self.cd is not None:
            places[2] = self.cd
        return places

    def by_drive(self) -> dict[str, ImageMedium]:
        """The media by the names of their drives."""
        named = {f"floppy {n}": medium for n, medium in enumerate(self.floppies)}
        named |= {f"disk {n}": medium for n, medium in enumerate(self.disks)}
        return named if self.cd is None else named | {"cd": self.cd}

    def close(self) -> None:
        """Give the host's files back."""
        for medium in (*self.floppies, *self.disks, *([self.cd] if self.cd else [])):
            medium.close()
