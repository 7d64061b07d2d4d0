"""An ATA hard disk (ATA/ATAPI-6, section 8)."""

from __future__ import annotations

import struct
from typing import ClassVar

from hypervisor.bus import UNLIMITED, DiskLimits, Geometry, Medium
from hypervisor.devices.ide import ata_registers as r
from hypervisor.devices.ide.drive import BUFFER, Drive, DriveState, Phase
from hypervisor.devices.ide.identify import identify_disk

SECTOR = 512
LBA48 = (1 << 48) - 1
MAX_MULTIPLE = 16
MAX_CYLINDERS = 16383
EXTENDED = frozenset(
    (r.READ_EXT, r.READ_DMA_EXT, r.READ_MULTIPLE_EXT, r.WRITE_EXT, r.WRITE_DMA_EXT, r.WRITE_MULTIPLE_EXT, r.VERIFY_EXT)
)
"""Commands with 48-bit addresses."""
MULTIPLES = frozenset((r.READ_MULTIPLE, r.READ_MULTIPLE_EXT, r.WRITE_MULTIPLE, r.WRITE_MULTIPLE_EXT))


COUNTED = frozenset((r.FLUSH, r.FLUSH_EXT, r.DATA_SET))
"""Commands that use the medium and move no sectors."""
MOVES = frozenset(("_read", "_write", "_read_dma", "_write_dma", "_verify"))
"""What commands that use sectors are carried out by."""


class AtaDisk(Drive):
    """A hard disk with LBA28, LBA48 and CHS addresses."""

    signature = r.SIGNATURE_ATA
    phases = Phase.ALL - {Phase.PACKET}
    commands: ClassVar[dict[int, str]] = {
        **dict.fromkeys((*r.RECALIBRATE, *r.SEEK), "done"),
        **dict.fromkeys((r.STANDBY_NOW, r.IDLE_NOW, r.STANDBY, r.IDLE, r.SLEEP), "done"),
        **dict.fromkeys((r.READ_SECTORS, r.READ_SECTORS_OLD, r.READ_EXT), "_read"),
        **dict.fromkeys((r.READ_MULTIPLE, r.READ_MULTIPLE_EXT), "_read"),
        **dict.fromkeys((r.WRITE_SECTORS, r.WRITE_SECTORS_OLD, r.WRITE_EXT), "_write"),
        **dict.fromkeys((r.WRITE_MULTIPLE, r.WRITE_MULTIPLE_EXT), "_write"),
        **dict.fromkeys((r.READ_DMA, r.READ_DMA_OLD, r.READ_DMA_EXT), "_read_dma"),
        **dict.fromkeys((r.WRITE_DMA, r.WRITE_DMA_OLD, r.WRITE_DMA_EXT), "_write_dma"),
        **dict.fromkeys((r.VERIFY, r.VERIFY_OLD, r.VERIFY_EXT), "_verify"),
        **dict.fromkeys((r.FLUSH, r.FLUSH_EXT), "_flush"),
        r.DATA_SET: "_data_set",
        r.READ_NATIVE_MAX: "_native_max",
        r.READ_NATIVE_MAX_EXT: "_native_max_ext",
        r.INITIALIZE_PARAMETERS: "_initialize_parameters",
        r.SET_MULTIPLE: "_set_multiple",
        r.CHECK_POWER: "_check_power",
        r.IDENTIFY: "_identify",
        r.IDENTIFY_PACKET: "abort",
        r.SET_FEATURES: "_set_features",
    }

    def __init__(self, medium: Medium, serial: str = "HV00001", limits: DiskLimits = UNLIMITED) -> None:
        self.serial = serial
        self.limits = limits
        self.limited = limits.limited
        self.thin: bool = getattr(medium, "thin", False)
        """Whether the medium takes sectors back."""
        cylinders = min(max(medium.sectors // (16 * 63), 1), MAX_CYLINDERS)
        self.default = Geometry(cylinders, 16, 63)
        """What IDENTIFY tells of cylinders, heads and sectors; the BIOS may show another translation."""
        super().__init__(medium)

    def power_on(self) -> DriveState:
        """Ready, with the signature of a disk."""
        return DriveState(status=r.READY, error=r.DIAGNOSTIC_PASSED, count=1, low=1)

    def sign(self) -> None:
        """See `Drive.sign`."""
        super().sign()
        self.s.status = r.READY

    @property
    def translation(self) -> Geometry:
        """The current meaning of cylinders, heads and sectors."""
        s = self.s
        cylinders = min(max(self.medium.sectors // (s.heads * s.sectors), 1), 0xFFFF)
        return Geometry(cylinders, s.heads, s.sectors)

    # ---- limits

    def delay_ns(self, code: int) -> int:
        """See `Drive.delay_ns`: commands that use the medium count, by the sectors that they ask for."""
        s = self.s
        if not self.limited or not (self.commands.get(code) in MOVES or code in COUNTED):
            return 0
        sectors = 0 if code in COUNTED else s.count or 0x10000 if code in EXTENDED else s.count & 0xFF or 0x100
        return self.limits.begin(s.pace, self.now_ns(), sectors * SECTOR)

    def begun(self, size: int, writes: bool) -> int:
        """Somebody else (a BIOS) uses the medium for so many bytes: in how many nanoseconds that may begin. Raises
        `OSError` if it is to fail.
        """
        delay_ns = self.limits.begin(self.s.pace, self.now_ns(), size)
        self.limits.check(self.s.pace, writes=writes)
        return delay_ns

    # ---- addresses

    def _address(self) -> bool:
        """Take the first sector and the count from the registers; False if they are not on the disk."""
        s = self.s
        if s.command in EXTENDED:
            s.lba = sum(
                (reg & 0xFF) << 8 * n | (reg >> 8) << 24 + 8 * n for n, reg in enumerate((s.low, s.mid, s.high))
            )
            s.left = s.count or 0x10000
        else:
            low, mid, high = s.low & 0xFF, s.mid & 0xFF, s.high & 0xFF
            s.left = s.count & 0xFF or 0x100
            if s.device & r.LBA:
                s.lba = (s.device & r.HEAD) << 24 | high << 16 | mid << 8 | low
            else:
                lba = self.translation.lba(high << 8 | mid, s.device & r.HEAD, low)
                if lba is None:
                    return False
                s.lba = lba
        return s.lba + s.left <= self.medium.sectors

    def _failed(self, error: int) -> None:
        """A transfer failed at the current sector: its address goes to the registers."""
        s = self.s
        if s.command in EXTENDED:
            s.low, s.mid, s.high = (s.lba >> 8 * n & 0xFF | (s.lba >> 24 + 8 * n & 0xFF) << 8 for n in range(3))
        elif s.device & r.LBA:
            s.low, s.mid, s.high = (s.lba >> 8 * n & 0xFF for n in range(3))
            s.device = s.device & ~r.HEAD | s.lba >> 24 & r.HEAD
        self.abort(error)

    def _block(self) -> int:
        return SECTOR * (self.s.multiple if self.s.command in MULTIPLES else 1)

    def _transfer(self) -> bool:
        """Whether a command that moves sectors can begin; if not, it has failed."""
        if self.s.command in MULTIPLES and not self.s.multiple:
            self.abort()
        elif not self._address():
            self._failed(r.IDNF)
        else:
            return True
        return False

    # ---- reading

    def more(self) -> bytes | None:
        """See `Drive.more`."""
        s = self.s
        count = min(s.left, BUFFER // SECTOR)
        if not count:
            return None
        try:
            self.limits.check(s.pace, writes=False)
            content = self.medium.read(s.lba, count)
        except OSError:
            self._failed(r.UNC)
            return None
        s.lba += count
        s.left -= count
        return content

    def completed(self) -> None:
        """A PIO read ends without an interrupt, one by DMA with it."""
        s = self.s
        by_dma = s.phase == Phase.DMA_IN
        s.phase, s.status = Phase.IDLE, r.READY
        if by_dma:
            self.interrupt()

    def _read(self) -> None:
        if self._transfer() and (content := self.more()) is not None:
            self.send(content, self._block())

    def _read_dma(self) -> None:
        if self._transfer() and (content := self.more()) is not None:
            self.s.buffer = bytearray(content)
            self.start_dma(Phase.DMA_IN)

    def _verify(self) -> None:
        """That the first of the sectors can be read says that the image is there."""
        if self._transfer() and self.more() is not None:
            self.s.left = 0
            self.done()

    # ---- writing

    def _write(self) -> None:
        if self._transfer():
            self._expect(self._block())

    def _expect(self, size: int) -> None:
        s = self.s
        count = min(s.left, size // SECTOR)
        s.left -= count
        self.receive(count * SECTOR)

    def _write_dma(self) -> None:
        if self._transfer():
            self._expect(BUFFER)
            self.start_dma(Phase.DMA_OUT)

    def stored(self) -> None:
        """See `Drive.stored`: the block goes to the medium, and the host is asked for the next."""
        s = self.s
        phase = s.phase
        if s.command == r.DATA_SET:
            self._trim()
            return
        try:
            self.limits.check(s.pace, writes=True)
            self.medium.write(s.lba, bytes(s.buffer))
        except OSError:
            self._write_failed()
            return
        s.lba += len(s.buffer) // SECTOR
        if not s.left:
            self.done()
        elif phase == Phase.DMA_OUT:
            self._expect(BUFFER)
            s.phase = Phase.DMA_OUT
        else:
            self._expect(self._block())
            self.interrupt()

    def _write_failed(self) -> None:
        """The host could not store it: a device fault, which Linux and others report as a write error."""
        self._failed(r.ABRT)
        self.s.status |= r.DF

    def _flush(self) -> None:
        try:
            self.limits.check(self.s.pace, writes=True)
            self.medium.flush()
        except OSError:
            self._write_failed()
        else:
            self.done()

    def _data_set(self) -> None:
        """TRIM, of one block of ranges (ATA8-ACS, 7.10)."""
        s = self.s
        if not self.thin or s.features & 0xFF != r.TRIM or s.count & 0xFFFF != 1:
            self.abort()
            return
        s.lba = s.left = 0
        self.receive(SECTOR)
        self.start_dma(Phase.DMA_OUT)

    def _trim(self) -> None:
        """The ranges have come: eight bytes each, six of the first sector and two of how many, none for no range."""
        entries = [entry for (entry,) in struct.iter_unpack("<Q", bytes(self.s.buffer)) if entry >> 48]
        if any((entry & LBA48) + (entry >> 48) > self.medium.sectors for entry in entries):
            self.abort(r.IDNF)
            return
        try:
            self.limits.check(self.s.pace, writes=True)
            for entry in entries:
                self.medium.discard(entry & LBA48, entry >> 48)
        except OSError:
            self._write_failed()
        else:
            self.done()

    # ---- the rest

    def _identify(self) -> None:
        self.send(identify_disk(self), SECTOR)

    def _native_max(self) -> None:
        s, last = self.s, min(self.medium.sectors, 1 << 28) - 1
        s.low, s.mid, s.high = (last >> 8 * n & 0xFF for n in range(3))
        s.device = s.device & ~r.HEAD | last >> 24
        self.done()

    def _native_max_ext(self) -> None:
        s, last = self.s, self.medium.sectors - 1
        s.low, s.mid, s.high = (last >> 8 * n & 0xFF | (last >> 24 + 8 * n & 0xFF) << 8 for n in range(3))
        self.done()

    def _initialize_parameters(self) -> None:
        s = self.s
        if not s.count & 0xFF:
            self.abort()
            return
        s.heads, s.sectors = (s.device & r.HEAD) + 1, s.count & 0xFF
        self.done()

    def _set_multiple(self) -> None:
        count = self.s.count & 0xFF
        if count > MAX_MULTIPLE or count & count - 1:
            self.abort()
            return
        self.s.multiple = count
        self.done()

    def _check_power(self) -> None:
        self.s.count = r.ACTIVE
        self.done()

    def _set_features(self) -> None:
        s = self.s
        feature, value = s.features & 0xFF, s.count & 0xFF
        if feature == r.TRANSFER_MODE:
            modes = {r.PIO_DEFAULT: 1, r.PIO_FLOW: 4, r.MULTIWORD_DMA: 2, r.ULTRA_DMA: 5}
            if value & 7 > modes.get(value & ~7, -1):
                self.abort()
                return
            s.transfer_mode = value
        elif feature in (r.ENABLE_CACHE, r.DISABLE_CACHE):
            s.cache = int(feature == r.ENABLE_CACHE)
        elif feature not in (r.NO_LOOK_AHEAD, r.LOOK_AHEAD, r.KEEP_DEFAULTS, r.REVERT_DEFAULTS):
            self.abort()
            return
        self.done()
