"""``NAME.guest.toml``: a machine's configuration, with a table ``[tests]`` that says what its guest reports."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypervisor.errors import ConfigError
from hypervisor.testing.guest_tests.expectation import Expectation

_FILES = ("image", "initrd", "cdrom", "floppy", "firmware")
"""Options that may be files, which are looked for beside the description."""


@dataclass(frozen=True)
class Description:
    """A guest to be run for its tests. ``name`` tells it from others of the same file, if there are several images."""

    name: str
    values: dict[str, Any]
    """The machine's configuration, as `hypervisor.MachineConfig.from_values` takes it."""
    expected: Expectation


def descriptions(path: Path) -> Iterator[Description]:
    """What a file describes: one guest, or one for each file that its ``image`` matches, as in ``"build/test-*.elf"``.

    Raises `ConfigError`. Whether a single image exists is seen when it is booted.
    """
    where = f"{path.name}: "
    try:
        values = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"{where}it cannot be read: {reason}.") from error
    tests = values.pop("tests", {})
    if not isinstance(tests, dict):
        raise ConfigError(f"{where}tests is to be a table: [tests].")
    try:
        expected = Expectation.of(tests)
    except ConfigError as error:
        raise ConfigError(f"{where}[tests]: {error}") from error
    image = values.get("image")
    if not isinstance(image, str) or not image:
        raise ConfigError(f'{where}say which guest it is: image = "kernel.elf".')
    beside = _beside(values, path.parent)
    if not set(image) & set("*?["):
        yield Description("", beside, expected)
        return
    found = sorted(file for file in path.parent.glob(image) if file.is_file())
    if not found:
        raise ConfigError(f"{where}image = {image!r} matches no file; build the kernels first.")
    for file in found:
        yield Description(file.name, {**beside, "image": str(file)}, expected)


def _beside(values: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The same with whole paths in the place of files that lie in ``folder``."""

    def found(value: Any) -> Any:
        there = isinstance(value, str) and value and (folder / value).exists()
        return str(folder / value) if there else value

    beside = dict(values)
    for name in _FILES:
        if name in beside:
            beside[name] = found(beside[name])
    if isinstance(beside.get("disks"), list):
        beside["disks"] = [
            {**one, "image": found(one.get("image"))} if isinstance(one, dict) else found(one)
            for one in beside["disks"]
        ]
    if isinstance(beside.get("modules"), list):
        beside["modules"] = [[found(one[0]), *one[1:]] if isinstance(one, list) and one else found(one)
                             for one in beside["modules"]]  # fmt: skip
    return beside


__all__ = ["Description", "descriptions"]
