"""An ATAPI CD-ROM drive: how packets and their data are moved (ATA/ATAPI-6, 8.25 and 9.8).

What the packets mean is in `mmc`.
"""

from __future__ import annotations

from typing import ClassVar

from hypervisor.bus import Medium
from hypervisor.devices.ide import ata_registers as r
from hypervisor.devices.ide import mmc
from hypervisor.devices.ide.drive import BUFFER, Drive, DriveState, Phase
from hypervisor.devices.ide.identify import identify_cdrom

PACKET_SIZE = 12
MOST = 0xFFFE
"""The largest even byte count."""
BY_DMA = 0x01
"""Bit of FEATURES in PACKET."""


class Cdrom(Drive):
    """A drive with a CD in it, or none, which is never changed."""

    signature = r.SIGNATURE_ATAPI
    phases = frozenset((Phase.IDLE, Phase.DATA_IN, Phase.DMA_IN, Phase.PACKET))
    commands: ClassVar[dict[int, str]] = {
        **dict.fromkeys((r.STANDBY_NOW, r.IDLE_NOW, r.STANDBY, r.IDLE, r.SLEEP, r.FLUSH), "done"),
        r.DEVICE_RESET: "_device_reset",
        r.PACKET: "_packet",
        r.IDENTIFY_PACKET: "_identify",
        r.SET_FEATURES: "_set_features",
        r.CHECK_POWER: "_check_power",
        r.IDENTIFY: "_not_ata",
        r.READ_SECTORS: "_not_ata",
    }

    def __init__(self, medium: Medium, serial: str = "HV00003") -> None:
        self.serial = serial
        super().__init__(medium)

    def power_on(self) -> DriveState:
        """The signature of a packet device, and a status of zero."""
        mid, high = self.signature
        return DriveState(error=r.DIAGNOSTIC_PASSED, count=1, low=1, mid=mid, high=high)

    def sign(self) -> None:
        """See `Drive.sign`."""
        super().sign()
        self.s.status = 0

    def problem(self, s: DriveState) -> str | None:
        """See `Drive.problem`."""
        if s.phase == Phase.PACKET and len(s.buffer) != PACKET_SIZE:
            return f"a packet of {len(s.buffer)} bytes"
        return super().problem(s)

    # ---- ATA commands

    def _device_reset(self) -> None:
        self.soft_reset()  # without an interrupt

    def _not_ata(self) -> None:
        """How a host learns that this is no disk: the command fails, and the signature is there."""
        self.sign()
        self.abort()

    def _identify(self) -> None:
        self.send(identify_cdrom(self.s, self.serial), 512)

    def _set_features(self) -> None:
        s = self.s
        if s.features & 0xFF == r.TRANSFER_MODE:
            s.transfer_mode = s.count & 0xFF
        self.done()

    def _check_power(self) -> None:
        self.s.count = r.ACTIVE
        self.done()

    def _packet(self) -> None:
        s = self.s
        s.block = max(min((s.high & 0xFF) << 8 | s.mid & 0xFF, MOST) & ~1, 0) or MOST
        self.receive(PACKET_SIZE, Phase.PACKET)
        s.count = r.COMMAND_DATA

    # ---- packets

    def stored(self) -> None:
        """See `Drive.stored`: the packet is there."""
        s = self.s
        packet = bytes(s.buffer)
        s.phase = Phase.IDLE
        if packet[0] != mmc.REQUEST_SENSE:
            s.sense = 0
        try:
            answer = mmc.execute(packet, self.medium, s.sense)
            if isinstance(answer, mmc.Sectors):
                s.lba, s.left = answer.first, answer.count
                content = self._sectors()
            else:
                content = answer
        except mmc.PacketError as error:
            self._fail(error.sense)
            return
        if packet[0] == mmc.REQUEST_SENSE:
            s.sense = 0
        if not content:
            self._succeed()
        elif s.features & BY_DMA:
            s.buffer = bytearray(content)
            s.count = r.TO_HOST
            self.start_dma(Phase.DMA_IN)
        else:
            self.send(content, s.block)

    def _sectors(self) -> bytes:
        s = self.s
        count = min(s.left, BUFFER // self.medium.sector_size)
        try:
            content = self.medium.read(s.lba, count) if count else b""
        except OSError as problem:
            raise mmc.PacketError(mmc.UNRECOVERED_READ) from problem
        s.lba += count
        s.left -= count
        return content

    def more(self) -> bytes | None:
        """See `Drive.more`."""
        if self.s.command != r.PACKET:
            return None
        try:
            return self._sectors() or None
        except mmc.PacketError as error:
            self._fail(error.sense)
            return None

    def block_ready(self) -> None:
        """See `Drive.block_ready`."""
        s = self.s
        if s.command == r.PACKET:
            size = s.end - s.position
            s.mid, s.high, s.count = size & 0xFF, size >> 8, r.TO_HOST

    def completed(self) -> None:
        """See `Drive.completed`: a packet ends with an interrupt of its own."""
        if self.s.command == r.PACKET:
            self._succeed()
        else:
            self.s.phase, self.s.status = Phase.IDLE, r.READY

    def _succeed(self) -> None:
        self.s.count = r.COMMAND_DATA | r.TO_HOST
        self.done()

    def _fail(self, sense: int) -> None:
        s = self.s
        s.sense = sense
        s.count = r.COMMAND_DATA | r.TO_HOST
        self.abort(sense >> 16 << 4 | r.ABRT)
