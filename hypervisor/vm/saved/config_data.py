"""A machine's configuration as plain data for a file.

Images are files by reference, bytes in a stream of the file, or things that come with the package and have a name.
Plugins and boards are code: a file says what they are called, and who opens it gives them (`saved_config`).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

from hypervisor import guests
from hypervisor.backends.image_source import ImageLike
from hypervisor.errors import ConfigError, ImageError
from hypervisor.traps.plugins.plugin_set import parse
from hypervisor.units import GIB
from hypervisor.vm.config import Disk, MachineConfig
from hypervisor.vm.saved.chunk_codec import digest
from hypervisor.vm.saved.file_reference import FileReference, refer

IMAGES = ("image", "initrd", "cdrom", "floppy", "firmware")
"""Fields that are an image."""
MOST_EMBEDDED = GIB
"""Bytes of an image that is in a file."""
NAMES = (*guests.names(), "seabios")
"""Images that every installation has."""


def plain_config(config: MachineConfig, put: Callable[[str, bytes], str], *, embed: bool) -> dict[str, Any]:
    """A configuration as plain data: what differs from the defaults.

    ``put`` stores the bytes of an image, called what the first argument says, and returns the name of their stream.
    With ``embed`` files are stored, too. Raises `ImageError` for a file that cannot be read, `ConfigError` for a
    diskette whose file the guest writes.
    """
    images = _Images(put, embed)
    values: dict[str, Any] = {}
    for each in fields(config):
        value = getattr(config, each.name)
        if value != each.default:
            values[each.name] = _plain(each.name, value, images)
    return values


class _Images:
    """Turns images into plain data."""

    def __init__(self, put: Callable[[str, bytes], str], embed: bool) -> None:
        self._put, self._embed = put, embed

    def plain(self, what: str, given: ImageLike) -> dict[str, Any]:
        if isinstance(given, (str, os.PathLike)):
            if given in NAMES and not Path(given).exists():
                return {"name": given}
            reference = refer(given, what)
            if not self._embed:
                return reference.plain()
            given = _whole(reference, what)
        return {"stream": self._put(what, bytes(given)), "size": len(given), "digest": digest(given)}


def _whole(reference: FileReference, what: str) -> bytes:
    if reference.size > MOST_EMBEDDED:
        raise ImageError(f"The {what} {reference.path} is too large to be in a snapshot; save it without its files.")
    return Path(reference.path).read_bytes()


def _plain(field: str, value: Any, images: _Images) -> Any:
    match field:
        case "modules":
            return [_module(images, n, module) for n, module in enumerate(value)]
        case "disks":
            disks = [disk if isinstance(disk, Disk) else Disk(disk) for disk in value]
            return [
                [disk.mode, disk.interface, images.plain(f"disk {n}", disk.image), *filter(None, [disk.others])]
                for n, disk in enumerate(disks)
            ]
        case "floppy" if isinstance(value, Disk):
            if value.mode == "write":
                raise ConfigError("A diskette with mode=write is what its file is, and is not saved: use an overlay.")
            return images.plain(field, value.image)
        case "plugins":
            return [plugin_name(plugin) for plugin in value]
        case "board":
            return value.name
        case _ if field in IMAGES:
            return images.plain(field, value)
        case _:
            return value


def _module(images: _Images, number: int, module: Any) -> list[Any]:
    """A multiboot module, which is given in one of several forms, as its name, its arguments and its image."""
    path, arguments, *content = (module, "") if isinstance(module, (str, os.PathLike)) else module
    return [os.fspath(path), arguments, images.plain(f"module {number}", content[0] if content else path)]


def plugin_name(plugin: object) -> str:
    """What a plugin is called, however it was given."""
    if isinstance(plugin, tuple) and plugin:
        plugin = plugin[0]
    if isinstance(plugin, str):
        return parse(plugin)[0]
    return plugin.__name__ if isinstance(plugin, type) else type(plugin).__name__
