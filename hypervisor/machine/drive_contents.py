"""Opening what a machine has in its drives, and putting the image that it boots among it."""

from __future__ import annotations

from hypervisor.backends import disk_image
from hypervisor.backends.disk_geometry import FLOPPY_LIMIT
from hypervisor.backends.image_source import Source
from hypervisor.backends.overlay import Overlay
from hypervisor.errors import ConfigError
from hypervisor.vm.config import MAX_DISKS, Disk, MachineConfig
from hypervisor.vm.media import DEFAULT_ORDER, Media

KINDS = ("floppy", "disk")
"""What a boot-sector image can be."""


def gather(config: MachineConfig) -> Media:
    """Open the images that are in the drives. Raises `ImageError` and `ConfigError`."""
    media = Media(order=DEFAULT_ORDER if config.boot_order is None else config.boot_order)
    try:
        if config.floppy is not None:
            floppy = config.floppy if isinstance(config.floppy, Disk) else Disk(config.floppy)
            media.floppies.append(disk_image.floppy(disk_image.open_writable(floppy.image, "floppy", floppy.mode)))
        for one in config.disks:
            given = one if isinstance(one, Disk) else Disk(one)
            medium = disk_image.disk(disk_image.open_writable(given.image, "disk", given.mode))
            medium.limits = given.limits
            media.disks.append(medium)
        if config.cdrom is not None:
            media.cd = disk_image.cdrom(config.cdrom)
        _check_count(media)
    except BaseException:
        media.close()
        raise
    return media


def insert(media: Media, source: Source, kind: str, choice: str | None, *, ordered: bool) -> None:
    """Put the image that is booted into its drive, which comes first in the boot order unless the user ``ordered``.

    ``kind`` is ``"cdrom"`` or ``"bootsector"``; the latter is a floppy or a disk by its size or by the user's
    ``choice``. A floppy is the first hard disk, too, if there is no other: the same bytes for a guest with an ATA
    driver.
    """
    if choice is not None and choice not in KINDS:
        raise ConfigError(f"media={choice!r}: use one of {', '.join(KINDS)}.")
    if kind == "cdrom" and choice is None:
        if media.cd is not None:
            raise ConfigError(f"{source.name} is a CD, and there is another one (--cdrom); leave one of them out.")
        media.cd, letter = disk_image.cdrom_of(source), "d"
    elif choice == "floppy" or (choice is None and source.size <= FLOPPY_LIMIT):
        if media.floppies:
            raise ConfigError(f"{source.name} is a floppy, and there is another one (--floppy); leave one of them out.")
        overlay = Overlay(source)
        media.floppies.append(disk_image.floppy(overlay))
        letter = "a"
        if not media.disks:
            media.disks.append(disk_image.disk(overlay))
    else:
        media.disks.insert(0, disk_image.disk(Overlay(source)))
        letter = "c"
    _check_count(media)
    if not ordered:
        media.order = letter + media.order.replace(letter, "")


def _check_count(media: Media) -> None:
    drives = len(media.disks) + (media.cd is not None)
    if drives > MAX_DISKS:
        raise ConfigError(f"{drives} disks and CDs: the IDE controller has places for {MAX_DISKS}; leave some out.")
