"""INT 19h and 18h: the boot order, what is loaded from each drive, and the message when none boots.

Sources: BIOS Boot Specification 1.01, sections 3 and 6.4; "El Torito" Bootable CD-ROM Format Specification 1.0,
section 1.2.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from hypervisor.arch.flags import RFLAGS_FIXED, RFLAGS_IF
from hypervisor.backends import el_torito
from hypervisor.bus import Dma
from hypervisor.firmware.bios.call import DONE, Call, Outcome, Stop
from hypervisor.firmware.bios.disk.drive_numbers import FIRST_DISK, FIRST_FLOPPY, Drives
from hypervisor.firmware.bios.service import service
from hypervisor.vm.config import DRIVES
from hypervisor.vm.media import DEFAULT_ORDER

LOAD_ADDRESS = 0x7C00
SECTOR = 512
SIGNATURE = b"\x55\xaa"


class Target(NamedTuple):
    """Where a boot sector was loaded (CS:IP), and the number of its drive (DL)."""

    segment: int
    offset: int
    drive: int


class Boot:
    """Goes through the boot order: INT 19h from its start, INT 18h from behind the device that gave up."""

    def __init__(self, memory: Dma, drives: Drives, order: str = DEFAULT_ORDER) -> None:
        self._memory = memory
        self._drives = drives
        self.order = order
        self.position = 0
        self.problems: list[str] = []

    def first(self) -> Target | None:
        """Load the boot sector of the first device that has one; None if none has (see `message`)."""
        self.position = 0
        self.problems = []
        return self.next()

    def next(self) -> Target | None:
        """Load the boot sector of the next device that has one; None at the end of the order."""
        while self.position < len(self.order):
            letter = self.order[self.position]
            self.position += 1
            self._drives.end_emulation()
            try:
                target = self._from_cd() if letter == "d" else self._from_disk(letter)
            except (el_torito.NotBootableError, OSError) as problem:
                self.problems.append(f"{DRIVES[letter]}: {problem}")
            else:
                self.problems.append(f"{DRIVES[letter]}: it was booted, and gave up")
                return target
        return None

    @property
    def message(self) -> str:
        """Why nothing boots: a sentence that names each device that was tried."""
        return f"no bootable device ({'; '.join(self.problems)})"

    @service(0x19, None, "boot: the first drive of the boot order that can")
    def bootstrap(self, call: Call) -> Outcome:
        """INT 19h."""
        return self._enter(call, self.first())

    @service(0x18, None, "nothing to boot here: the next drive of the boot order, or the end of the run")
    def give_up(self, call: Call) -> Outcome:
        """INT 18h: the device that was booted has nothing to boot, or boot code failed."""
        return self._enter(call, self.next())

    def _enter(self, call: Call, target: Target | None) -> Outcome:
        if target is None:
            return Stop(self.message)
        regs = call.regs
        for segment in ("ss", "ds", "es"):
            regs.set(segment, 0)
        regs.rsp = LOAD_ADDRESS - 6  # the stub's IRET leaves it at 7c00h
        frame = struct.pack("<HHH", target.offset, target.segment, RFLAGS_FIXED | RFLAGS_IF)
        self._memory.write(LOAD_ADDRESS - 6, frame)
        regs.ax, regs.dx = 0xAA55, target.drive
        return DONE

    def _from_disk(self, letter: str) -> Target:
        number = FIRST_FLOPPY if letter == "a" else FIRST_DISK
        drive = self._drives.find(number)
        if drive is None:
            raise el_torito.NotBootableError("there is none")
        if not drive.medium.sectors:
            raise el_torito.NotBootableError("there is no diskette in it")
        sector = drive.medium.read(0, 1)
        if sector[-2:] != SIGNATURE:
            raise el_torito.NotBootableError(f"its first sector ends in {sector[-2:].hex(' ')}, not in 55 aa")
        self._memory.write(LOAD_ADDRESS, sector)
        return Target(0, LOAD_ADDRESS, number)

    def _from_cd(self) -> Target:
        cd = self._drives.cd
        if cd is None:
            raise el_torito.NotBootableError("there is none")
        image = el_torito.parse(cd)
        sectors = -(-image.count * SECTOR // cd.sector_size)
        code = cd.source.read(image.start * cd.sector_size, sectors * cd.sector_size)
        self._memory.write(image.segment << 4, code[: image.count * SECTOR])
        number = self._drives.emulate(image)
        start = image.segment << 4
        return Target(start >> 4 & 0xF000, start & 0xFFFF, number)  # 0000:7c00 and not 07c0:0000, as SeaBIOS does
