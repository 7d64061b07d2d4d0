"""The bus master of one PIIX IDE controller: both channels' registers, and what moves their data.

Source: Intel 82371SB (PIIX3) data sheet (290550), 2.7 and 3.5; "Programming Interface for Bus Master IDE Controller"
1.0. Descriptors are read from guest memory, so nothing in them is trusted: a transfer ends with the table's 64 KiB.

The first burst is moved at once, each further one takes its time: what a guest can have the host copy is bounded by the
time that it has.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import partial
from typing import Any

from hypervisor.bus import Clock, Dma
from hypervisor.devices.ide.channel import IdeChannel
from hypervisor.devices.ide.drive import Phase
from hypervisor.devices.parts.common import Register
from hypervisor.devices.parts.device_state import adopt
from hypervisor.state import InRecord, deadline, flag, number, parts, record, u8

SIZE = 16
"""Bytes of the register window: eight of each channel."""

COMMAND, STATUS, TABLE = 0, 2, 4
REGISTERS = (
    Register(COMMAND, "BMICX", "rw", "bit 0: start; bit 3: from the drive to memory"),
    Register(STATUS, "BMISX", "rw", "bit 0: active; 1: error; 2: interrupt; 5, 6: drives were set up for DMA"),
    Register(TABLE, "BMIDTPX", "rw", "where the descriptor table is, 4-byte aligned"),
)

START, TO_MEMORY = 0x01, 0x08
ACTIVE, ERROR, INTERRUPT, CAPABLE = 0x01, 0x02, 0x04, 0x60
ENTRY = 8
"""Bytes of a descriptor: address, byte count (0: 64 KiB), end of table in bit 31."""
TABLE_SIZE = 64 << 10
END_OF_TABLE = 1 << 31
BURST = 64 << 10
"""Bytes that are moved at once."""
BURST_NS = 500_000
"""Time of a burst behind the first: 131 MB a second, the most that PCI moves."""


@record
class ChannelMasterState:
    """The registers of one channel, and how far its table has been worked through."""

    command: int = u8()
    status: int = u8()
    table: int = number(0, 0xFFFFFFFC)
    entry: int = number(0, TABLE_SIZE)
    """Offset of the next descriptor in the table."""
    address: int = number(0, 1 << 33)
    size: int = number(0, TABLE_SIZE)
    """What is left of the current descriptor."""
    last: bool = flag()
    due: int = deadline()
    """When the next burst is moved; negative: none waits for its time."""


@record
class BusMasterState:
    """Both channels."""

    channels: list[ChannelMasterState] = parts(ChannelMasterState, 2)


class BusMaster(InRecord[BusMasterState]):
    """The bus master. It listens to its channels' interrupts and moves their data in ``memory``.

    Data are moved when both sides are ready.
    """

    def __init__(self, memory: Dma, channels: Sequence[IdeChannel], clock: Clock, name: str = "bmide") -> None:
        self.name = name
        self._memory = memory
        self._clock = clock
        self._alarms = [clock.timer(name, f"burst{number_}", partial(self._go_on, number_)) for number_ in range(2)]
        self._channels = list(channels)
        self._s = BusMasterState()
        for number_, channel in enumerate(self._channels):
            for drive in channel.drives:
                if drive is not None:
                    drive.dma_ready = partial(self._move, number_)

    def interrupt(self, channel: int, level: bool) -> None:
        """The channel's interrupt line changes; a rising edge sets the status bit."""
        if level:
            self._s.channels[channel].status |= INTERRUPT

    # ---- device contract

    def reset(self) -> None:
        """Both channels are stopped."""
        self._take(BusMasterState())

    def restore(self, state: Any) -> None:
        """Take over ``state``; raises `DeviceError` if it is not one of this device."""
        self._take(adopt(self.name, BusMasterState, state))

    def _take(self, state: BusMasterState) -> None:
        self._s = state
        for alarm, channel in zip(self._alarms, state.channels, strict=True):
            alarm.clear()
            if channel.due >= 0:
                alarm.set(channel.due)

    def read(self, offset: int, size: int) -> int:
        """See `hypervisor.bus.Device.read`."""
        image = b"".join(struct.pack("<BxBxI", s.command, s.status, s.table) for s in self._s.channels)
        return int.from_bytes(image[offset : offset + size].ljust(size, b"\xff"), "little")

    def write(self, offset: int, size: int, value: int) -> None:
        """See `hypervisor.bus.Device.write`."""
        for at in range(offset, min(offset + size, SIZE)):
            self._write(at >> 3, at & 7, value & 0xFF)
            value >>= 8

    def _write(self, channel: int, register: int, value: int) -> None:
        s = self._s.channels[channel]
        if register == COMMAND:
            self._command(channel, value)
        elif register == STATUS:
            s.status = s.status & ACTIVE | value & CAPABLE | s.status & ~value & (ERROR | INTERRUPT)
        elif register >= TABLE:
            shift = 8 * (register - TABLE)
            s.table = (s.table & ~(0xFF << shift) | value << shift) & 0xFFFFFFFC

    def _command(self, channel: int, value: int) -> None:
        s = self._s.channels[channel]
        started = value & START and not s.command & START
        s.command = value & (START | TO_MEMORY)
        if not value & START:
            s.status &= ~ACTIVE
            s.due = -1
            self._alarms[channel].clear()
        elif started:
            s.status |= ACTIVE
            s.entry, s.size, s.last = 0, 0, False
            self._move(channel)

    # ---- moving data

    def _go_on(self, channel: int) -> None:
        self._s.channels[channel].due = -1
        self._move(channel)

    def _move(self, channel: int) -> None:
        """Move what the drive and the descriptors allow, a burst at most."""
        s = self._s.channels[channel]
        drive = self._channels[channel].selected if channel < len(self._channels) else None
        if drive is None or not s.status & ACTIVE or drive.s.phase not in (Phase.DMA_IN, Phase.DMA_OUT) or s.due >= 0:
            return
        to_memory = drive.s.phase == Phase.DMA_IN
        if to_memory != bool(s.command & TO_MEMORY):
            return  # the wrong direction: nothing moves, and the host's timeout resets the drive
        left = BURST
        while drive.s.phase in (Phase.DMA_IN, Phase.DMA_OUT):
            if left <= 0:
                s.due = self._clock.now_ns + BURST_NS
                self._alarms[channel].set(s.due)
                return
            if not s.size and not self._next_descriptor(s):
                s.status &= ~ACTIVE  # the table is shorter than the transfer
                return
            if to_memory:
                content = drive.dma_read(min(s.size, left))
                self._memory.write(s.address, content)
                moved = len(content)
            else:
                moved = drive.dma_write(self._memory.read(s.address, min(s.size, left)))
            s.address += moved
            s.size -= moved
            left -= max(moved, 1)
        if not s.size and s.last:
            s.status &= ~ACTIVE

    def _next_descriptor(self, s: ChannelMasterState) -> bool:
        if s.last or s.entry + ENTRY > TABLE_SIZE:
            return False
        address, word = struct.unpack("<II", self._memory.read(s.table + s.entry & 0xFFFFFFFF, ENTRY))
        s.entry += ENTRY
        s.address, s.size, s.last = address & ~1, word & 0xFFFE or TABLE_SIZE, bool(word & END_OF_TABLE)
        return True
