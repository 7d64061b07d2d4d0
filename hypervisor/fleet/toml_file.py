"""A file in TOML whose mistakes are told with their lines.

The standard library reads TOML and does not say where things stood. But it can be asked: a key stands behind the lines
that can be read without it.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hypervisor.errors import ConfigError
from hypervisor.spelling import hint

LONGEST = 1 << 20
"""Bytes of a file, which may be a device without an end."""
Key = str | int
"""The name of a value in a table, or its number in a list."""


class TomlFile:
    """What is in a file, and sentences about it. Raises `ConfigError` for one that cannot be read."""

    def __init__(self, source: str | os.PathLike[str]) -> None:
        """``source`` is a path, or a text that has line ends."""
        if isinstance(source, str) and "\n" in source:
            self.name, self._text = "the text", source
        else:
            self.name, self._text = os.fspath(source), _read(Path(source))
        try:
            self.values = tomllib.loads(self._text)
        except tomllib.TOMLDecodeError as error:
            what, _, place = str(error).partition(" (at ")
            line = re.match(r"line (\d+)", place)
            last = self._text.count("\n") + 1
            raise ConfigError(f"{self.name}:{line[1] if line else last}: this is no TOML: {what}.") from error

    def error(self, path: Sequence[Key], text: str) -> ConfigError:
        """What is wrong with the value at ``path``, to be raised."""
        return ConfigError(f"{self.name}:{self.line_of(path)}: {text}")

    def line_of(self, path: Sequence[Key]) -> int:
        """The line where the value at ``path`` begins, which is there."""
        lines = [f"{line}\n" for line in self._text.split("\n")]
        low, high = 0, len(lines)  # it is not in the lines before `low`, and in those before `high`
        while high - low > 1:
            middle = end = (low + high) // 2
            while end > low and not _readable("".join(lines[:end])):
                end -= 1
            if end > low and _has(tomllib.loads("".join(lines[:end])), path):
                high = end
            elif end > low:
                low = end
            else:  # from `low` to the middle all is one value
                following = middle + 1
                while following < high and not _readable("".join(lines[:following])):
                    following += 1
                if following >= high:
                    break
                if _has(tomllib.loads("".join(lines[:following])), path):
                    high = following
                else:
                    low = following
        return low + 1

    def check_names(self, path: Sequence[Key], values: Mapping[str, Any], known: Iterable[str], what: str) -> None:
        """Raise `ConfigError` for the first name of a table that is not ``known`` to ``what``, with what was meant."""
        names = list(known)
        for name in values:
            if name not in names:
                meant = hint(name, names) or f" It has {', '.join(names)}."
                raise self.error([*path, name], f"{what} has no {name!r}.{meant}")

    def table(self, path: Sequence[Key], value: Any, what: str) -> dict[str, Any]:
        """A value that must be a table. Raises `ConfigError`."""
        if not isinstance(value, dict):
            raise self.error(path, f"{what} is a table, and this is {value!r}.")
        return value


def _read(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            data = file.read(LONGEST + 1)
        if len(data) > LONGEST:
            raise ConfigError(f"{path} is larger than {LONGEST >> 20} MiB; no description is.")
        return data.decode()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ConfigError(f"{path}:{line}: this is no text in UTF-8: {error.reason}.") from error


def _readable(text: str) -> bool:
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return False
    return True


def _has(values: Any, path: Sequence[Key]) -> bool:
    for key in path:
        if isinstance(values, dict) and key in values:
            values = values[key]
        elif isinstance(values, list) and isinstance(key, int) and key < len(values):
            values = values[key]
        else:
            return False
    return True


__all__ = ["TomlFile"]
