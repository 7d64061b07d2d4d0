"""What a machine is made from: one frozen record, the same for `hypervisor.boot`, ``Host.create_vm``, the command line
and a file in TOML.

Each field says itself how it is given on a command line (`Option`), so there is one list of options.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field, dataclass, field, fields, replace
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from hypervisor.backends import disk_image
from hypervisor.backends.image_source import ImageLike
from hypervisor.bus import DiskLimits
from hypervisor.errors import ConfigError
from hypervisor.units import GIB, page_up, parse_size

CLOCKS = ("virtual", "wall")
MODES = (16, 32, 64)
MAX_MEMORY = 64 * GIB
MAX_CPUS = 8
MAX_IDENTITY = 12
"""Characters that are left in a drive's serial number."""
MAX_DISKS = 4
INTERFACES = ("ide",)
LIMITS = tuple(each.name for each in fields(DiskLimits))
DISK_OPTIONS = (
    "FILE[,if=ide][,mode=overlay|write][,bandwidth=SIZE][,iops=N][,delay=S][,read_errors=P][,write_errors=P][,seed=N]"
)
DRIVES = {"a": "floppy", "c": "disk", "d": "CD"}
"""The letters of a boot order, which are QEMU's."""
NOT_LIMITED = (
    "diskettes and CDs have no limits and no faults of their own, which hard disks have; give all drives of a machine "
    "together a limit by its share's drive_bandwidth= and drive_iops=."
)
Module = str | os.PathLike[str] | tuple[str | os.PathLike[str], str] | tuple[str, str, bytes]
"""A multiboot module: its file, with its argument text or without; or its name, argument text and contents."""


@dataclass(frozen=True)
class Disk:
    """A hard disk of a VM: an image, what happens to the guest's writes, and the interface that it hangs on.

    ``mode`` ``"overlay"`` keeps what the guest writes in memory, ``"write"`` changes the file. The rest is what the
    disk may do in a second, and what it does wrong: see `hypervisor.bus.DiskLimits`.
    """

    image: ImageLike
    mode: str = "overlay"
    interface: str = "ide"
    bandwidth: str | int | None = None
    iops: float | None = None
    delay: float = 0.0
    read_errors: float = 0.0
    write_errors: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.mode not in disk_image.MODES:
            raise ConfigError(f"disk mode {self.mode!r}: use one of {', '.join(disk_image.MODES)}.")
        if self.interface not in INTERFACES:
            raise ConfigError(f"disk interface {self.interface!r}: use one of {', '.join(INTERFACES)}.")
        _ = self.limits  # which are checked where they are made

    @property
    def limits(self) -> DiskLimits:
        """What it may do."""
        return DiskLimits(**{name: getattr(self, name) for name in LIMITS})

    @property
    def others(self) -> dict[str, Any]:
        """What was said besides image, mode and interface, by name."""
        usual = DiskLimits()
        return {name: value for name in LIMITS if (value := getattr(self, name)) != getattr(usual, name)}


class Option(NamedTuple):
    """How a field is given on a command line: the option's name, its help, what its value is called, and how its text
    becomes the field's value. ``many`` may be repeated, ``once`` is refused if it is, and ``flag`` has no value.
    """

    name: str
    help: str
    metavar: str | None = None
    parse: Callable[[str], Any] | None = None
    kind: type = str
    many: bool = False
    once: bool = False
    flag: bool = False


def _by(name: str, help: str, metavar: str | None = None, **more: Any) -> dict[str, Option]:
    """The metadata of a field that the option ``name`` gives."""
    return {"option": Option(name, help, metavar, **more)}


def parse_address(text: str) -> int:
    """An address in decimal or with 0x. Raises `ConfigError`."""
    try:
        number = int(text, 0)
    except ValueError:
        number = -1
    if number < 0:
        raise ConfigError(f"{text!r} is no address; give one such as 0x100000.")
    return number


def parse_module(text: str) -> tuple[str, str]:
    """``FILE[=ARGS]`` as the file and its argument text. A file whose name has an equals sign is found, too."""
    if os.path.exists(text):
        return text, ""
    path, _, arguments = text.partition("=")
    if not path:
        raise ConfigError(f"{text!r}: give FILE or FILE=ARGUMENTS.")
    return path, arguments


def parse_removable(text: str) -> str:
    """The file of a diskette or CD. Raises `ConfigError` for one with a hard disk's limits behind it."""
    file, _, option = text.rpartition(",")
    if option.partition("=")[0] in LIMITS and file and not os.path.exists(text):
        raise ConfigError(f"{text!r}: {NOT_LIMITED}")
    return text


def parse_disk(text: str) -> Disk:
    """``FILE[,if=ide][,mode=overlay|write]`` and what it may do, as on the command line: ``,bandwidth=10M,iops=100``.
    A file's name may have commas. Raises `ConfigError`.
    """
    file, values = text, dict[str, str]()
    while not os.path.exists(file):
        before, comma, option = file.rpartition(",")
        if not comma:
            break
        key, equals, value = option.partition("=")
        if key not in ("if", "mode", *LIMITS) or not equals:
            raise ConfigError(f"{text!r}: {option!r} is no option; give {DISK_OPTIONS}.")
        if key in values:
            raise ConfigError(f"{text!r}: {key}= is given twice; leave one of them out.")
        file, values[key] = before, value
    if not file:
        raise ConfigError(f"{text!r}: give a file.")
    limits = {key: _limit(key, value) for key, value in values.items() if key in LIMITS}
    return Disk(file, values.get("mode", "overlay"), values.get("if", "ide"), **limits)


def _limit(key: str, value: str) -> Any:
    """The value of one of a disk's limits."""
    if key == "bandwidth":
        return value
    try:
        return int(value) if key == "seed" else float(value)
    except ValueError:
        raise ConfigError(f"{key}={value}: give a number.") from None


class NamedBoard(Protocol):
    """What is said here of a board: `hypervisor.Board` is one, whose parts know all of a VM."""

    @property
    def name(self) -> str:
        """What it is called."""
        ...


@dataclass(frozen=True, kw_only=True)
class MachineConfig:
    """Everything that decides what a machine is.

    ``image`` is a path, the name of a shipped guest (see ``hypervisor guests``) or the image's bytes; ``memory`` a
    size such as ``"64M"``; ``cpus`` the number of virtual CPUs, 1 to 8; ``append`` the kernel command line; ``modules``
    pairs of (path, arguments) for multiboot; ``clock`` ``"virtual"`` (reproducible, default) or ``"wall"``; ``seed``
    that of the guest's random numbers; ``strict`` stops at the first access that nothing answers; ``format``, ``at``,
    ``entry``, ``mode`` override the image's detection; ``reboot`` goes on after a reset; ``firmware`` is a ROM to start
    with (a file, its bytes, or ``"seabios"``), which boots from the machine's drives; ``name`` is what messages call
    it; ``identity`` tells a clone from others by its drives' serial numbers; without ``sharing`` its memory is never
    merged with that of other VMs of its host (`hypervisor.run.frame_sharing`).

    ``cdrom``, ``floppy`` and ``disks`` are images (paths, bytes, or but for the CD `hypervisor.Disk`) in its drives. An
    ``image`` that is a CD or a boot sector is put into a drive, too: a boot sector into the floppy drive if it is
    at most 2.88 MB, else into the first hard disk, or as ``media`` says (``"floppy"`` or ``"disk"``). Without an
    ``image`` the first of the drives in ``boot_order`` boots that can: letters of a (floppy), c (disk), d (CD).

    Raises `ConfigError` for a value that no machine can have. Whether files are there is seen when it is built.
    """

    image: ImageLike | None = field(
        default=None, metadata=_by("IMAGE", "A file, or the name of a shipped guest.", "[IMAGE]")
    )
    memory: str | int = field(default="64M", metadata=_by("--memory", "Guest memory, for example 64M.", "SIZE"))
    cpus: int = field(default=1, metadata=_by("--cpus", "Virtual CPUs, 1 to 8.", "N", kind=int))
    append: str = field(default="", metadata=_by("--append", "Kernel command line.", "TEXT"))
    initrd: ImageLike | None = field(
        default=None, metadata=_by("--initrd", "Initial ramdisk of a Linux kernel.", "FILE")
    )
    modules: tuple[Module, ...] = field(
        default=(),
        metadata=_by("--module", "Multiboot module; may be repeated.", "FILE[=ARGS]", parse=parse_module, many=True),
    )
    clock: str = field(
        default="virtual", metadata=_by("--clock", "Default: wall on a terminal, virtual otherwise.", "virtual|wall")
    )
    seed: int = field(default=0, metadata=_by("--seed", "Seed of everything random in the guest.", "N", kind=int))
    plugins: tuple[object, ...] = field(
        default=(),
        metadata=_by("--plugin", "Attach a plugin (or MODULE:NAME); may be repeated.", "NAME[,key=value]", many=True),
    )
    strict: bool = field(
        default=False, metadata=_by("--strict", "Stop at the first access that nothing answers.", flag=True)
    )
    reboot: bool = field(
        default=False, metadata=_by("--reboot", "Start again when the guest asks for a reset.", flag=True)
    )
    format: str | None = field(
        default=None, metadata=_by("--format", "Load as this format instead of looking at the file.", "NAME")
    )
    at: int | None = field(default=None, metadata=_by("--at", "Where a flat image goes.", "ADDR", parse=parse_address))
    entry: int | None = field(
        default=None, metadata=_by("--entry", "Where a flat image starts.", "ADDR", parse=parse_address)
    )
    mode: int | None = field(
        default=None,
        metadata=_by("--mode", "CPU mode of a flat image, or entry of a Linux kernel.", "16|32|64", kind=int),
    )
    cdrom: ImageLike | None = field(
        default=None, metadata=_by("--cdrom", "The CD in the drive.", "FILE", parse=parse_removable, once=True)
    )

    floppy: Disk | ImageLike | None = field(
        default=None, metadata=_by("--floppy", "The diskette in the drive.", "FILE", parse=parse_removable, once=True)
    )
    disks: tuple[Disk | ImageLike, ...] = field(
        default=(),
        metadata=_by(
            "--disk",
            "A hard disk; may be repeated.",
            "FILE[,mode=write][,bandwidth=10M]...",
            parse=parse_disk,
            many=True,
        ),
    )
    boot_order: str | None = field(
        default=None, metadata=_by("--boot", "Drives to boot from: a floppy, c disk, d CD.", "ORDER")
    )
    media: str | None = field(default=None, metadata=_by("--media", "The drive of a boot-sector image.", "floppy|disk"))
    firmware: ImageLike | None = field(
        default=None, metadata=_by("--firmware", "Start this ROM instead of the built-in BIOS.", "FILE|seabios")
    )
    name: str | None = None
    identity: str = ""
    sharing: bool = True
    board: NamedBoard | None = None

    def __post_init__(self) -> None:
        parse_size(self.memory)
        if self.size > MAX_MEMORY:
            raise ConfigError(f"{self.memory}: a VM has at most {MAX_MEMORY // GIB} GiB of memory.")
        if not isinstance(self.cpus, int) or isinstance(self.cpus, bool) or not 1 <= self.cpus <= MAX_CPUS:
            raise ConfigError(f"cpus={self.cpus!r}: a VM has 1 to {MAX_CPUS} virtual CPUs.")
        if self.clock not in CLOCKS:
            raise ConfigError(f"clock={self.clock!r}: choose 'virtual' or 'wall'.")
        if self.mode is not None and self.mode not in MODES:
            raise ConfigError(f"mode={self.mode!r}: choose one of {', '.join(map(str, MODES))}.")
        identity: object = self.identity
        if not isinstance(identity, str) or not (f"0{identity}".isalnum() and identity.isascii()):
            raise ConfigError(f"identity={identity!r}: give letters and digits.")
        if len(identity) > MAX_IDENTITY:
            raise ConfigError(f"identity={identity!r}: give at most {MAX_IDENTITY} letters and digits.")
        if not isinstance(self.seed, int):
            raise ConfigError(f"seed={self.seed!r}: a whole number is needed.")
        name: object = self.name
        if name is not None and not isinstance(name, str):
            raise ConfigError(f"name={name!r}: a name is text.")
        if self.boot_order is not None:
            check_order(self.boot_order)
        for what, image in (("floppy", self.floppy), ("cdrom", self.cdrom)):
            if isinstance(image, Disk) and image.others:
                raise ConfigError(f"{what}: {', '.join(image.others)}: {NOT_LIMITED}")
        if isinstance(self.disks, (str, bytes, os.PathLike, Disk)):
            raise ConfigError(f"disks={self.disks!r}: give a list of images.")
        for each in ("modules", "plugins", "disks"):
            given: Any = getattr(self, each)
            object.__setattr__(self, each, (given,) if isinstance(given, str) else tuple(given))

    @cached_property
    def size(self) -> int:
        """``memory`` in bytes, in whole pages."""
        return page_up(parse_size(self.memory))

    @property
    def boots_from_drives(self) -> bool:
        """Whether there is something besides an image that could boot."""
        return bool(self.cdrom is not None or self.floppy is not None or self.disks or self.firmware is not None)

    @classmethod
    def of(cls, image: ImageLike | MachineConfig | None, options: Mapping[str, Any]) -> MachineConfig:
        """The configuration that ``image`` and keyword arguments mean; of a configuration, with those changed.

        Raises `ConfigError` for an unknown name, with the one that was meant.
        """
        for name in options:
            if name not in _NAMES:
                raise ConfigError(f"{name}=: a machine has no such option.{_hint(name)}")
        if isinstance(image, MachineConfig):
            return replace(image, **options) if options else image
        return cls(**options) if image is None else cls(image=image, **options)

    # --- TOML ---------------------------------------------------------------------------------------------------------

    @classmethod
    def from_toml(cls, source: str | os.PathLike[str]) -> MachineConfig:
        """The configuration in a file, or in a text that has line ends. Relative paths in it are relative to where the
        process is. Raises `ConfigError`.
        """
        import tomllib

        text, where = (source, "the text") if isinstance(source, str) and "\n" in source else (None, str(source))
        try:
            values = tomllib.loads(Path(source).read_text() if text is None else text)
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise ConfigError(f"{where} is no configuration of a machine: {reason}.") from error
        return cls.from_values(values, f"{where}: ")

    @classmethod
    def from_values(cls, values: Mapping[str, Any], where: str = "") -> MachineConfig:
        """The configuration in a table of TOML; what is wrong with it begins with ``where``. Raises `ConfigError`."""
        found = dict(values)
        if "disks" in found:
            found["disks"] = tuple(_disk_from(one, where) for one in _list("disks", found["disks"], where))
        if isinstance(found.get("floppy"), dict):
            found["floppy"] = _disk_from(found["floppy"], where)
        for name in ("modules", "plugins"):
            if name in found:
                found[name] = tuple(
                    tuple(one) if isinstance(one, list) else one for one in _list(name, found[name], where)
                )
        check_kinds(found, where)
        return cls.of(None, found)

    def to_toml(self) -> str:
        """The configuration as TOML, for `from_toml`: what differs from the defaults.

        Raises `ConfigError` for what only this process has: images given as bytes, plugins as objects, another board.
        """
        import tomli_w

        values: dict[str, Any] = {}
        for each in fields(self):
            value = getattr(self, each.name)
            if value != each.default:
                values[each.name] = _plain(each.name, value)
        return tomli_w.dumps(values)


DEFAULT = MachineConfig()


def check_order(order: object) -> str:
    """``order`` if it is a boot order; raises `ConfigError`."""
    if not isinstance(order, str) or not order or set(order) - set(DRIVES) or len(set(order)) != len(order):
        letters = ", ".join(f"{letter} ({name})" for letter, name in DRIVES.items())
        raise ConfigError(f"boot order {order!r}: give each letter once, of {letters}; for example 'dc'.")
    return order


def check_kinds(values: Mapping[str, Any], where: str) -> None:
    """Raise `ConfigError`, which begins with ``where``, for values of fields that are not of their kind."""
    for name, value in values.items():
        kinds = _KINDS.get(name)
        if kinds is not None and (not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds)):
            raise ConfigError(f"{where}{name} = {value!r} is no {' or '.join(kind.__name__ for kind in kinds)}.")


def options() -> list[tuple[Field[Any], Option]]:
    """The fields that a command line has, in order."""
    return [(each, each.metadata["option"]) for each in fields(MachineConfig) if "option" in each.metadata]


def _hint(name: str) -> str:
    similar = get_close_matches(name, _NAMES, n=1)
    return f" Did you mean {similar[0]}?" if similar else f" It has {', '.join(_NAMES)}."


def _plain(name: str, value: Any) -> Any:
    """A field's value as TOML has it."""
    if isinstance(value, (str, int)):
        return value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Disk):
        plain = {"image": _plain(name, value.image), "mode": value.mode, "interface": value.interface}
        return plain | value.others
    if isinstance(value, (tuple, list)):
        return [_plain(name, one) for one in value]
    raise ConfigError(f"{name}: {type(value).__name__} cannot be written as TOML; give a file or a name instead.")


def _list(name: str, value: Any, where: str) -> Sequence[Any]:
    if not isinstance(value, list):
        raise ConfigError(f"{where}{name} = {value!r} is no list.")
    return value


def _disk_from(value: Any, where: str) -> Disk:
    if isinstance(value, str):
        return Disk(value)
    known = [each.name for each in fields(Disk)]
    if not isinstance(value, dict) or "image" not in value or set(value) - set(known):
        raise ConfigError(f"{where}{value!r} is no disk; give a file, or a table of {', '.join(known)}.")
    return Disk(**value)


_NAMES = [each.name for each in fields(MachineConfig)]
_KINDS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("image", "append", "initrd", "clock", "format", "cdrom", "boot_order"), (str,)),
    "floppy": (str, Disk),
    **dict.fromkeys(("media", "firmware", "name", "board", "identity"), (str,)),
    **dict.fromkeys(("cpus", "seed", "at", "entry", "mode"), (int,)),
    **dict.fromkeys(("strict", "reboot", "sharing"), (bool,)),
    "memory": (str, int),
}
"""What TOML must give for each field."""

__all__ = [
    "CLOCKS",
    "DEFAULT",
    "DRIVES",
    "MAX_CPUS",
    "Disk",
    "MachineConfig",
    "Option",
    "check_kinds",
    "check_order",
    "options",
]
