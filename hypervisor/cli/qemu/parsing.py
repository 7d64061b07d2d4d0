"""QEMU's rules of writing a command line: one dash or two, lists of ``key=value`` with ``,,`` for a comma, sizes.

argparse and typer do not know them: there an option of several letters has two dashes, an option's value may not begin
with one, and a word that is left over is not a disk. Source: QEMU 7.2, ``qemu-options.hx`` and ``util/qemu-option.c``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from hypervisor.errors import ConfigError

SUFFIXES = {"b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


class Given(NamedTuple):
    """An option without its dashes, and its value; the value alone, with no name, is a disk image."""

    name: str
    value: str | None


def read(words: Sequence[str], with_value: Mapping[str, bool]) -> Iterator[Given]:
    """The options on a command line in their order; ``with_value`` says of each that there is whether it has a value.

    Raises `ConfigError` for one that is not there, or whose value is missing.
    """
    left = iter(words)
    for word in left:
        if not word.startswith("-") or word == "-":
            yield Given("", word)
            continue
        name = word.removeprefix("-").removeprefix("-")
        if name not in with_value:
            raise ConfigError(f"{word}: invalid option{_meant(name, with_value)}; --help lists those that there are.")
        if not with_value[name]:
            yield Given(name, None)
            continue
        value = next(left, None)
        if value is None:
            raise ConfigError(f"{word}: requires an argument.")
        yield Given(name, value)


def _meant(name: str, known: Mapping[str, bool]) -> str:
    from difflib import get_close_matches

    close = get_close_matches(name, known, n=1)
    return f" (is -{close[0]} meant?)" if close else ""


def split(text: str) -> list[str]:
    """The items of a list with commas, of which two are one that belongs to an item."""
    items, at = [""], 0
    while at < len(text):
        if text.startswith(",,", at):
            items[-1] += ","
            at += 2
        elif text[at] == ",":
            items.append("")
            at += 1
        else:
            items[-1] += text[at]
            at += 1
    return items


def pairs(text: str, first: str = "") -> dict[str, str]:
    """``key=value,...`` as a dictionary, where the last one counts. A first item without a key is the value of
    ``first``, if that is given; another is a flag: ``name`` is on, ``noname`` off.
    """
    found: dict[str, str] = {}
    for number, item in enumerate(split(text)):
        key, equals, value = item.partition("=")
        if equals:
            found[key] = value
        elif number == 0 and first:
            found[first] = item
        elif key.startswith("no") and len(key) > 2 and key not in ("node-name",):
            found[key[2:]] = "off"
        elif key:
            found[key] = "on"
    return found


def size(text: str, unit: int) -> int:
    """A size in bytes: a number, perhaps with a fraction, and a letter; ``unit`` is that of a number without one.

    Raises `ConfigError`.
    """
    number, factor = text, unit
    if text and text[-1].lower() in SUFFIXES:
        number, factor = text[:-1], SUFFIXES[text[-1].lower()]
    try:
        whole = int(number, 16) if number[:2].lower() == "0x" else float(number)
        found = int(whole * factor)
    except (ValueError, OverflowError):
        found = -1
    if found < 0:
        raise ConfigError(f"{text!r} is no size; give one such as 512M.")
    return found


def number(text: str) -> int:
    """A number in decimal or with 0x. Raises `ConfigError`."""
    try:
        return int(text, 0)
    except ValueError:
        raise ConfigError(f"{text!r} is no number; give one such as 0xf4.") from None


def on(text: str) -> bool:
    """``on`` or ``off``. Raises `ConfigError`."""
    if text in ("on", "yes", "true", "y"):
        return True
    if text in ("off", "no", "false", "n"):
        return False
    raise ConfigError(f"{text!r} is neither on nor off.")
