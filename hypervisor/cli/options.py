"""Values of ``hypervisor run``'s options, from text to what `hypervisor.boot` takes."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hypervisor.errors import ConfigError

GDB_PORT = 1234
"""Where ``--gdb`` listens if no port is given, as QEMU's ``-s`` does."""

CLOCKS = ("virtual", "wall")
MODES = (16, 32, 64)
DISPLAYS = ("auto", "serial", "screen", "none")
"""See `hypervisor.cli.display`."""
MAX_CPUS = 8


@dataclass(frozen=True)
class RunOptions:
    """A checked ``hypervisor run`` command line. Times are in seconds; None means not given."""

    image: str | None
    memory: str = "64M"
    cpus: int = 1
    append: str = ""
    initrd: str | None = None
    modules: tuple[tuple[str, str], ...] = ()
    timeout: float | None = None
    virtual_timeout: float | None = None
    clock: str | None = None
    seed: int = 0
    stats: str | None = None
    plugins: tuple[str, ...] = ()
    strict: bool = False
    reboot: bool = False
    halt_ok: bool = False
    success: tuple[int, ...] = ()
    format: str | None = None
    at: int | None = None
    entry: int | None = None
    mode: int | None = None
    cdrom: str | None = None
    floppy: str | None = None
    disks: tuple[str, ...] = ()
    boot: str | None = None
    media: str | None = None
    firmware: str | None = None
    gdb: int | None = None
    wait: bool = False
    type: str | None = None
    script: str | None = None
    logs: tuple[str, ...] = ()
    display: str = "auto"

    def __post_init__(self) -> None:
        for option, value in (("--timeout", self.timeout), ("--virtual-timeout", self.virtual_timeout)):
            if value is not None and not (math.isfinite(value) and value > 0):
                raise ConfigError(f"{option} is {value:g}; give a number of seconds greater than zero.")
        if self.clock is not None and self.clock not in CLOCKS:
            raise ConfigError(f"--clock is {self.clock!r}; it must be one of: {', '.join(CLOCKS)}.")
        if self.display not in DISPLAYS:
            raise ConfigError(f"--display is {self.display!r}; it must be one of: {', '.join(DISPLAYS)}.")
        if not 1 <= self.cpus <= MAX_CPUS:
            raise ConfigError(f"--cpus is {self.cpus}; give 1 to {MAX_CPUS}.")
        if self.wait and self.gdb is None:
            raise ConfigError("--wait holds the guest for gdb: give --gdb, too.")
        for log in self.logs:
            parse_log(log)
        if self.mode is not None and self.mode not in MODES:
            raise ConfigError(f"--mode is {self.mode}; it must be one of: 16, 32, 64.")
        if self.image is None and not (self.cdrom or self.floppy or self.disks or self.firmware):
            raise ConfigError(
                "There is nothing to boot: give an IMAGE, a drive with --disk, --cdrom or --floppy, or --firmware."
            )

    def clock_for(self, *, interactive: bool) -> str:
        """The clock of the VM; without ``--clock``, a person gets the wall clock."""
        return self.clock or ("wall" if interactive else "virtual")

    def boot_arguments(self, *, interactive: bool) -> dict[str, Any]:
        """Keyword arguments for `hypervisor.boot`."""
        return {
            "memory": self.memory,
            "cpus": self.cpus,
            "append": self.append,
            "initrd": self.initrd,
            "modules": self.modules,
            "clock": self.clock_for(interactive=interactive),
            "seed": self.seed,
            "plugins": self.plugins,
            "strict": self.strict,
            "reboot": self.reboot,
            "format": self.format,
            "at": self.at,
            "entry": self.entry,
            "mode": self.mode,
            **self._drives(),
        }

    def _drives(self) -> dict[str, Any]:
        """Arguments about drives and the firmware that boots from them, of those that are given."""
        given = {
            "cdrom": self.cdrom,
            "floppy": self.floppy,
            "disks": _disks(self.disks),
            "boot_order": self.boot,
            "media": self.media,
            "firmware": self.firmware,
        }
        return {name: value for name, value in given.items() if value not in (None, [])}


def parse_log(text: str) -> tuple[str, str | None]:
    """``int,exits[:FILE]`` as the categories and the file, None for stderr. Raises `ConfigError`."""
    from hypervisor.vm.log import CATEGORIES, categories

    what, colon, file = text.partition(":")
    try:
        categories([what])
    except ConfigError:
        known = ", ".join(CATEGORIES)
        raise ConfigError(f"--log is {text!r}; give some of {known}, joined by commas, and :FILE if wanted.") from None
    if colon and not file:
        raise ConfigError(f"--log is {text!r}; after the colon comes the file that the log goes to.")
    return what, file or None


def _disks(texts: tuple[str, ...]) -> list[Any]:
    if not texts:
        return []  # the machine is not imported for nothing
    from hypervisor.machine.media import parse_disk

    return [parse_disk(text) for text in texts]


def with_gdb_port(arguments: Sequence[str]) -> list[str]:
    """A command line on which each ``--gdb`` has its port: options of typer cannot leave their value out."""
    words = list(arguments)
    for n, word in enumerate(arguments):
        if word == "--gdb" and not (n + 1 < len(words) and _means_port(words[n + 1])):
            words[n] = f"--gdb={GDB_PORT}"
        if word == "--":
            break
    return words


def _means_port(word: str) -> bool:
    """Whether a word behind ``--gdb`` is its port, or meant as one: neither an option nor an image's name."""
    return word in ("", ":") or word.lstrip("-:").isdigit()


def only(option: str, values: Sequence[str] | None) -> str | None:
    """The value of an option for which the machine has one place. Raises `ConfigError` if there are more."""
    if values and len(values) > 1:
        raise ConfigError(f"{option} is given {len(values)} times, and there is one such drive; leave the others out.")
    return values[0] if values else None


def parse_number(option: str, text: str | None) -> int | None:
    """An address from ``text``, in decimal or with 0x. Raises `ConfigError` naming ``option``."""
    if text is None:
        return None
    try:
        number = int(text, 0)
    except ValueError:
        number = -1
    if number < 0:
        raise ConfigError(f"{option} is {text!r}; give an address such as 0x100000.")
    return number


def parse_statuses(text: str | None) -> tuple[int, ...]:
    """``33,35`` as debug-exit statuses. Raises `ConfigError` for what no debug exit has."""
    if text is None:
        return ()
    try:
        statuses = tuple(int(word, 0) for word in text.split(","))
    except ValueError:
        statuses = (0,)
    if not all(status > 0 and status & 1 for status in statuses):
        raise ConfigError(
            f"--success is {text!r}; give debug-exit statuses, (value << 1) | 1 and so odd, joined by commas: 33,35."
        )
    return statuses


def parse_module(text: str) -> tuple[str, str]:
    """``FILE[=ARGS]`` as the file and its argument text. A file whose name has an equals sign is found, too."""
    if os.path.exists(text):
        return text, ""
    path, _, arguments = text.partition("=")
    if not path:
        raise ConfigError(f"--module is {text!r}; give FILE or FILE=ARGUMENTS.")
    return path, arguments
