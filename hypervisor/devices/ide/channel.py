"""An IDE channel: the registers that its two drives share, their selection, resets and the interrupt."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from hypervisor.bus import Clock, Line
from hypervisor.devices.ide import ata_registers as r
from hypervisor.devices.ide.drive import Drive, DriveState
from hypervisor.devices.parts.device_state import adopt, refuse
from hypervisor.state import InRecord, flag, parts, record, u8

SIZE = r.SIZE
TASK_FILE = {r.FEATURES: "features", r.COUNT: "count", r.LOW: "low", r.MID: "mid", r.HIGH: "high"}
"""Registers that remember what was written before, by offset."""
NOBODY = {"count": 1, "low": 1, "mid": 0xFF, "high": 0xFF}
"""What they show behind a reset of a drive that is absent beside another one: the signature of no drive."""


@record
class IdeChannelState:
    """Both drives (an absent one remembers what was written to it alone), the selection and the interrupt."""

    drives: list[DriveState] = parts(DriveState, 2)
    device: int = u8()
    control: int = u8()
    interrupt: bool = flag()


class IdeChannel(InRecord[IdeChannelState]):
    """A channel with up to two drives: master, slave.

    Its data register is a `hypervisor.bus.StringPort`. ``irq`` is its interrupt (14 or 15). Without a drive, registers
    read as zero, as where nothing pulls the bus up. With one, who selects the other has status and error of zero, and
    reads what was written (ATA/ATAPI-6, 9.16.1: the drive that is there answers for it).
    """

    string_offset = r.DATA

    def __init__(
        self, irq: Line, drives: Sequence[Drive | None] = (), name: str = "ide0", clock: Clock | None = None
    ) -> None:
        """``clock`` is for drives with limits, which have none without it."""
        self.name = name
        self.irq = irq
        self.drives = [*drives, None, None][:2]
        self._s = IdeChannelState()
        for drive in self.drives:
            if drive is not None:
                drive.interrupt = self._interrupt
        for number, drive in enumerate(self.drives):
            if drive is not None and clock is not None and drive.limited:
                drive.alarm = clock.timer(name, f"drive{number}", drive.waited)
                drive.now_ns = partial(getattr, clock, "now_ns")
        self._power_on()

    def _power_on(self) -> None:
        self._s = IdeChannelState()
        for number, drive in enumerate(self.drives):
            if drive is not None:
                drive.s = drive.power_on()
                drive.follow()
                self._s.drives[number] = drive.s
        self._sign_absent()

    def _sign_absent(self) -> None:
        for s, drive in zip(self._s.drives, self.drives, strict=True):
            if drive is None:
                for name, value in NOBODY.items():
                    setattr(s, name, value)

    # ---- device contract

    def reset(self) -> None:
        """Power-on: the first drive is selected, and both show their signature."""
        self._power_on()
        self._show()

    def restore(self, state: Any) -> None:
        """Take over ``state``; raises `DeviceError` if it is not one of this device."""
        new = adopt(self.name, IdeChannelState, state)
        for number, drive in enumerate(self.drives):
            problem = None if drive is None else drive.problem(new.drives[number])
            if problem:
                raise refuse(self.name, f"state.drives[{number}]: {problem}")
        self._s = new
        for number, drive in enumerate(self.drives):
            if drive is not None:
                drive.s = new.drives[number]
                drive.follow()
        self._show()

    def read(self, offset: int, size: int) -> int:
        """See `hypervisor.bus.Device.read`."""
        if offset == r.DATA:
            drive = self.selected
            return 0 if drive is None else int.from_bytes(drive.read_data(size), "little")
        value = 0
        for n in range(size):
            value |= (self._register(offset + n) if offset + n < SIZE else 0xFF) << 8 * n
        return value

    def write(self, offset: int, size: int, value: int) -> None:
        """See `hypervisor.bus.Device.write`."""
        if offset == r.DATA:
            drive = self.selected
            if drive is not None:
                drive.write_data(value.to_bytes(size, "little"))
            return
        for at in range(offset, min(offset + size, SIZE)):
            self._write(at, value & 0xFF)
            value >>= 8

    def read_string(self, offset: int, size: int, count: int) -> bytes:
        """See `hypervisor.bus.StringPort.read_string`: the rest of the DRQ block at most."""
        drive = self.selected
        if offset != r.DATA or drive is None:
            return b""
        s = drive.s
        return drive.read_data(min(count, (s.end - s.position) // size) * size)

    def write_string(self, offset: int, size: int, content: bytes) -> int:
        """See `hypervisor.bus.StringPort.write_string`: the rest of the DRQ block at most."""
        drive = self.selected
        if offset != r.DATA or drive is None:
            return 0
        s = drive.s
        return drive.write_data(content[: (s.end - s.position) // size * size])

    # ---- registers

    @property
    def selected(self) -> Drive | None:
        """The drive that the device register selects, or None if it is not there."""
        return self.drives[self._s.device >> 4 & 1]

    def _register(self, offset: int) -> int:
        drive = self.selected
        if drive is None and (offset not in TASK_FILE or offset == r.ERROR or not any(self.drives)):
            return 0
        s = self._s.drives[self._s.device >> 4 & 1] if drive is None else drive.s
        if offset in (r.STATUS, r.ALTERNATE):
            if offset == r.STATUS:
                self._s.interrupt = False
                self._show()
            return r.BSY if self._s.control & r.SRST else s.status
        if offset == r.ERROR:
            return s.error
        if offset == r.DEVICE:
            return s.device & ~r.SLAVE | self._s.device & r.SLAVE | r.DEVICE_ALWAYS
        value: int = getattr(s, TASK_FILE[offset]) if offset in TASK_FILE else 0xFF
        return value >> 8 if self._s.control & r.HOB else value & 0xFF

    def _write(self, offset: int, value: int) -> None:
        if offset == r.CONTROL:
            self._control(value)
            return
        self._s.control &= ~r.HOB
        if offset == r.COMMAND:
            self._command(value)
        elif offset == r.DEVICE:
            self._s.device = value
            for s in self._s.drives:
                s.device = value
        elif offset in TASK_FILE:
            name = TASK_FILE[offset]
            for s in self._s.drives:  # both drives listen
                setattr(s, name, (getattr(s, name) << 8 | value) & 0xFFFF)

    def _command(self, code: int) -> None:
        self._s.interrupt = False
        self._show()
        if self._s.control & r.SRST:
            return
        if code == r.DIAGNOSTIC:
            self._diagnose()
            return
        drive = self.selected
        if drive is not None and not drive.s.status & r.BSY:
            drive.execute(code)

    def _diagnose(self) -> None:
        """EXECUTE DEVICE DIAGNOSTIC is for both drives, whichever is selected; the first one answers."""
        for drive in self.drives:
            if drive is not None:
                drive.sign()
        self._sign_absent()
        self._s.device = 0
        if self.drives[0] is not None:
            self._interrupt()

    def _control(self, value: int) -> None:
        before, self._s.control = self._s.control, value
        if before & r.SRST and not value & r.SRST:
            self._s.device = 0
            self._s.interrupt = False
            for drive in self.drives:
                if drive is not None:
                    drive.soft_reset()
            self._sign_absent()
        self._show()

    # ---- interrupt

    def _interrupt(self) -> None:
        self._s.interrupt = True
        self._show()

    def _show(self) -> None:
        self.irq.set(self._s.interrupt and not self._s.control & r.NIEN)
