"""Commands that move data: sector by sector, by DMA or through the FIFO (82077AA data sheet, 5.1 and 6)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, Protocol

from hypervisor.bus import Medium
from hypervisor.devices.floppy import fdc_registers as r

if TYPE_CHECKING:
    from hypervisor.devices.floppy.controller import I82077, I82077State

SECTOR = 512
FORMAT_ENTRY = 4
"""Bytes that the host gives for each sector of a track that is formatted: cylinder, head, sector, size code."""


class Channel(Protocol):
    """The DMA channel that the controller hangs on (see `hypervisor.devices.i8237.DmaChannel`)."""

    @property
    def ready(self) -> bool:
        """Whether it would acknowledge a request now."""
        ...

    def when_ready(self, callback: Callable[[], None]) -> None:
        """Call back whenever it becomes ready."""
        ...

    def give(self, content: bytes) -> tuple[int, bool]:
        """Move bytes to memory: how many, and whether that was the last one asked for."""
        ...

    def take(self, size: int) -> tuple[bytes, bool]:
        """Move bytes from memory, and whether the last was the last one asked for."""
        ...


class Progress(NamedTuple):
    """Where a transfer is."""

    cylinder: int
    head: int
    sector: int


class Transfer:
    """The transfer of one controller. What it remembers is in the controller's state."""

    def __init__(self, controller: I82077) -> None:
        self._c = controller

    # ---- what the command says

    @property
    def _code(self) -> int:
        return self._c.s.command[0] & 0x1F

    @property
    def _medium(self) -> Medium | None:
        return self._c.diskette(self._c.s.command[1] & 3)

    @property
    def _progress(self) -> Progress:
        return Progress(*self._c.s.sector[:3])

    @property
    def _by_dma(self) -> bool:
        return not self._c.s.specify[1] & 1

    @property
    def _writes(self) -> bool:
        return self._code in (r.WRITE_DATA, r.WRITE_DELETED, r.FORMAT)

    @staticmethod
    def fits(state: I82077State) -> bool:
        """Whether a state from elsewhere can be one in the middle of a transfer."""
        code = state.command[0] & 0x1F if state.command else 0
        row = r.COMMANDS.get(code)
        whole = row is not None and row.method == "transfer" and len(state.command) == row.size
        data = state.phase == r.EXECUTING or state.position < len(state.buffer) in (FORMAT_ENTRY, SECTOR)
        return whole and len(state.sector) == 4 and data

    # ---- the course of it

    def begin(self) -> None:
        """A command has arrived."""
        s = self._c.s
        if self._code == r.FORMAT:
            head = s.command[1] >> 2 & 1
            s.sector = [s.cylinders[s.command[1] & 3], head, 1, s.command[3]]
            return
        count = s.command[8] if self._code == r.VERIFY and s.command[1] & 0x80 else 0
        s.sector = [s.command[2], s.command[3], s.command[4], count]
        if s.configure[1] & r.IMPLIED_SEEK:
            s.cylinders[s.command[1] & 3] = s.command[2]

    def go_on(self) -> None:
        """Time has passed, or the DMA channel has become ready: move what can be moved."""
        while self._c.s.phase == r.EXECUTING:
            problem = self._problem()
            if problem is not None:
                self.end(self._progress, r.ST0_ABNORMAL, *problem)
                return
            if self._code == r.VERIFY:
                self._verified()
            elif not self._by_dma:
                self._start_pio()
            elif not self._c.dma.ready:
                return
            elif self._writes:
                self._from_memory()
            else:
                self._to_memory()

    def _problem(self) -> tuple[int, int] | None:
        """ST1 and ST2 of what keeps the current sector from being moved."""
        s, medium, progress = self._c.s, self._medium, self._progress
        if medium is None:
            return r.ST1_NO_ADDRESS, 0
        if self._writes and not medium.writable:
            return r.ST1_PROTECTED, 0
        if self._code != r.FORMAT:
            if progress.cylinder != s.cylinders[s.command[1] & 3]:
                return r.ST1_NO_DATA, r.ST2_WRONG_CYLINDER
            if progress.head != s.command[1] >> 2 & 1 and not s.command[0] & r.MULTI_TRACK:
                return r.ST1_NO_DATA, 0
            if s.command[5] != r.SECTOR_CODE:
                return r.ST1_NO_DATA, 0
        elif s.command[2] != r.SECTOR_CODE:
            return r.ST1_NO_ADDRESS, 0
        if medium.geometry.lba(*progress) is None:
            return r.ST1_NO_DATA, 0
        return None

    def _lba(self) -> int:
        assert self._medium is not None
        return self._medium.geometry.lba(*self._progress) or 0

    def _load(self) -> bytes | None:
        """The current sector; None if the host cannot read it, and then the command has ended."""
        assert self._medium is not None
        try:
            return self._medium.read(self._lba(), 1)
        except OSError:
            self.end(self._progress, r.ST0_ABNORMAL, r.ST1_DATA_ERROR)
            return None

    def _store(self, content: bytes) -> bool:
        """Write the current sector; False if the host cannot, and then the command has ended."""
        assert self._medium is not None
        if self._code == r.FORMAT:
            content = bytes((self._c.s.command[5],)) * SECTOR
        try:
            self._medium.write(self._lba(), content.ljust(SECTOR, b"\0"))
        except OSError:
            self.end(self._progress, r.ST0_ABNORMAL, r.ST1_PROTECTED)
            return False
        return True

    def _to_memory(self) -> None:
        content = self._load()
        if content is None:
            return
        ended = False
        while content and not ended:  # the channel's address may wrap
            taken, ended = self._c.dma.give(content)
            content = content[taken:]
        self._next(ended)

    def _from_memory(self) -> None:
        size, content, ended = FORMAT_ENTRY if self._code == r.FORMAT else SECTOR, b"", False
        while len(content) < size and not ended:
            part, ended = self._c.dma.take(size - len(content))
            content += part
        if self._store(content):
            self._next(ended)

    def _verified(self) -> None:
        if self._load() is None:
            return
        s = self._c.s
        if s.sector[3]:
            s.sector[3] -= 1
            self._next(s.sector[3] == 0)
        else:
            self._next(s.sector[2] == s.command[6])

    def _start_pio(self) -> None:
        """Have the host read or write the current sector byte by byte."""
        s = self._c.s
        if self._writes:
            s.buffer, s.phase = bytearray(FORMAT_ENTRY if self._code == r.FORMAT else SECTOR), r.FROM_HOST
        else:
            content = self._load()
            if content is None:
                return
            s.buffer, s.phase = bytearray(content), r.TO_HOST
        s.position = 0
        self._c.interrupt()

    def moved(self) -> None:
        """The host has moved the buffer's last byte."""
        s = self._c.s
        s.phase = r.EXECUTING
        if not self._writes or self._store(bytes(s.buffer)):
            self._next(ended=False)
            self.go_on()

    def _next(self, ended: bool) -> None:
        """Behind a sector: the next one, unless ``ended`` (terminal count) or at the end of the track."""
        s = self._c.s
        cylinder, head, sector = self._progress
        if self._code == r.FORMAT:
            s.sector[2] += 1
            s.sector[3] -= 1
            if s.sector[3] <= 0 or ended:
                s.sector[3] = 0
                self.end(Progress(cylinder, head, sector), 0)
            return
        other_side = s.command[0] & r.MULTI_TRACK and head == 0
        last = sector >= s.command[6]
        if other_side and self._medium is not None and sector == self._medium.geometry.sectors:
            last = True  # SeaBIOS names an end behind the track's last sector, and expects head 1 there, as under QEMU
        following = Progress(cylinder, head, min(sector + 1, 255))
        if last:
            following = (
                Progress(cylinder, 1, 1)
                if other_side
                else Progress(min(cylinder + 1, 255), 0 if s.command[0] & r.MULTI_TRACK else head, 1)
            )
        if ended:
            self.end(following, 0)
        elif last and not other_side:
            self.end(following, r.ST0_ABNORMAL, r.ST1_END)
        else:
            s.sector[:3] = following

    def end(self, progress: Progress, status: int, status_1: int = 0, status_2: int = 0) -> None:
        """The command is over: seven result bytes, and the interrupt."""
        select = self._c.s.command[1] & 7
        if self._code != r.FORMAT and self._c.s.sector:
            select = select & 3 | self._c.s.sector[1] << 2 & 4
        self._c.finish(bytes((status | select, status_1, status_2, *progress, r.SECTOR_CODE)))
        self._c.interrupt()
