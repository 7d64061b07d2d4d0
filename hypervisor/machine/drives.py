"""The disk controllers of the board, built around the VM's media."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from hypervisor.backends import disk_image
from hypervisor.backends.disk_image import ImageMedium
from hypervisor.bus import Line, Medium
from hypervisor.devices import i8237
from hypervisor.devices import mc146818 as rtc
from hypervisor.devices.floppy import I82077
from hypervisor.devices.i8237 import I8237Pair
from hypervisor.devices.i8259 import I8259Pair
from hypervisor.devices.ide import AtaDisk, BusMaster, Cdrom, IdeChannel
from hypervisor.devices.mc146818 import Mc146818
from hypervisor.devices.pci import PciFunction
from hypervisor.firmware.bios.disk.disk_services import DRIVE_TYPES
from hypervisor.machine import pci
from hypervisor.vm.board import Board, Part, Parts

if TYPE_CHECKING:
    from hypervisor.vm.vm import VM

FLOPPY_IRQ, FLOPPY_CHANNEL = 6, 2
IDE = ((0x1F0, 0x3F6, 14), (0x170, 0x376, 15))
"""Command block, control block and interrupt of the primary and the secondary channel (82371SB, 2.7)."""


def cmos(floppies: Sequence[Medium]) -> dict[int, int]:
    """What CMOS memory says of the floppy drives: their types, and how many there are."""
    types = [DRIVE_TYPES.get(floppy.geometry.total, 1) for floppy in floppies[:2]]
    if not types:
        return {}
    first, second = (*types, 0)[:2]
    return {rtc.FLOPPIES: first << 4 | second, rtc.EQUIPMENT: rtc.ALWAYS_THERE | 1 | len(types) - 1 << 6}


def _channel(
    vm: VM, parts: Parts, number: int, irq: int, cd_drive: bool = False, disks: Sequence[int] = (), cd: int = 2
) -> IdeChannel:
    """A channel with the drives that have a medium; with ``cd_drive`` its master is an empty CD drive otherwise.
    ``disks`` and ``cd`` are their places on both channels (see `Media.ide`).
    """
    drives: list[AtaDisk | Cdrom | None] = []
    media = vm.media.ide(disks, cd)[2 * number : 2 * number + 2]
    for place, medium in enumerate(media):
        serial = f"HV{2 * number + place + 1:05}" + (vm.config.identity and f"-{vm.config.identity}")
        if medium is None:
            drives.append(Cdrom(disk_image.no_cd(), serial) if cd_drive and place == 0 else None)
        else:
            drives.append(Cdrom(medium, serial) if medium.sector_size == 2048 else _disk(medium, serial))
    output = parts.need("pic", I8259Pair).line(irq)

    def changed(level: bool) -> None:
        master = parts.get("bmide", BusMaster)
        if master is not None:
            master.interrupt(number, level)
        output.set(level)

    return IdeChannel(Line(f"ide{number}", changed), drives, f"ide{number}", vm.clock)


def with_cd_drive(board: Board) -> Board:
    """The board with a CD drive as the secondary master, if there is no CD or disk in that place."""
    return _with_channel(board, 1, cd_drive=True)


def with_drives_at(board: Board, disks: Sequence[int], cd: int) -> Board:
    """The board with its hard disks and its CD in these places of the two channels, 0 to 3."""
    for number in range(len(IDE)):
        board = _with_channel(board, number, disks=tuple(disks), cd=cd)
    return board


def _with_channel(board: Board, number: int, **more: Any) -> Board:
    channel = board.part(f"ide{number}")
    return board.with_part(replace(channel, make=partial(channel.make, **more)))


def _disk(medium: ImageMedium, serial: str) -> AtaDisk:
    made = AtaDisk(medium, serial, medium.limits)
    if made.limited:
        medium.begun = made.begun
    return made


def _floppy(vm: VM, parts: Parts, drive: bool = False) -> I82077:
    """The controller with the diskettes that there are; with ``drive`` it has an empty drive otherwise."""
    media: Sequence[Medium] = vm.media.floppies
    if drive and not media:
        media = (disk_image.no_diskette(),)
        clock = parts.get("rtc", Mc146818)
        if clock is not None:
            clock.preset(cmos(media))
    return I82077(
        parts.need("pic", I8259Pair).line(FLOPPY_IRQ),
        parts.need("dma", I8237Pair).channel(FLOPPY_CHANNEL),
        vm.clock,
        media,
    )


def with_floppy_drive(board: Board) -> Board:
    """The board with a floppy drive of 2.88 MB, if there is no diskette for one."""
    return board.with_part(replace(board.part("fdc"), make=partial(_floppy, drive=True)))


def floppies(vm: VM) -> list[Medium]:
    """What is in the floppy drives that the board has; a medium without sectors is an empty drive."""
    controller = vm.devices.get("fdc")
    empty = [one for one in controller.drives if one is not None] if isinstance(controller, I82077) else []
    return list(vm.media.floppies) or empty


def _bus_master(vm: VM, parts: Parts) -> BusMaster:
    channels = [made for name in ("ide0", "ide1") if (made := parts.get(name, IdeChannel)) is not None]
    master = BusMaster(vm.dma, channels, vm.clock)
    function = parts.get("piix3-ide", PciFunction)
    if function is not None:
        pci.windows(vm, parts).device(function, "bmide", master)
    return master


PARTS = (
    *(
        Part(
            f"ide{n}",
            partial(_channel, number=n, irq=irq),
            ((range(command, command + 8), command), (range(control, control + 1), control - 8)),
        )
        for n, (command, control, irq) in enumerate(IDE)
    ),
    Part("bmide", _bus_master),
    Part(
        "dma",
        lambda vm, _: I8237Pair(vm.dma),
        ((range(0x00, 0x10), 0x00), (range(0xC0, 0xE0), 0xC0 - i8237.SECOND), (range(0x81, 0x90), 0x80 - i8237.PAGES)),
    ),
    Part("fdc", _floppy, ((range(0x3F0, 0x3F6), 0x3F0), (range(0x3F7, 0x3F8), 0x3F0))),
)
"""The parts of the board that drives hang on. ``pic`` and the PCI functions come before them."""
