"""A driver in Python for an IDE channel, as a guest's would be."""

from __future__ import annotations

import random
import struct

from hypervisor.backends import disk_image
from hypervisor.backends.disk_image import ImageMedium
from hypervisor.backends.image_source import BytesSource
from hypervisor.backends.overlay import Overlay
from hypervisor.bus import Line
from hypervisor.devices.ide import AtaDisk, Cdrom, IdeChannel
from hypervisor.devices.ide import ata_registers as r

SECTORS = 300
IMAGE = random.Random(13).randbytes(SECTORS * 512)
CD_SECTORS = 80
CD_IMAGE = random.Random(14).randbytes(CD_SECTORS * 2048)


def disk(image: bytes = IMAGE, sectors: int | None = None) -> ImageMedium:
    """A disk of just as many sectors as the image has."""
    medium = disk_image.disk(Overlay(BytesSource(image)))
    medium.sectors = len(image) // 512 if sectors is None else sectors
    return medium


def cd(image: bytes = CD_IMAGE) -> ImageMedium:
    return disk_image.cdrom(image)


class BrokenMedium(ImageMedium):
    """What the host cannot read or write any more."""

    def __init__(self, sectors: int = SECTORS, sector_size: int = 512) -> None:
        good = disk()
        super().__init__(good.source, sectors, good.geometry, sector_size=sector_size)

    def read(self, first: int, count: int) -> bytes:
        raise OSError(5, "Input/output error")

    def write(self, first: int, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    flush = property(lambda self: lambda: self.write(0, b""))  # type: ignore[assignment]


class Driver:
    """Reads and writes the registers of a channel, and counts its interrupts."""

    def __init__(self, master: ImageMedium | None = None, slave: ImageMedium | None = None) -> None:
        drives = [self._drive(medium) for medium in (master, slave)]
        self.interrupts = 0
        self.device = 0xA0
        self.line = Line("irq", self._changed)
        self.channel = IdeChannel(self.line, drives)

    @staticmethod
    def _drive(medium: ImageMedium | None) -> AtaDisk | Cdrom | None:
        if medium is None:
            return None
        return Cdrom(medium) if medium.sector_size == 2048 else AtaDisk(medium)

    def _changed(self, level: bool) -> None:
        self.interrupts += level

    def select(self, slave: bool = False, low: int = 0xE0) -> None:
        self.device = low | r.SLAVE * slave
        self.channel.write(r.DEVICE, 1, self.device)

    def command(self, code: int, lba: int = 0, count: int = 1, features: int = 0, *, wide: bool = False) -> int:
        """Execute a command with LBA28, or LBA48 if ``wide``; the status."""
        write = self.channel.write
        if wide:
            write(r.FEATURES, 1, features >> 8)
            for register, value in ((r.COUNT, count >> 8), (r.LOW, lba >> 24), (r.MID, lba >> 32), (r.HIGH, lba >> 40)):
                write(register, 1, value & 0xFF)
        else:
            write(r.DEVICE, 1, self.device & 0xF0 | lba >> 24)
        write(r.FEATURES, 1, features & 0xFF)
        for register, value in ((r.COUNT, count), (r.LOW, lba), (r.MID, lba >> 8), (r.HIGH, lba >> 16)):
            write(register, 1, value & 0xFF)
        write(r.COMMAND, 1, code)
        return self.status

    @property
    def status(self) -> int:
        return self.channel.read(r.STATUS, 1)

    @property
    def error(self) -> int:
        return self.channel.read(r.ERROR, 1)

    def words(self, count: int = 256) -> bytes:
        return b"".join(struct.pack("<H", self.channel.read(r.DATA, 2)) for _ in range(count))

    def blocks(self, size: int = 512) -> bytes:
        """Read blocks while there are any; each comes with an interrupt."""
        content = b""
        while self.status & r.DRQ:
            content += self.words(size // 2)
        return content

    def put(self, content: bytes) -> None:
        for (word,) in struct.iter_unpack("<H", content):
            self.channel.write(r.DATA, 2, word)

    def packet(self, packet: bytes, limit: int = 0xFFFE, *, dma: bool = False) -> int:
        """Send a packet; the status behind it."""
        write = self.channel.write
        for register, value in ((r.FEATURES, int(dma)), (r.MID, limit & 0xFF), (r.HIGH, limit >> 8)):
            write(register, 1, value)
        write(r.COMMAND, 1, r.PACKET)
        assert self.status & r.DRQ and self.channel.read(r.COUNT, 1) == 1
        self.put(packet.ljust(12, b"\0"))
        return self.status

    def answer(self) -> bytes:
        """The data that a packet brings, in the blocks that the drive announces."""
        content = b""
        while self.status & r.DRQ:
            assert self.channel.read(r.COUNT, 1) == r.TO_HOST
            size = self.channel.read(r.MID, 1) | self.channel.read(r.HIGH, 1) << 8
            content += self.words((size + 1) // 2)[:size]
        assert self.channel.read(r.COUNT, 1) == 3
        return content
