"""Raw disk images as media: hard disks, diskettes and CDs.

An image need not be padded: what lies between its end and the medium's reads as zeros.
"""

from __future__ import annotations

from collections.abc import Callable

from hypervisor.backends.disk_geometry import FLOPPIES, FLOPPY_LIMIT, SECTOR, disk_geometry, floppy_geometry
from hypervisor.backends.image_source import BytesSource, ImageLike, Source, open_source
from hypervisor.backends.overlay import Overlay
from hypervisor.backends.shared_source import SharedSource
from hypervisor.bus import UNLIMITED, DiskLimits, Geometry
from hypervisor.errors import ConfigError, ImageError
from hypervisor.units import MIB

CD_SECTOR = 2048
MODES = ("overlay", "write")
"""What happens to a guest's writes: they stay in memory, or they go to the file."""


class ImageMedium:
    """The sectors of a source (see `hypervisor.bus.Medium`).

    Several media may share one source: a diskette image that is a hard disk, too, is one image with two geometries.
    """

    def __init__(
        self, source: Source, sectors: int, geometry: Geometry, *, sector_size: int = SECTOR, writable: bool = True
    ) -> None:
        self.name = source.name
        self.source = source
        self.sectors = sectors
        self.geometry = geometry
        self.sector_size = sector_size
        self.writable = writable
        self.limits: DiskLimits = UNLIMITED
        """What the drive that it is in may do."""
        self.begun: Callable[[int, bool], int] | None = None
        """Asked by who uses it besides that drive: see `hypervisor.devices.ide.AtaDisk.begun`."""
        self.reads = self.writes = self.read_bytes = self.written_bytes = 0
        """What a drive has done with it, for who wants to know (`hypervisor.vm.figures`)."""

    def read(self, first: int, count: int) -> bytes:
        """See `hypervisor.bus.Medium.read`."""
        self.reads += 1
        self.read_bytes += count * self.sector_size
        return self.source.read(first * self.sector_size, count * self.sector_size)

    def write(self, first: int, data: bytes) -> None:
        """See `hypervisor.bus.Medium.write`."""
        if not self.writable:
            raise PermissionError(f"{self.name} is write-protected")
        self.writes += 1
        self.written_bytes += len(data)
        self.source.write(first * self.sector_size, data)

    @property
    def thin(self) -> bool:
        """Whether `discard` gives anything back."""
        return isinstance(self.source, Overlay)

    def discard(self, first: int, count: int) -> None:
        """See `hypervisor.bus.Medium.discard`."""
        self.writes += 1
        if isinstance(self.source, Overlay):
            self.source.discard(first * self.sector_size, count * self.sector_size)

    def flush(self) -> None:
        """See `hypervisor.bus.Medium.flush`."""
        self.source.flush()

    def over(self, source: Source) -> ImageMedium:
        """A medium like this one, above another source."""
        made = ImageMedium(source, self.sectors, self.geometry, sector_size=self.sector_size, writable=self.writable)
        made.limits = self.limits
        return made

    def close(self) -> None:
        """Give the host's file back. Closing twice is harmless."""
        self.source.close()


def open_writable(image: ImageLike, what: str, mode: str = "overlay") -> Source:
    """The source of an image that the guest may write: the file itself with ``mode="write"``, else an overlay.

    Raises `ImageError` for a file that cannot be used, which includes one without a byte.
    """
    if mode not in MODES:
        raise ConfigError(f"mode={mode!r} of the {what}: use one of {', '.join(MODES)}.")
    source = open_source(image, what, writable=mode == "write")
    if not source.size:
        source.close()
        raise ImageError(f"{source.name}: the file is empty, and a {what} has at least one sector.")
    return source if mode == "write" else Overlay(source)


def floppy(source: Source) -> ImageMedium:
    """A diskette; raises `ImageError` for an image that is larger than any."""
    if source.size > FLOPPY_LIMIT:
        raise ImageError(
            f"{source.name} has {source.size} bytes, and the largest floppy {FLOPPY_LIMIT} (2.88 MB); use it as a disk."
        )
    geometry = floppy_geometry(source.size, source.read(0, SECTOR))
    return ImageMedium(source, geometry.total, geometry)


def disk(source: Source) -> ImageMedium:
    """A hard disk. An image of whole MiB is a disk as it is; another one is padded to whole cylinders of its geometry,
    since toy kernels' images end where their last file does.
    """
    geometry = disk_geometry(source.size, source.read(0, SECTOR))
    sectors = -(-source.size // SECTOR)
    if source.size % MIB:
        track = geometry.heads * geometry.sectors
        sectors = -(-sectors // track) * track
    return ImageMedium(source, sectors, geometry)


def cdrom(image: ImageLike) -> ImageMedium:
    """A CD in a file or in bytes; raises `ImageError` for a file that cannot be used."""
    return cdrom_of(open_source(image, "CD"))


def no_cd() -> ImageMedium:
    """What is in an empty CD drive: a medium without sectors."""
    return ImageMedium(BytesSource(b""), 0, Geometry(0, 1, 1), sector_size=CD_SECTOR, writable=False)


def no_diskette() -> ImageMedium:
    """What is in an empty floppy drive: a medium without sectors. The drive takes diskettes up to 2.88 MB."""
    return ImageMedium(BytesSource(b""), 0, FLOPPIES[FLOPPY_LIMIT], writable=False)


def cdrom_of(source: Source) -> ImageMedium:
    """A CD with sectors of 2048 bytes; raises `ImageError` for an empty one."""
    if not source.size:
        source.close()
        raise ImageError(f"{source.name}: the file is empty, and a CD has at least one sector.")
    sectors = -(-source.size // CD_SECTOR)
    return ImageMedium(SharedSource(source), sectors, Geometry(sectors, 1, 1), sector_size=CD_SECTOR, writable=False)
