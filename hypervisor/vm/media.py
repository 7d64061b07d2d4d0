"""What is in a machine's drives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from hypervisor.backends.disk_image import ImageMedium
from hypervisor.backends.image_source import Source
from hypervisor.backends.overlay import Overlay
from hypervisor.backends.shared_source import SharedSource
from hypervisor.errors import ConfigError
from hypervisor.run.sharing.share import Moved

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

    def ide(self, disks: Sequence[int] = (), cd: int = 2) -> list[ImageMedium | None]:
        """What is in the drives of the IDE controller: primary master and slave, secondary master and slave.

        ``disks`` are the places of the first hard disks; others are where there is room, in order. ``cd`` is that of
        the CD, if there is one.
        """
        taken = {*disks, cd} if self.cd is not None else {*disks}
        order = [*disks, *(place for place in range(4) if place not in taken)]
        places: list[ImageMedium | None] = [None] * 4
        for place, medium in zip(order, self.disks, strict=False):
            places[place] = medium
        if self.cd is not None:
            places[cd] = self.cd
        return places

    def by_drive(self) -> dict[str, ImageMedium]:
        """The media by the names of their drives."""
        named = {f"floppy {n}": medium for n, medium in enumerate(self.floppies)}
        named |= {f"disk {n}": medium for n, medium in enumerate(self.disks)}
        return named if self.cd is None else named | {"cd": self.cd}

    def moved(self) -> Moved:
        """What drives have done."""
        media = self.by_drive().values()
        size = sum(medium.read_bytes + medium.written_bytes for medium in media)
        return Moved(size, sum(medium.reads + medium.writes for medium in media))

    def twin(self) -> Media:
        """The same in the drives of another machine, with what has been written by now. Raises `ConfigError` for a disk
        whose file the guest changes: two machines would write to it.
        """
        sources: dict[int, Source] = {}

        def again(medium: ImageMedium) -> ImageMedium:
            source = medium.source
            if id(source) not in sources:
                sources[id(source)] = _twin_of(source)
            return medium.over(sources[id(source)])

        return Media(
            [again(medium) for medium in self.floppies],
            [again(medium) for medium in self.disks],
            None if self.cd is None else again(self.cd),
            self.order,
        )

    def follow(self, other: Media) -> None:
        """Have written in each drive what has been written by now in that of a twin."""
        for one, twin in zip(self.by_drive().values(), other.by_drive().values(), strict=True):
            if isinstance(one.source, Overlay) and isinstance(twin.source, Overlay):
                one.source.follow(twin.source)

    def close(self) -> None:
        """Give the host's files back."""
        for medium in (*self.floppies, *self.disks, *([self.cd] if self.cd else [])):
            medium.close()


def _twin_of(source: Source) -> Source:
    if isinstance(source, Overlay):
        return source.twin()
    if isinstance(source, SharedSource):
        return source.again()
    raise ConfigError(
        f"{source.name} is written by the guest (mode=write), so a machine cannot go on twice from one moment: give "
        "the disk mode=overlay, or a copy of the file to each machine."
    )
