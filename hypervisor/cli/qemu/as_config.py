"""A command line as the configuration of a machine of ours."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypervisor.cli.qemu.drive_options import ide_places, placed
from hypervisor.cli.qemu.ends.host_ends import ABSENT, MUX, STDIO, WINDOW, shared
from hypervisor.errors import ConfigError

if TYPE_CHECKING:
    from hypervisor.cli.qemu.command import Command, Drive
    from hypervisor.cli.qemu.ends.host_ends import End
    from hypervisor.loaders import Image
    from hypervisor.vm.config import Disk, MachineConfig

FOLDERS = ("/usr/share/seabios", "/usr/share/ovmf", "/usr/share/OVMF", "/usr/share/qemu")
"""Where QEMU's firmware is on Debian and its relatives."""
ELF32 = 1
"""Class of a 32-bit ELF file."""
KERNELS = ("multiboot1", "multiboot2")


def ends(command: Command) -> tuple[list[End], list[End]]:
    """The ends of the serial ports, and of the monitors, those that nobody asked for included."""
    serials, monitors = list(command.serials), list(command.monitors)
    quiet = bool(monitors or command.qmp or not command.defaults)
    if command.defaults and not serials:
        serials = [WINDOW if not command.nographic else STDIO if quiet else MUX]
    elif command.nographic and not quiet and not any(shared(end) for end in serials) and STDIO not in serials:
        monitors = [STDIO]
    monitors += [end for end in serials if shared(end) and end not in monitors]
    return serials, [end for end in monitors if end != ABSENT]


def configuration(command: Command, serials: list[End]) -> MachineConfig:
    """The machine. Raises `ConfigError`, with QEMU's words where QEMU would say the same."""
    from hypervisor.cli.qemu.qemu_board import board
    from hypervisor.vm.config import MAX_CPUS, MachineConfig

    if not 1 <= command.cpus <= MAX_CPUS:
        raise ConfigError(f"-smp {command.cpus}: a machine has 1 to {MAX_CPUS} processors here.")
    if command.memory < 1 << 20:
        raise ConfigError(f"-m {command.memory}: a machine has at least 1M of memory.")
    values: dict[str, Any] = {
        "memory": command.memory,
        "cpus": command.cpus,
        "clock": "virtual" if command.virtual else "wall",
        "reboot": command.reboot,
        "board": board(command, serials),
        "boot_order": command.boot,
        "firmware": _firmware(command),
    }
    if command.name is not None:
        values["name"] = command.name.partition(",")[0].removeprefix("guest=")
    values |= _media(command)
    if command.kernel is not None:
        values |= _kernel(command, command.kernel)
    elif command.append or command.initrd is not None:
        raise ConfigError(
            "-append only allowed with -kernel option" if command.append else "-initrd only allowed with -kernel option"
        )
    return MachineConfig(**values)


def _kernel(command: Command, file: str) -> dict[str, Any]:
    from hypervisor.machine.images import look_at

    if not os.path.exists(file):
        raise ConfigError(f"could not open kernel file '{file}': No such file or directory")
    subject = look_at(Path(file))
    kind, head = subject.kind(None), subject.head()
    subject.source.close()
    values: dict[str, Any] = {"image": Path(file), "append": command.append, "boot_order": None}
    if kind == "multiboot2" and _has_version_1(head):
        values["format"] = kind = "multiboot1"
    if command.initrd is None:
        return values
    if kind not in KERNELS:
        return values | {"initrd": Path(command.initrd)}
    return values | {"modules": tuple(_module(text) for text in command.initrd.split(","))}


def _has_version_1(head: Image) -> bool:
    """Whether QEMU starts it by Multiboot 1, which is all that it knows: 64-bit ELF files need the header's addresses
    (QEMU 7.2, ``hw/i386/multiboot.c``).
    """
    from hypervisor.loaders.elf_kernel.elf_file import is_elf
    from hypervisor.loaders.multiboot.version1 import HAS_ADDRESSES, find_header

    header = find_header(head)
    return header is not None and (bool(header.flags & HAS_ADDRESSES) or (is_elf(head) and head.data[4] == ELF32))


def _module(text: str) -> tuple[str, str]:
    """A multiboot module: its file, and behind a blank its arguments."""
    file, _, arguments = text.strip().partition(" ")
    return file, arguments


def _media(command: Command) -> dict[str, Any]:
    disks, cds = ide_places(command)
    floppies = placed(command.drives, "floppy")
    if len(cds) > 1:
        raise ConfigError(f"{cds[max(cds)].file}: there is one CD drive; leave one of the CDs out.")
    if len(floppies) > 1 or (floppies and 0 not in floppies):
        raise ConfigError("There is one diskette drive, at index 0; leave the other diskette out.")
    values: dict[str, Any] = {"disks": tuple(_disk(command, one) for one in disks.values())}
    for one in cds.values():
        values["cdrom"] = _path(one.file)
    for one in floppies.values():
        values["floppy"] = _disk(command, one)
    return values


def _disk(command: Command, one: Drive) -> Disk:
    from hypervisor.vm.config import Disk

    overlay = command.snapshot or one.snapshot or one.readonly
    return Disk(_path(one.file), "overlay" if overlay else "write")


def _path(file: str) -> Path:
    """A file that is there. Raises `ConfigError` as QEMU does."""
    if not os.path.exists(file):
        raise ConfigError(f"Could not open '{file}': No such file or directory")
    return Path(file)


def _firmware(command: Command) -> Path | bytes | None:
    """What is at the end of the first 4 GiB: one ROM, or flash memory of several parts, the first one at the top."""
    flash = placed(command.drives, "pflash")
    if not flash:
        return None if command.bios is None else _found(command, command.bios)
    if len(flash) > 1 or not command.snapshot:
        command.note("flash memory is read-only here: variables that the firmware stores do not last.")
    return b"".join(_path(flash[place].file).read_bytes() for place in sorted(flash, reverse=True))


def _found(command: Command, name: str) -> Path:
    for folder in ("", *command.folders, *FOLDERS):
        if os.path.isfile(os.path.join(folder, name)):
            return Path(folder, name)
    raise ConfigError(f"could not load PC BIOS '{name}'")
