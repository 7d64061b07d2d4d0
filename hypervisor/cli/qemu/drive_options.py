"""What ``-drive`` and the options that stand for one mean."""

from __future__ import annotations

from collections.abc import Callable

from hypervisor.cli.qemu.command import Command, Drive
from hypervisor.cli.qemu.parsing import number, on, pairs
from hypervisor.errors import ConfigError

_IGNORED = frozenset((
    "cache", "aio", "discard", "detect-zeroes", "werror", "rerror", "serial", "copy-on-read", "node-name",
    "cache.direct", "cache.no-flush", "cache.writeback", "auto-read-only", "locking", "file.locking", "l2-cache-size",
))  # fmt: skip
"""Keys about how QEMU reads and writes the host's file, or what only names the drive."""
_ELSEWHERE = {
    "virtio": "there are no virtio disks on this board; use if=ide, which PCs have",
    "scsi": "there is no SCSI on this board; use if=ide",
    "sd": "there is no SD card reader on this board; use if=ide",
    "mtd": "there is no such memory on this board; use if=pflash for firmware",
    "xen": "this is no Xen; use if=ide",
}
_KEYS = frozenset(("file", "format", "driver", "if", "index", "bus", "unit", "media", "snapshot", "readonly", "id"))
IDE_PLACES = 4
_NOT_FILES = ("fat:", "nbd:", "nbd+", "http:", "https:", "ftp:", "ssh:", "json:", "iscsi:", "rbd:", "blkdebug:")


def drive(command: Command, text: str) -> None:
    """``-drive file=FILE,format=raw,if=ide|floppy|pflash|none,index=N,media=disk|cdrom,...``."""
    keys = pairs(text)
    for key in keys:
        if key not in _KEYS | _IGNORED and not key.startswith(("throttling", "bps", "iops")):
            raise ConfigError(f"-drive: there is no {key}= here; there are {', '.join(sorted(_KEYS))}.")
    if "file" not in keys:
        if keys.get("media") == "cdrom":
            command.cd_drive = True
            return
        raise ConfigError("-drive: file= is missing; give the image.")
    check_format(keys.get("format", keys.get("driver", "raw")), "-drive")
    interface = keys.get("if", "ide")
    if interface not in ("ide", "floppy", "pflash", "none"):
        why = _ELSEWHERE.get(interface, "there is no such interface; use if=ide, floppy or pflash")
        raise ConfigError(f"-drive: if={interface}: {why}.")
    index = number(keys["index"]) if "index" in keys else None
    if index is None and ("bus" in keys or "unit" in keys):
        index = number(keys.get("bus", "0")) * 2 + number(keys.get("unit", "0"))
    add(
        command,
        Drive(
            file=keys["file"],
            interface=interface,
            index=index,
            cdrom=keys.get("media") == "cdrom",
            snapshot=on(keys.get("snapshot", "off")),
            readonly=on(keys.get("readonly", "off")),
            id=keys.get("id", ""),
        ),
    )


def check_format(name: str, option: str) -> None:
    """Raise `ConfigError` for an image format other than raw."""
    if name != "raw":
        raise ConfigError(
            f"{option}: format={name}: images are raw here; `qemu-img convert -O raw` makes one of yours, "
            "and format=raw names it."
        )


def add(command: Command, one: Drive) -> None:
    """Another drive; who has its place already has it no longer. Raises `ConfigError`."""
    if one.file.startswith(_NOT_FILES):
        raise ConfigError(
            f"{one.file}: images are files here; make one (mformat and mcopy of mtools write a FAT without root)."
        )
    if one.interface != "none" and one.index is not None:
        for other in command.drives:
            if (other.interface, other.index) == (one.interface, one.index):
                raise ConfigError(f"{one.file}: {other.file} is at index {one.index} already; give another index.")
    command.drives.append(one)


def at(interface: str, index: int | None, *, cdrom: bool = False) -> Callable[[Command, str], None]:
    """The meaning of an option that puts its file into this place."""
    return lambda command, file: add(command, Drive(file, interface, index, cdrom))


def attach(command: Command, id: str, *, interface: str, index: int | None, cdrom: bool, device: str) -> None:
    """A ``-device`` takes the drive that an ``if=none`` made. Raises `ConfigError`."""
    for one in command.drives:
        if one.id == id and one.interface == "none":
            one.interface, one.index, one.cdrom = interface, index, one.cdrom or cdrom
            if interface == "ide":
                command.cd_drive = command.cd_drive or False
            return
    if device == "ide-cd" and not id:
        command.cd_drive = True
        return
    raise ConfigError(f"-device {device}: there is no -drive if=none,id={id} before it; give one.")


def placed(drives: list[Drive], interface: str) -> dict[int, Drive]:
    """The drives of an interface by their places: those with an index, and the others in what is free, in order."""
    mine = [one for one in drives if one.interface == interface]
    places = {one.index: one for one in mine if one.index is not None}
    for one in mine:
        if one.index is None:
            free = next(n for n in range(len(mine) + len(places) + 1) if n not in places)
            places[free] = one
    return dict(sorted(places.items()))


def ide_places(command: Command) -> tuple[dict[int, Drive], dict[int, Drive]]:
    """The hard disks and the CDs by their places on the two IDE channels. Raises `ConfigError`."""
    ide = placed(command.drives, "ide")
    for place, one in ide.items():
        if not 0 <= place < IDE_PLACES:
            raise ConfigError(f"{one.file}: index {place}: the IDE controller has places 0 to {IDE_PLACES - 1}.")
    cds = {place: one for place, one in ide.items() if one.cdrom}
    return {place: one for place, one in ide.items() if not one.cdrom}, cds
