"""The board that a command line describes: the PC, with the ports that QEMU's has and no others."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from hypervisor.cli.qemu.drive_options import ide_places
from hypervisor.cli.qemu.ends.host_ends import ABSENT
from hypervisor.errors import ConfigError

if TYPE_CHECKING:
    from hypervisor.cli.qemu.command import Command
    from hypervisor.cli.qemu.ends.host_ends import End
    from hypervisor.vm.board import Board, Part

MAX_SERIAL = 4
CD_PLACE = 2
"""Where ``-cdrom`` puts the CD: the master of the second IDE channel."""


def board(command: Command, serials: list[End]) -> Board:
    """The PC with these serial ports, with debug console and debug exit only where they are asked for, and with drives
    where QEMU has them, empty ones included. Raises `ConfigError`.
    """
    from hypervisor.machine.drives import with_cd_drive, with_drives_at, with_floppy_drive
    from hypervisor.machine.isa_pc import pc

    disks, cds = ide_places(command)
    made = with_drives_at(pc(), tuple(disks), min(cds, default=CD_PLACE))
    if command.defaults if command.cd_drive is None else command.cd_drive:
        made = with_cd_drive(made)
    if command.defaults:
        made = with_floppy_drive(made)
    for number in range(MAX_SERIAL):
        if number >= len(serials) or serials[number] == ABSENT:
            made = made.without(f"uart{number}")
    made = made.with_part(_moved(made.part("rtc"), _dated(command)))
    made = (
        made.without("debugcon") if not command.debug_ports else made.with_part(_at(made, "debugcon", *_port(command)))
    )
    exit_port = command.exit_port
    if exit_port is None:
        return made.without("debugexit")
    return made.with_part(_at(made, "debugexit", exit_port.port, exit_port.size))


def _port(command: Command) -> tuple[int, int]:
    ports = {one.port if one.port >= 0 else command.debug_port for one in command.debug_ports}
    if len(ports) > 1:
        raise ConfigError("There is one debug console on this board; give one -debugcon or -device isa-debugcon.")
    return ports.pop(), 1


def _at(made: Board, name: str, port: int, size: int) -> Part:
    """A part of the board at other ports."""
    from dataclasses import replace

    if not 0 <= port <= 0xFFFF:
        raise ConfigError(f"iobase={port:#x}: ports are 0 to 0xffff.")
    return replace(made.part(name), ports=((range(port, port + size), port),))


def _moved(part: Part, start: datetime) -> Part:
    """The clock with another time at power-on."""
    from dataclasses import replace

    make: Callable[[Any, Any], Any] = part.make

    def dated(vm: Any, parts: Any) -> Any:
        made = make(vm, parts)
        made.start = start
        made.reset()
        return made

    return replace(part, make=dated)


def _dated(command: Command) -> datetime:
    """The time at power-on. Raises `ConfigError`."""
    if command.start in ("utc", "localtime"):
        now = datetime.now(UTC) if command.start == "utc" else datetime.now()
        return now.replace(tzinfo=None, microsecond=0)
    try:
        return datetime.fromisoformat(command.start)
    except ValueError:
        raise ConfigError(
            f"-rtc base={command.start}: give utc, localtime, or a date such as 2026-01-31T12:00:00."
        ) from None
