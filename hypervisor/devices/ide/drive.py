"""What a hard disk and a CD drive have in common: the task file, and the blocks that the data register moves.

A command's data pass through a buffer. The part of it up to ``end`` is the DRQ block that the host may move now; behind
each block the host is interrupted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from hypervisor.bus import Medium, PaceState, Timer
from hypervisor.devices.ide import ata_registers as r
from hypervisor.state import data, deadline, number, part, record, u8

BUFFER = 64 << 10
"""Bytes that a drive reads from its medium at once."""


class Phase:
    """What the drive waits for, as plain numbers."""

    IDLE = 0
    DATA_IN = 1
    DATA_OUT = 2
    PACKET = 3
    DMA_IN = 4
    DMA_OUT = 5
    ALL = frozenset(range(6))


def _wide() -> Any:
    """A register of the task file: 8 bits, above those that were there before (ATA/ATAPI-6, 6.20, 48-bit addresses)."""
    return number(0, 0xFFFF)


@record
class DriveState:
    """All that a drive remembers besides its medium's contents."""

    features: int = _wide()
    count: int = _wide()
    low: int = _wide()
    mid: int = _wide()
    high: int = _wide()
    device: int = u8()
    status: int = u8()
    error: int = u8()
    phase: int = number(0, max(Phase.ALL))
    command: int = u8()
    buffer: bytearray = data(BUFFER)
    position: int = number(0, BUFFER)
    end: int = number(0, BUFFER)
    block: int = number(1, BUFFER, 512)
    """Bytes of a DRQ block."""
    lba: int = number(0, 1 << 48)
    left: int = number(0, 1 << 32)
    """Sectors that are still to come, beyond the buffer."""
    multiple: int = number(0, 16)
    """Sectors of a block of READ and WRITE MULTIPLE; 0: these commands are off."""
    heads: int = number(1, 16, 16)
    sectors: int = number(1, 255, 63)
    """The translation of cylinders, heads and sectors that was asked for."""
    transfer_mode: int = u8(r.MULTIWORD_DMA | 2)
    cache: int = number(0, 1, 1)
    sense: int = number(0, 0xFFFFFF)
    """Sense key, additional code and its qualifier, of the last packet that failed."""
    due: int = deadline()
    """When the command begins that waits for the drive's limits, which is busy meanwhile."""
    pace: PaceState = part(PaceState)


class Drive:
    """A drive on a channel.

    The channel sets ``interrupt``, and ``alarm`` and ``now_ns`` where there is a clock; the bus master sets
    ``dma_ready``, which is called when data wait for it.
    """

    signature: ClassVar[tuple[int, int]]
    phases: ClassVar[frozenset[int]]
    """Phases that this kind of drive can be in."""
    commands: ClassVar[dict[int, str]]
    """Methods by command code."""

    def __init__(self, medium: Medium) -> None:
        self.medium = medium
        self.now_ns: Callable[[], int] = lambda: 0
        self.interrupt: Callable[[], None] = lambda: None
        self.dma_ready: Callable[[], None] = lambda: None
        self.alarm: Timer | None = None
        """Rings when a command may begin; None for a drive that has no limits."""
        self.s = self.power_on()

    # ---- to be filled in

    def power_on(self) -> DriveState:
        """The state after power-on."""
        raise NotImplementedError

    def more(self) -> bytes | None:
        """The next bytes of the command that moves data to the host; None at its end."""
        raise NotImplementedError

    def stored(self) -> None:
        """The host has filled the block."""
        raise NotImplementedError

    def completed(self) -> None:
        """The last block has gone to the host."""
        raise NotImplementedError

    def problem(self, s: DriveState) -> str | None:
        """What does not fit together in a state for this drive, as a sentence's end."""
        if not s.position <= s.end <= len(s.buffer):
            return "the buffer's position is behind its end"
        if s.phase not in self.phases:
            return f"phase {s.phase} is none of this drive"
        to_medium = s.phase in (Phase.DATA_OUT, Phase.DMA_OUT)
        pending = s.left + (len(s.buffer) // self.medium.sector_size if to_medium else 0)
        if pending and s.lba + pending > self.medium.sectors:
            return "a transfer reaches beyond the medium"
        return None

    # ---- commands

    def sign(self) -> None:
        """The registers after a reset and after EXECUTE DEVICE DIAGNOSTIC."""
        s = self.s
        s.error, s.count, s.low = r.DIAGNOSTIC_PASSED, 1, 1
        s.mid, s.high = self.signature
        s.device = 0
        s.phase = Phase.IDLE

    def soft_reset(self) -> None:
        """SRST, and DEVICE RESET: what was going on is forgotten, settings stay."""
        self._wait(-1)
        self.s.buffer = bytearray()
        self.s.position = self.s.end = self.s.left = 0
        self.sign()

    def execute(self, code: int) -> None:
        """A write to the command register."""
        s = self.s
        s.command, s.error, s.phase = code, 0, Phase.IDLE
        s.position = s.end = s.left = 0
        delay_ns = self.delay_ns(code)
        if delay_ns and self.alarm is not None:
            s.status = r.BSY
            self._wait(self.now_ns() + delay_ns)
        else:
            self._begin()

    limited = False
    """Whether it may keep commands waiting."""

    def delay_ns(self, code: int) -> int:
        """How long a command has to wait before it begins."""
        return 0

    def waited(self) -> None:
        """The time of a command that had to wait has come."""
        self.s.due = -1
        self.s.status = r.READY
        self._begin()

    def _begin(self) -> None:
        method = self.commands.get(self.s.command)
        if method is None:
            self.abort()
        else:
            getattr(self, method)()

    def _wait(self, due: int) -> None:
        self.s.due = due
        self.follow()

    def follow(self) -> None:
        """Wait for what the state says."""
        if self.alarm is not None:
            self.alarm.put_back(self.s.due)

    def done(self) -> None:
        """The command has succeeded."""
        self.s.phase, self.s.status = Phase.IDLE, r.READY
        self.interrupt()

    def abort(self, error: int = r.ABRT) -> None:
        """The command has failed with these bits of ERROR."""
        s = self.s
        s.phase, s.status, s.error = Phase.IDLE, r.READY | r.ERR, error
        s.position = s.end = s.left = 0
        self.interrupt()

    # ---- data

    def send(self, content: bytes, block: int) -> None:
        """Have ``content`` moved to the host in blocks of ``block`` bytes, with an interrupt before each."""
        s = self.s
        s.buffer, s.position, s.block = bytearray(content), 0, block
        s.end = min(block, len(content))
        s.phase, s.status = Phase.DATA_IN, r.READY | r.DRQ
        self.block_ready()
        self.interrupt()

    def receive(self, size: int, phase: int = Phase.DATA_OUT) -> None:
        """Have the host fill a block of ``size`` bytes."""
        s = self.s
        s.buffer, s.position, s.end = bytearray(size), 0, size
        s.phase, s.status = phase, r.READY | r.DRQ

    def block_ready(self) -> None:
        """A block is about to be shown to the host: a packet drive says how long it is."""

    def read_data(self, size: int) -> bytes:
        """Up to ``size`` bytes from the data register; none when there is no block."""
        s = self.s
        if s.phase != Phase.DATA_IN:
            return b""
        taken = bytes(s.buffer[s.position : min(s.position + size, s.end)])
        s.position += len(taken)
        if s.position == s.end:
            self._block_moved()
        return taken

    def write_data(self, content: bytes) -> int:
        """Bytes for the data register; returns how many were taken."""
        s = self.s
        if s.phase not in (Phase.DATA_OUT, Phase.PACKET):
            return 0
        taken = min(len(content), s.end - s.position)
        s.buffer[s.position : s.position + taken] = content[:taken]
        s.position += taken
        if s.position == s.end:
            self.stored()
        return taken

    def _block_moved(self) -> None:
        s = self.s
        if s.end < len(s.buffer):
            s.end = min(s.end + s.block, len(s.buffer))
            self.block_ready()
            self.interrupt()
        elif (following := self.more()) is not None:
            self.send(following, s.block)
        elif s.phase == Phase.DATA_IN:
            self.completed()

    # ---- bus-master DMA

    def start_dma(self, phase: int) -> None:
        """Data are to be moved by a bus master; in `Phase.DMA_IN` the buffer holds the first of them."""
        s = self.s
        s.position = 0
        s.end = len(s.buffer)
        s.phase, s.status = phase, r.READY | r.DRQ
        self.dma_ready()

    def dma_read(self, size: int) -> bytes:
        """Up to ``size`` bytes for the host's memory; none when there is nothing to read."""
        s = self.s
        if s.phase != Phase.DMA_IN:
            return b""
        taken = bytes(s.buffer[s.position : s.position + size])
        s.position += len(taken)
        if s.position == len(s.buffer):
            following = self.more()
            if following is not None:
                s.buffer, s.position, s.end = bytearray(following), 0, len(following)
            elif s.phase == Phase.DMA_IN:
                self.completed()
        return taken

    def dma_write(self, content: bytes) -> int:
        """Bytes from the host's memory; returns how many were taken."""
        s = self.s
        taken = 0
        while taken < len(content) and s.phase == Phase.DMA_OUT:
            part = content[taken : taken + s.end - s.position]
            s.buffer[s.position : s.position + len(part)] = part
            s.position += len(part)
            taken += len(part)
            if s.position == s.end:
                self.stored()
        return taken
