"""``hypervisor init``: what is made, under which name, and what to do next."""

from __future__ import annotations

import keyword
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hypervisor.cli.init.template import rendered, write
from hypervisor.errors import ConfigError
from hypervisor.spelling import hint

NAME = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:[-_][A-Za-z0-9]+)*")
LONGEST = 60


@dataclass(frozen=True)
class Kind:
    """A kind of project. Each of ``tools`` is a command and the Debian package that has it."""

    what: str
    layers: tuple[str, ...]
    tools: tuple[tuple[str, str], ...]
    next: tuple[str, ...]

    @property
    def packages(self) -> str:
        """The Debian packages, as a list for apt-get."""
        return " ".join(dict.fromkeys(package for _, package in self.tools))


_KERNEL = ("pip install -r requirements.txt", "pytest", "make run")
LANGUAGES = {
    "asm": Kind(
        "a kernel in assembly",
        ("kernel", "asm"),
        (("make", "make"), ("nasm", "nasm"), ("ld", "binutils")),
        _KERNEL,
    ),
    "c": Kind("a kernel in C", ("kernel", "c"), (("make", "make"), ("gcc", "gcc"), ("ld", "binutils")), _KERNEL),
}
PLUGIN = Kind("a plugin", ("plugin",), (), ("pip install --editable '.[test]'", "pytest"))


def init(folder: str, lang: str | None, plugin: bool) -> int:
    """Make the project in ``folder``, which is its name, and print what comes next; returns the exit status.

    Raises `ConfigError` when that cannot be done; nothing that is there already is touched.
    """
    path, kind = Path(folder), _kind(lang, plugin)
    name = _name(path)
    texts = rendered(kind.layers, _plugin_words(name) if plugin else _kernel_words(name, kind))
    _make_folder(path)
    write(path, texts)
    print("\n  ".join([f"{folder}: {kind.what}, its tests and its CI. Next:", f"cd {shlex.quote(folder)}", *kind.next]))
    if missing := missing_packages(kind.tools):
        print(f"To build it, as root: apt-get install {' '.join(missing)}")
    return 0


def missing_packages(tools: Sequence[tuple[str, str]], which: Callable[[str], str | None] = shutil.which) -> list[str]:
    """The Debian packages of the commands that are not on PATH."""
    return [package for command, package in tools if which(command) is None]


def _kind(lang: str | None, plugin: bool) -> Kind:
    if plugin:
        if lang is not None:
            raise ConfigError("--lang is for kernels; a plugin is written in Python. Give one of --lang and --plugin.")
        return PLUGIN
    if lang is not None and lang not in LANGUAGES:
        raise ConfigError(f"There is no template in {lang}; --lang takes asm or c.{hint(lang, LANGUAGES)}")
    return LANGUAGES[lang or "asm"]


def _name(path: Path) -> str:
    name = path.name
    if len(name) > LONGEST or not NAME.fullmatch(name):
        raise ConfigError(
            f"The folder's name becomes the project's, and {str(path)!r} cannot: give one of letters, digits, - and _ "
            f"that begins with a letter and has at most {LONGEST} characters, as my-kernel."
        )
    return name


def _kernel_words(name: str, kind: Kind) -> dict[str, str]:
    return {"my-kernel": name, "PACKAGES": kind.packages}


def _plugin_words(name: str) -> dict[str, str]:
    module = name.replace("-", "_")
    if keyword.iskeyword(module) or module in {*sys.stdlib_module_names, "hypervisor", "tests", "pytest"}:
        raise ConfigError(f"A module cannot be called {module}, as that is taken: choose another name than {name}.")
    return {
        "my_plugin": module,
        "my-plugin": name,
        "MyPlugin": "".join(part[:1].upper() + part[1:] for part in module.split("_")),
    }


def _make_folder(path: Path) -> None:
    try:
        if path.is_dir() and not any(path.iterdir()):
            return
        path.mkdir()
    except FileExistsError:
        raise ConfigError(f"{path} exists already, and init overwrites nothing: choose another name.") from None
    except FileNotFoundError:
        raise ConfigError(f"{path.parent} is not there: make that folder first.") from None
    except NotADirectoryError:
        raise ConfigError(f"{path.parent} is not a folder: choose another place.") from None
