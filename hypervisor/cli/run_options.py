"""What ``hypervisor run`` does with a machine, from text to values. (What the machine is: `machine_options`.)"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from hypervisor.errors import ConfigError
from hypervisor.vm.config import MachineConfig
from hypervisor.vm.saved.magic import is_saved

GDB_PORT = 1234
"""Where ``--gdb`` listens if no port is given, as QEMU's ``-s`` does."""

DISPLAYS = ("auto", "serial", "screen", "none")
"""See `hypervisor.cli.tty.display`."""


@dataclass(frozen=True)
class RunOptions:
    """A checked ``hypervisor run`` command line: what the machine is, and what is done with it. Times are in seconds;
    None means not given.
    """

    machine: MachineConfig
    clock_given: bool = False
    """Whether the machine's clock is the user's choice."""
    timeout: float | None = None
    virtual_timeout: float | None = None
    stats: str | None = None
    halt_ok: bool = False
    success: tuple[int, ...] = ()
    gdb: int | None = None
    wait: bool = False
    type: str | None = None
    script: str | None = None
    logs: tuple[str, ...] = ()
    display: str = "auto"
    until: str | None = None
    save: str | None = None
    embed: bool = False
    moment: str | None = None

    def __post_init__(self) -> None:
        for option, value in (("--timeout", self.timeout), ("--virtual-timeout", self.virtual_timeout)):
            if value is not None and not (math.isfinite(value) and value > 0):
                raise ConfigError(f"{option} is {value:g}; give a number of seconds greater than zero.")
        if self.display not in DISPLAYS:
            raise ConfigError(f"--display is {self.display!r}; it must be one of: {', '.join(DISPLAYS)}.")
        if self.wait and self.gdb is None:
            raise ConfigError("--wait holds the guest for gdb: give --gdb, too.")
        if self.until is not None and self.script is not None:
            raise ConfigError("--until and --script both say what the run waits for: leave one of them out.")
        if self.until == "":
            raise ConfigError("--until is empty; give a text that the guest writes.")
        if self.embed and self.save is None:
            raise ConfigError("--embed is about a file that is saved: give --save, too.")
        for log in self.logs:
            parse_log(log)
        if self.machine.image is None and not self.machine.boots_from_drives:
            raise ConfigError(
                "There is nothing to boot: give an IMAGE, a drive with --disk, --cdrom or --floppy, or --firmware."
            )

    def machine_for(self, *, interactive: bool) -> MachineConfig:
        """The machine to boot; without ``--clock``, a person gets the wall clock, unless the machine is in a file."""
        asked = self.clock_given or not interactive or is_saved(self.machine.image)
        return self.machine if asked else replace(self.machine, clock="wall")


def parse_log(text: str) -> tuple[str, str | None]:
    """``int,exits[:FILE]`` as the categories and the file, None for stderr. Raises `ConfigError`."""
    from hypervisor.vm.watching.log import CATEGORIES, categories

    what, colon, file = text.partition(":")
    try:
        categories([what])
    except ConfigError:
        known = ", ".join(CATEGORIES)
        raise ConfigError(f"--log is {text!r}; give some of {known}, joined by commas, and :FILE if wanted.") from None
    if colon and not file:
        raise ConfigError(f"--log is {text!r}; after the colon comes the file that the log goes to.")
    return what, file or None


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
