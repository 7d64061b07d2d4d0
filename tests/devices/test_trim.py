"""DATA SET MANAGEMENT: what a guest needs no more goes back to the host, and nothing else does."""

from __future__ import annotations

import random
import struct

import pytest

from hypervisor.backends import overlay
from hypervisor.backends.disk_image import ImageMedium
from hypervisor.backends.image_source import BytesSource
from hypervisor.bus import DiskLimits
from hypervisor.devices.ide import AtaDisk
from hypervisor.devices.ide import ata_registers as r
from tests.devices.ide import IMAGE, SECTORS
from tests.devices.test_bus_master import EOT, Machine

READY = r.DRDY | r.DSC
BLOCK_SECTORS = overlay.BLOCK // 512


class Trimming(Machine):
    def __init__(self) -> None:
        super().__init__()
        drive = self.channel.drives[0]
        assert drive is not None and isinstance(drive.medium, ImageMedium)
        self.drive, self.medium = drive, drive.medium

    def trim(self, *ranges: tuple[int, int], features: int = r.TRIM, count: int = 1) -> int:
        content = b"".join(struct.pack("<Q", first | length << 48) for first, length in ranges)
        self.memory.write(0x8000, content.ljust(512, b"\0"))
        self.table((0x8000, EOT | 512))
        self.command(r.DATA_SET, 0, count, features, wide=True)
        self.start(0)
        return self.status

    @property
    def written(self) -> int:
        source = self.medium.source
        assert isinstance(source, overlay.Overlay)
        return source.written


def test_what_is_trimmed_is_given_back_and_the_rest_stays() -> None:
    chance = random.Random(8)
    for _ in range(30):
        one = Trimming()
        model = bytearray(chance.randbytes(SECTORS * 512))
        one.medium.write(0, bytes(model))
        ranges = [(first := chance.randrange(SECTORS), chance.randrange(SECTORS - first)) for _ in range(4)]
        assert one.trim(*ranges) == READY and one.interrupts == 1
        gone: set[int] = set()
        for first, count in ranges:
            gone |= {block for block in range(SECTORS // BLOCK_SECTORS + 1)
                     if first <= block * BLOCK_SECTORS and (block + 1) * BLOCK_SECTORS <= first + count}  # fmt: skip
        for block in gone:
            at = block * overlay.BLOCK
            model[at : at + overlay.BLOCK] = IMAGE[at : at + overlay.BLOCK]
        assert one.medium.read(0, SECTORS) == model
        assert one.written == (-(-SECTORS // BLOCK_SECTORS) - len(gone)) * overlay.BLOCK


def test_what_is_no_trim_is_refused_and_gives_nothing_back() -> None:
    one = Trimming()
    one.medium.write(0, bytes(SECTORS * 512))
    before = one.written
    for wrong, error in (
        (one.trim((0, 8), (SECTORS - 7, 8)), r.IDNF),
        (one.trim(((1 << 48) - 1, 1)), r.IDNF),
        (one.trim((0, 8), features=0), r.ABRT),
        (one.trim((0, 8), count=2), r.ABRT),
        (one.trim((0, 8), count=0), r.ABRT),
    ):
        assert wrong == READY | r.ERR and error and one.written == before
    assert one.trim((0, 0)) == READY and one.written == before


def test_identify_says_whether_it_is_there() -> None:
    class Whole(BytesSource):
        writable = True

    words = {}
    for thin in (True, False):
        one = Trimming()
        if not thin:
            whole = ImageMedium(Whole(IMAGE), SECTORS, one.medium.geometry)
            one.channel.drives[0] = one.drive = AtaDisk(whole)
            one.channel.reset()
        one.command(r.IDENTIFY)
        words[thin] = struct.unpack("<256H", one.words())
        assert one.trim((0, 8)) == (READY if thin else READY | r.ERR)
    assert (words[True][169], words[True][105], words[True][80]) == (1, 1, 0xF0)
    assert (words[False][169], words[False][105], words[False][80]) == (0, 0, 0x70)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_it_fails_as_a_write_does(share: float) -> None:
    one = Trimming()
    one.drive.limits = DiskLimits(write_errors=share)  # type: ignore[attr-defined]
    assert one.trim((0, 8)) == (READY | r.ERR | r.DF if share else READY)
