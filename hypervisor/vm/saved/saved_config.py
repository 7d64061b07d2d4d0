"""The configuration of a machine in a file, and what its user gives again when it is opened.

A file may come from anybody. So it names files, which are opened if they are just those that it describes; it is never
asked which code runs, and a disk that the guest writes is one that its user names.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from hypervisor.backends.image_source import ImageLike
from hypervisor.bus import DiskLimits
from hypervisor.errors import ConfigError, ImageError, PluginError
from hypervisor.vm.config import LIMITS, Disk, MachineConfig, check_kinds
from hypervisor.vm.saved.chunk_codec import digest
from hypervisor.vm.saved.config_data import IMAGES, MOST_EMBEDDED, NAMES, plugin_name
from hypervisor.vm.saved.file_reference import FileReference

_APART = (*IMAGES, "modules", "disks", "plugins", "board")
"""Fields that are images or code."""
_FREE = ("name", "reboot")
"""Fields that the machine's state does not depend on."""
GIVEN = (*(name for name in _APART if name != "image"), *_FREE)
"""What may be given again. In the place of the image stands the file."""


@dataclass(frozen=True)
class SavedImage:
    """An image of a saved machine: a file by reference, one in a stream of ``size`` bytes, or one with a name."""

    what: str
    reference: FileReference | None = None
    stream: str = ""
    size: int = 0
    digest: bytes = b""
    name: str = ""

    @classmethod
    def of_plain(cls, what: str, tree: Any) -> SavedImage:
        """The image that the data mean. Raises ValueError, with the end of a sentence, if they mean none."""
        names = set(tree) if isinstance(tree, dict) else set()
        if names == {"name"} and tree["name"] in NAMES:
            return cls(what, name=tree["name"])
        if names == {"stream", "size", "digest"}:
            kinds = type(tree["stream"]), type(tree["size"]), type(tree["digest"])
            if kinds == (str, int, bytes) and 0 <= tree["size"] <= MOST_EMBEDDED:
                return cls(what, None, **tree)
        return cls(what, FileReference.of_plain(tree))

    def __str__(self) -> str:
        if self.reference is not None:
            return f"{self.reference.absolute} ({self.reference.size} bytes)"
        return self.name or f"{self.size} bytes, in the file"


@dataclass(frozen=True)
class SavedConfig:
    """What a file says of a configuration. ``values`` are the fields that are plain data, ``modules`` names and
    arguments, ``disks`` modes and interfaces, ``limits`` what these may do; their ``images`` are called ``module 0``
    and ``disk 0``, those of other fields as these.
    """

    values: dict[str, Any]
    images: dict[str, SavedImage]
    modules: list[tuple[str, str]]
    disks: list[tuple[str, str]]
    limits: list[dict[str, Any]]
    plugins: list[str]
    board: str

    @classmethod
    def of_plain(cls, tree: Any) -> SavedConfig:
        """The configuration that `config_data.plain_config` has written. Raises ValueError, with the end of a sentence,
        and `ConfigError` for values that no machine can have.
        """
        if not isinstance(tree, dict) or set(tree) - {each.name for each in fields(MachineConfig)}:
            raise ValueError("it has no configuration of a machine")
        images = {name: SavedImage.of_plain(name, tree[name]) for name in IMAGES if name in tree}
        rows: dict[str, list[tuple[str, str]]] = {}
        limits: list[dict[str, Any]] = []
        for field in ("modules", "disks"):
            rows[field] = []
            for n, row in enumerate(_listed(tree, field)):
                if not isinstance(row, list) or [type(value) for value in row[:2]] != [str, str] or len(row) < 3:
                    raise ValueError(f"it does not say what its {field} are")
                what = f"{field[:-1]} {n}"
                rows[field].append((row[0], row[1]))
                if field == "disks":
                    limits.append(_limits(row[3:]))
                elif row[3:]:
                    raise ValueError(f"it does not say what its {field} are")
                images[what] = SavedImage.of_plain(what, row[2])
        plugins, board = _listed(tree, "plugins"), tree.get("board", "")
        if not all(type(name) is str for name in (*plugins, board)):
            raise ValueError("it does not say what its plugins are called")
        values = {name: value for name, value in tree.items() if name not in _APART}
        check_kinds(values, "its configuration: ")
        MachineConfig(**values)
        return cls(values, images, rows["modules"], rows["disks"], limits, plugins, board)


def _limits(rest: list[Any]) -> dict[str, Any]:
    """What a disk may do, of what follows in its row."""
    if not rest:
        return {}
    if len(rest) != 1 or not isinstance(rest[0], dict) or set(rest[0]) - set(LIMITS):
        raise ValueError("it does not say what its disks may do")
    DiskLimits(**rest[0])
    return rest[0]


def _listed(tree: dict[str, Any], field: str) -> list[Any]:
    value = tree.get(field, [])
    if not isinstance(value, list):
        raise ValueError(f"it does not say what its {field} are")
    return value


class Opening:
    """Makes the configuration of the machine in a file, which is called ``name``, out of what the file says and what is
    ``given`` again. ``content`` reads an image that is in the file.
    """

    def __init__(self, name: str, given: Mapping[str, Any], content: Callable[[SavedImage], bytes]) -> None:
        for field in given:
            if field not in GIVEN:
                raise ConfigError(
                    f"{field}=: a machine that is opened from a file has what it was saved with. What may be given "
                    f"again are {', '.join(GIVEN)}."
                )
        self._name, self._given, self._content = name, given, content

    def config(self, saved: SavedConfig) -> MachineConfig:
        """The configuration. Raises `ConfigError`, `ImageError` and `PluginError`."""
        values = dict(saved.values)
        for field in IMAGES:
            if field in saved.images:
                values[field] = self._image(saved.images[field], self._given.get(field), field)
            elif self._given.get(field) is not None:
                raise ConfigError(f"{field}=: the machine in {self._name} was saved without one; leave it out.")
        values["modules"] = self._modules(saved)
        values["disks"] = self._disks(saved)
        values["plugins"] = self._plugins(saved)
        board = self._given.get("board")
        if (board is not None) != bool(saved.board):
            have = (
                f"has the board {saved.board}, which is code: give it again" if saved.board else "has the usual board"
            )
            raise ConfigError(f"board=: the machine in {self._name} {have}.")
        values["board"] = board
        values |= {field: self._given[field] for field in _FREE if field in self._given}
        return MachineConfig(**values)

    def _again(self, field: str, count: int) -> list[Any]:
        """The elements of a field that are given again, None for each if there are none."""
        given = self._given.get(field, ())
        if not given:
            return [None] * count
        if len(given) != count:
            raise ConfigError(
                f"{field}=: the machine in {self._name} was saved with {count}, and {len(given)} are given."
            )
        return list(given)

    def _modules(self, saved: SavedConfig) -> tuple[Any, ...]:
        made: list[Any] = []
        for n, ((name, arguments), other) in enumerate(
            zip(saved.modules, self._again("modules", len(saved.modules)), strict=True)
        ):
            path = other[0] if isinstance(other, tuple) else other
            image = self._image(saved.images[f"module {n}"], path, "modules")
            made.append((name, arguments, image) if isinstance(image, bytes) else (image, arguments))
        return tuple(made)

    def _disks(self, saved: SavedConfig) -> tuple[Disk, ...]:
        made = []
        for n, ((mode, interface), other) in enumerate(
            zip(saved.disks, self._again("disks", len(saved.disks)), strict=True)
        ):
            disk = other if isinstance(other, Disk) else Disk(other, mode, interface) if other is not None else None
            if disk is not None and (disk.mode, disk.interface) != (mode, interface):
                raise ConfigError(f"disks=: disk {n} of the machine in {self._name} was saved with mode={mode}.")
            if disk is None and mode != "overlay":
                raise ConfigError(
                    f"disk {n} of the machine in {self._name}, {saved.images[f'disk {n}']}, is one that the guest "
                    f"writes, so it is not opened unasked: give it again, with disks= and mode={mode}."
                )
            made.append(
                Disk(
                    self._image(saved.images[f"disk {n}"], None if disk is None else disk.image, "disks"),
                    mode,
                    interface,
                    **saved.limits[n],
                )
            )
        return tuple(made)

    def _plugins(self, saved: SavedConfig) -> tuple[object, ...]:
        given = tuple(self._given.get("plugins", ()))
        names = [plugin_name(plugin) for plugin in given]
        if names != saved.plugins:
            had = f"had the plugins {', '.join(saved.plugins)}" if saved.plugins else "had no plugins"
            has = f"{', '.join(names)} are given" if names else "none is given"
            raise PluginError(
                f"The machine in {self._name} {had}, and {has}. Plugins are code, which is not in a file: give the "
                "same ones again, in this order."
            )
        return given

    def _image(self, saved: SavedImage, other: ImageLike | None, option: str) -> ImageLike:
        if saved.name:
            return self._with_name(saved, other)
        wanted = saved.reference or saved
        if isinstance(other, bytes):
            same, where = (len(other), digest(other)) == (wanted.size, wanted.digest), f"the {saved.what}"
        elif saved.reference is None:
            return self._content(saved)
        else:
            return self._file(saved.what, saved.reference, other, option)
        if not same:
            raise ImageError(f"{self._name}: {where} is not what it was when the machine was saved.")
        return other

    def _with_name(self, saved: SavedImage, other: ImageLike | None) -> ImageLike:
        if other not in (None, saved.name) or Path(saved.name).exists():
            raise ConfigError(
                f"The machine in {self._name} was made from {saved.name}, which comes with every installation. Give no "
                f"other {saved.what}, and see that no file here is called {saved.name}."
            )
        return saved.name

    def _file(self, what: str, wanted: FileReference, other: Any, option: str) -> ImageLike:
        places = [wanted.path, wanted.absolute] if other is None else [other]
        path = next((path for path in places if os.path.exists(path)), places[-1])
        try:
            same = wanted.is_at(path, what)
        except ImageError as error:
            raise ImageError(
                f"The machine in {self._name} was saved with the {what} {wanted.absolute}. {error} If it is somewhere "
                f"else, {self._elsewhere(option)}."
            ) from error
        if not same:
            raise ImageError(
                f"The {what} {path} is not what it was when the machine in {self._name} was saved: the machine cannot "
                f"go on with it. Put it back, or {self._elsewhere(option)}."
            )
        return path

    def _elsewhere(self, option: str) -> str:
        return f"say where with {option}=" if option in GIVEN else "save the machine with embed=True"
