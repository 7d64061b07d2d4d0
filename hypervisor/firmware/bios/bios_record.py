"""What the BIOS's services remember beside guest memory, as a record."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypervisor.backends.el_torito import BootImage, Emulation
from hypervisor.errors import ConfigError
from hypervisor.firmware.bios.call import WaitingState
from hypervisor.firmware.bios.video.video import WrittenPart
from hypervisor.state import copied, flag, names, number, numbers, part, record

if TYPE_CHECKING:
    from hypervisor.firmware.bios.bios import Bios
    from hypervisor.firmware.bios.input.typeahead import KeyQueue

MAX_NAMED, MAX_DRIVES = 1000, 8
NONE = -1


@record
class BiosState:
    """``named`` are the calls that have been named once, vector and function; ``waiting`` the waits in progress of INT
    15h and 14h, ``ticking`` whether the first has switched the RTC's interrupt on; ``idle`` that of APM; ``string``
    a string of which a part is written; ``boot_...`` how far INT 19h has come in the boot order, and why no further;
    ``emulated`` the CD's boot image (`hypervisor.backends.el_torito.BootImage`), if that was booted. ``frame_buffer``
    and ``adapter`` are where it found the display adapter: its memory, and its PCI function plus one, 0 if it has none.
    """

    named: list[int] = numbers(MAX_NAMED, 0, 0xFF_FFFF)
    waiting: WaitingState = part(WaitingState)
    waiting_serial: WaitingState = part(WaitingState)
    ticking: bool = flag()
    idle: bool = flag()
    string: list[int] = numbers(4, 0, 1 << 33)
    """Stack, bytes that are written, row and column."""
    frame_buffer: int = number(NONE, 1 << 33, NONE)
    adapter: int = number(NONE, 1 << 8, NONE)
    boot_position: int = number(0, MAX_DRIVES)
    boot_problems: list[str] = names(MAX_DRIVES, 1 << 10)
    emulated: list[int] = numbers(5, 0, 1 << 40)


class BiosPart:
    """The BIOS as a part of a machine's state."""

    def __init__(self, bios: Bios) -> None:
        self._bios = bios

    def state(self) -> BiosState:
        """All that the services remember."""
        bios = self._bios
        video, boot, image = bios.video, bios.boot, bios.disk.drives.emulated
        string, function = video.string, video.adapter.function
        return BiosState(
            named=[vector << 16 | function for vector, function in sorted(bios.named)],
            waiting=copied(bios.system.waiting.s),
            waiting_serial=copied(bios.serial.waiting.s),
            ticking=bios.system.ticking,
            idle=bios.apm.idle,
            string=[] if string is None else [string.stack, string.done, *string.cursor],
            frame_buffer=NONE if video.frame_buffer is None else video.frame_buffer,
            adapter=NONE if function is None else function + 1,
            boot_position=boot.position,
            boot_problems=list(boot.problems),
            emulated=[] if image is None else [image.emulation, image.segment, image.system, image.count, image.start],
        )

    def restore(self, state: BiosState) -> None:
        """Go on from ``state``. Raises `ConfigError` if it is not one of this machine's BIOS."""
        bios = self._bios
        video, drives = bios.video, bios.disk.drives
        if len(state.string) not in (0, 4) or state.named != sorted(set(state.named)):
            raise ConfigError("the BIOS: this state cannot be restored: its string or its names do not fit together.")
        if state.emulated:
            drives.emulate(self._image(state.emulated))
        else:
            drives.end_emulation()
        bios.named = {(call >> 16, call & 0xFFFF) for call in state.named}
        bios.system.waiting.s, bios.serial.waiting.s = copied(state.waiting), copied(state.waiting_serial)
        bios.system.ticking, bios.apm.idle = state.ticking, state.idle
        string = state.string
        video.string = WrittenPart(string[0], string[1], (string[2], string[3])) if string else None
        video.frame_buffer = None if state.frame_buffer == NONE else state.frame_buffer
        video.adapter.function = None if state.adapter == NONE else state.adapter - 1
        bios.boot.position, bios.boot.problems = state.boot_position, list(state.boot_problems)

    def _image(self, values: list[int]) -> BootImage:
        cd = self._bios.disk.drives.cd
        if cd is None or len(values) != 5 or values[0] not in list(Emulation) or values[4] >= cd.sectors:
            raise ConfigError("the BIOS: this state cannot be restored: the CD that was booted is not in the drive.")
        return BootImage(Emulation(values[0]), *values[1:])


@record
class KeyQueueState:
    """The keys that wait, as INT 16h tells them, how often the guest has looked in vain, and how many were dropped."""

    keys: list[int] = numbers(1 << 16, 0, 0xFFFF)
    looks: int = number(0, 64)
    dropped: int = number(0, 1 << 62)


class KeyQueuePart:
    """The queue of typed keys as a part of a machine's state."""

    def __init__(self, queue: KeyQueue) -> None:
        self._queue = queue

    def state(self) -> KeyQueueState:
        """All that it remembers."""
        return KeyQueueState(list(self._queue.keys), self._queue.looks, self._queue.dropped)

    def restore(self, state: KeyQueueState) -> None:
        """Go on from ``state``."""
        queue = self._queue
        queue.keys.clear()
        queue.keys.extend(state.keys)
        queue.looks, queue.dropped = state.looks, state.dropped


__all__ = ["BiosPart", "BiosState", "KeyQueuePart", "KeyQueueState"]
