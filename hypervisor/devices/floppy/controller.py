"""The controller: phases, registers, resets, seeks, and the interrupt. `transfer` has the commands that move data.

A command takes a little of virtual time, so that a driver that clears its flag after it has given the command still
sees the interrupt; the time is that of no real drive.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypervisor.bus import Clock, Line, Medium
from hypervisor.devices.floppy import fdc_registers as r
from hypervisor.devices.floppy.fdc_registers import EXECUTING, FROM_HOST, IDLE, RESULT, TO_HOST
from hypervisor.devices.floppy.transfer import Channel, Progress, Transfer
from hypervisor.devices.parts.common import ByteDevice, RegisterTable, all_ones, nothing
from hypervisor.devices.parts.device_state import adopt, refuse
from hypervisor.state import InRecord, copied, data, deadline, flag, number, numbers, record, u8

DRIVES = 4
DELAY_NS = 50_000


@record
class I82077State:
    """All that the controller remembers. ``interrupts`` are status bytes and cylinders for SENSE INTERRUPT STATUS."""

    dor: int = u8(r.NOT_RESET | r.GATE)
    tdr: int = number(0, 3)
    phase: int = number(0, 4)
    command: bytearray = data(16)
    result: bytearray = data(16)
    buffer: bytearray = data(1024)
    position: int = number(0, 1024)
    sector: list[int] = numbers(4, 0, 255)
    """Cylinder, head, sector of a transfer that is going on, and how many are left (format and verify)."""
    cylinders: list[int] = numbers(DRIVES, 0, 255, exact=True)
    changed: int = number(0, 15, 15)
    """Drives whose diskette may have been changed."""
    seeking: int = number(0, 15)
    interrupts: list[int] = numbers(16, 0, 255)
    irq: bool = flag()
    due: int = deadline()
    """When what is going on is done; negative: nothing is."""
    specify: list[int] = numbers(2, 0, 255, exact=True)
    configure: list[int] = numbers(3, 0, 255, exact=True)
    perpendicular: int = u8()
    locked: bool = flag()
    resetting: bool = flag()


class I82077(ByteDevice, InRecord[I82077State]):
    """The controller with up to two drives: what is in each, or None where there is no drive. A medium without sectors
    is no diskette in a drive.

    ``irq`` is its interrupt (6), ``dma`` its channel (2).
    """

    def __init__(
        self, irq: Line, dma: Channel, clock: Clock, drives: Sequence[Medium | None] = (), name: str = "fdc"
    ) -> None:
        self.name = name
        self.irq = irq
        self.dma = dma
        self.clock = clock
        self.drives = [*drives, *[None] * DRIVES][:DRIVES]
        self.s = I82077State()
        self._alarm = clock.timer(name, "due", self._due)
        self._transfer = Transfer(self)
        dma.when_ready(self._dma_ready)

    def _registers(self) -> RegisterTable:
        return [all_ones, all_ones, self._read_dor, self._read_tdr, self._read_msr, self._read_fifo, all_ones,
                self._read_dir], [nothing, nothing, self._write_dor, self._write_tdr, self._write_dsr,
                                  self._write_fifo, nothing, nothing]  # fmt: skip

    # ---- device contract

    def reset(self) -> None:
        """Power-on, as firmware leaves it: enabled, motors off."""
        self._take(I82077State())

    def state(self) -> I82077State:
        """A copy of all mutable state."""
        return copied(self.s)

    def is_still(self, state: Any) -> bool:
        """See `hypervisor.state.InRecord`."""
        return bool(self.s == state)

    def restore(self, state: I82077State) -> None:
        """Take over ``state``; raises `DeviceError` if it is not one of this device."""
        new = adopt(self.name, I82077State, state)
        if new.position > len(new.buffer) or len(new.interrupts) % 2:
            raise refuse(self.name, "state.position or state.interrupts do not fit")
        if not self._fits(new):
            raise refuse(self.name, "state.phase does not fit the command and the data that are there")
        self._take(new)

    def _take(self, state: I82077State) -> None:
        self.s = state
        self._alarm.clear()
        if state.due >= 0:
            self._alarm.set(state.due)
        self._show()

    def _fits(self, state: I82077State) -> bool:
        if state.phase == RESULT:
            return bool(state.result)
        if state.phase == IDLE:
            row = self._row(state.command)
            return not state.command or (row is not None and len(state.command) < row.size)
        return self._transfer.fits(state)

    # ---- registers

    def _read_dor(self) -> int:
        return self.s.dor

    def _read_tdr(self) -> int:
        return self.s.tdr

    def _read_msr(self) -> int:
        s = self.s
        if not s.dor & r.NOT_RESET or s.resetting:
            return 0
        by_phase = (
            r.RQM | (r.BUSY if s.command else 0), r.BUSY, r.RQM | r.DIO | r.BUSY, r.RQM | r.DIO | r.BUSY | r.NON_DMA,
            r.RQM | r.BUSY | r.NON_DMA,
        )  # fmt: skip
        return by_phase[s.phase] | s.seeking

    def _read_dir(self) -> int:
        s = self.s
        return r.CHANGED if s.changed >> (s.dor & 3) & 1 or self.diskette(s.dor & 3) is None else 0

    def _write_tdr(self, value: int) -> None:
        self.s.tdr = value & 3

    def _write_dor(self, value: int) -> None:
        before, self.s.dor = self.s.dor, value
        if not value & r.NOT_RESET:
            self._forget()
        elif not before & r.NOT_RESET:
            self._begin_reset()
        self._show()

    def _write_dsr(self, value: int) -> None:
        if value & r.DSR_RESET and self.s.dor & r.NOT_RESET:
            self._forget()
            self._begin_reset()

    def _forget(self) -> None:
        s = self.s
        s.phase, s.command, s.result, s.buffer = IDLE, bytearray(), bytearray(), bytearray()
        s.position = s.seeking = 0
        s.interrupts, s.sector, s.irq = [], [], False
        s.due, s.resetting = -1, False
        if not s.locked:
            s.configure = [0, 0, 0]
        self._alarm.clear()
        self._show()

    def _begin_reset(self) -> None:
        self.s.resetting = True
        self._later()

    def _read_fifo(self) -> int:
        s = self.s
        if s.phase == RESULT:
            s.irq = False
            self._show()
            value = s.result.pop(0)
            if not s.result:
                s.phase, s.command = IDLE, bytearray()
            return value
        if s.phase == TO_HOST:
            value = s.buffer[s.position]
            s.position += 1
            s.irq = False
            self._show()
            if s.position == len(s.buffer):
                self._transfer.moved()
            return value
        return 0

    def _write_fifo(self, value: int) -> None:
        s = self.s
        if not s.dor & r.NOT_RESET or s.resetting:
            return
        if s.phase == FROM_HOST:
            s.buffer[s.position] = value
            s.position += 1
            s.irq = False
            self._show()
            if s.position == len(s.buffer):
                self._transfer.moved()
        elif s.phase == IDLE:
            s.command.append(value)
            self._look_at_command()

    def _look_at_command(self) -> None:
        s = self.s
        row = self._row(s.command)
        if row is None:
            self.finish(bytes((r.ST0_INVALID,)))
        elif len(s.command) == row.size:
            getattr(self, row.method)()

    @staticmethod
    def _row(command: bytearray) -> r.Command | None:
        """The row of the table for a command whose first byte is there."""
        if not command:
            return None
        return r.RELATIVE_SEEK if command[0] in (0x8F, 0xCF) else r.COMMANDS.get(command[0] & 0x1F)

    # ---- time and interrupts

    def _later(self) -> None:
        self.s.due = self.clock.now_ns + DELAY_NS
        self._alarm.set(self.s.due)

    def _due(self) -> None:
        s = self.s
        s.due = -1
        if s.resetting:
            s.resetting = False
            s.interrupts = [
                value for drive in range(DRIVES) for value in (r.ST0_READY_CHANGED | drive, s.cylinders[drive])
            ]
            self.interrupt()
        elif s.phase == EXECUTING:
            self._transfer.go_on()
        elif s.interrupts:
            self.interrupt()  # the end of a seek

    def _dma_ready(self) -> None:
        if self.s.phase == EXECUTING and self.s.due < 0:
            self._transfer.go_on()

    def interrupt(self) -> None:
        """Raise the interrupt."""
        self.s.irq = True
        self._show()

    def _show(self) -> None:
        self.irq.set(self.s.irq and self.s.dor & (r.GATE | r.NOT_RESET) == r.GATE | r.NOT_RESET)

    def diskette(self, drive: int) -> Medium | None:
        """The diskette in a drive, or None."""
        medium = self.drives[drive]
        return medium if medium is not None and medium.sectors else None

    # ---- commands

    def finish(self, result: bytes) -> None:
        """A command is over, with these result bytes; without any, the next one may come."""
        s = self.s
        s.result = bytearray(result)
        s.phase = RESULT if result else IDLE
        s.buffer, s.position, s.sector = bytearray(), 0, []
        if not result:
            s.command = bytearray()

    def transfer(self) -> None:
        """READ, WRITE, FORMAT and their like."""
        self.s.phase = EXECUTING
        self._transfer.begin()
        self._later()

    def specify(self) -> None:
        """SPECIFY: step rates, and whether there is DMA."""
        self.s.specify = list(self.s.command[1:3])
        self.finish(b"")

    def sense_drive(self) -> None:
        """SENSE DRIVE STATUS."""
        s = self.s
        drive = s.command[1] & 3
        medium = self.drives[drive]
        status = s.command[1] & 7 | r.ST3_READY | r.ST3_TWO_SIDES
        status |= r.ST3_TRACK_0 if s.cylinders[drive] == 0 else 0
        status |= r.ST3_PROTECTED if medium is not None and not medium.writable else 0
        self.finish(bytes((status,)))

    def sense_interrupt(self) -> None:
        """SENSE INTERRUPT STATUS: the next end of a seek, or of the reset."""
        s = self.s
        s.irq = False
        self._show()
        if not s.interrupts or s.due >= 0:
            self.finish(bytes((r.ST0_INVALID,)))
            return
        status, cylinder = s.interrupts[:2]
        del s.interrupts[:2]
        s.seeking &= ~(1 << (status & 3))
        self.finish(bytes((status, cylinder)))

    def recalibrate(self) -> None:
        """RECALIBRATE: seek cylinder 0."""
        self._seek_to(self.s.command[1] & 3, 0)

    def seek(self) -> None:
        """SEEK."""
        self._seek_to(self.s.command[1] & 7, self.s.command[2])

    def relative_seek(self) -> None:
        """RELATIVE SEEK, inwards (CFh) or outwards (8Fh)."""
        s = self.s
        here, step = s.cylinders[s.command[1] & 3], s.command[2]
        self._seek_to(s.command[1] & 7, min(here + step, 255) if s.command[0] & 0x40 else max(here - step, 0))

    def _seek_to(self, select: int, cylinder: int) -> None:
        s = self.s
        drive = select & 3
        s.seeking |= 1 << drive
        stepped, s.cylinders[drive] = s.cylinders[drive] != cylinder, cylinder
        status = r.ST0_SEEK_END | select
        if self.drives[drive] is None:
            status |= r.ST0_ABNORMAL | r.ST0_EQUIPMENT
        elif stepped and self.diskette(drive) is not None:
            s.changed &= ~(1 << drive)
        s.interrupts = [*s.interrupts[-6:], status, cylinder]
        self.finish(b"")
        self._later()

    def read_id(self) -> None:
        """READ ID: the first sector that comes by."""
        s = self.s
        drive, head = s.command[1] & 3, s.command[1] >> 2 & 1
        medium, cylinder = self.diskette(drive), s.cylinders[drive]
        good = medium is not None and medium.geometry.lba(cylinder, head, 1) is not None
        progress = Progress(cylinder, head, 1)
        self._transfer.end(progress, 0 if good else r.ST0_ABNORMAL, 0 if good else r.ST1_NO_ADDRESS)

    def dump_registers(self) -> None:
        """DUMPREG."""
        s = self.s
        lock = s.perpendicular & 0x7F | s.locked << 7
        self.finish(bytes((*s.cylinders, *s.specify, 0, lock, s.configure[1], s.configure[2])))

    def version(self) -> None:
        """VERSION: an enhanced controller."""
        self.finish(bytes((r.VERSION_82077,)))

    def part_id(self) -> None:
        """PART ID."""
        self.finish(bytes((r.PART_ID,)))

    def perpendicular(self) -> None:
        """PERPENDICULAR MODE."""
        self.s.perpendicular = self.s.command[1] & 0x3F
        self.finish(b"")

    def configure(self) -> None:
        """CONFIGURE."""
        self.s.configure = list(self.s.command[1:4])
        self.finish(b"")

    def lock(self) -> None:
        """LOCK: whether a reset leaves CONFIGURE's values."""
        self.s.locked = bool(self.s.command[0] & 0x80)
        self.finish(bytes((self.s.locked << 4,)))
