"""ATA hard disks, driven as a guest's driver does it."""

from __future__ import annotations

import struct

import pytest

from hypervisor.devices.ide import ata_registers as r
from tests.devices.ide import IMAGE, SECTORS, BrokenMedium, Driver, disk

READY = r.DRDY | r.DSC


def sectors(first: int, count: int = 1) -> bytes:
    return IMAGE[first * 512 : (first + count) * 512]


def driver() -> Driver:
    one = Driver(disk())
    one.select()
    return one


def test_identify() -> None:
    one = driver()
    assert one.command(r.IDENTIFY) == READY | r.DRQ
    words = struct.unpack("<256H", one.words())
    assert one.status == READY and one.interrupts == 1
    assert (words[60] | words[61] << 16, words[100]) == (SECTORS, SECTORS)
    assert words[49] & 0x300 == 0x300 and words[83] & 0x7400 == 0x7400
    assert struct.pack(">20H", *words[27:47]).rstrip() == b"Virtual disk"
    assert struct.pack(">10H", *words[10:20]).strip() == b"HV00001"


@pytest.mark.parametrize(("first", "count"), [(0, 1), (7, 3), (SECTORS - 256, 256)])
@pytest.mark.parametrize(("code", "wide"), [(r.READ_SECTORS, False), (r.READ_EXT, True)])
def test_reading_by_pio_interrupts_before_each_sector(code: int, wide: bool, first: int, count: int) -> None:
    one = driver()
    one.command(code, first, count, wide=wide)
    assert one.blocks() == sectors(first, count)
    assert (one.status, one.interrupts) == (READY, count)


def test_lba48_reaches_beyond_2_tib() -> None:
    one = Driver(disk(sectors=(1 << 33) + 8))
    one.select()
    assert one.command(r.READ_EXT, (1 << 33) + 7, wide=True) == READY | r.DRQ
    assert one.blocks() == bytes(512)
    assert one.command(r.READ_NATIVE_MAX_EXT) == READY
    one.channel.write(r.CONTROL, 1, r.HOB)
    assert [one.channel.read(register, 1) for register in (r.LOW, r.MID, r.HIGH)] == [0, 2, 0]


def test_cylinders_heads_and_sectors() -> None:
    one = driver()
    one.select(low=0xA0)
    for register, value in ((r.COUNT, 2), (r.LOW, 63), (r.MID, 0), (r.HIGH, 0), (r.DEVICE, 0xA3)):
        one.channel.write(register, 1, value)
    one.channel.write(r.COMMAND, 1, r.READ_SECTORS)
    assert one.blocks() == sectors(3 * 63 + 62, 2)
    one.channel.write(r.COUNT, 1, 10)
    one.channel.write(r.DEVICE, 1, 0xA1)  # two heads of ten sectors
    one.channel.write(r.COMMAND, 1, r.INITIALIZE_PARAMETERS)
    for register, value in ((r.COUNT, 1), (r.LOW, 4), (r.MID, 3), (r.DEVICE, 0xA1)):
        one.channel.write(register, 1, value)
    one.channel.write(r.COMMAND, 1, r.READ_SECTORS)
    assert one.blocks() == sectors(3 * 20 + 10 + 3)
    one.channel.write(r.LOW, 1, 11)
    one.channel.write(r.COMMAND, 1, r.READ_SECTORS)
    assert (one.status, one.error) == (READY | r.ERR, r.IDNF)


def test_blocks_of_several_sectors() -> None:
    one = driver()
    assert one.command(r.READ_MULTIPLE) == READY | r.ERR and one.error == r.ABRT
    assert one.command(r.SET_MULTIPLE, count=3) == READY | r.ERR
    assert one.command(r.SET_MULTIPLE, count=8) == READY
    one.interrupts = 0
    one.command(r.READ_MULTIPLE, 5, 20)
    content = one.words(8 * 256)
    assert (one.status, one.interrupts) == (READY | r.DRQ, 2)
    content += one.words(8 * 256)
    assert (one.status, one.interrupts) == (READY | r.DRQ, 3)
    assert content + one.words(4 * 256) == sectors(5, 20)
    assert (one.status, one.interrupts) == (READY, 3)
    one.command(r.WRITE_MULTIPLE, 100, 9)
    one.put(b"A" * 8 * 512)
    assert one.status == READY | r.DRQ
    one.put(b"B" * 512)
    assert one.status == READY
    assert one.channel.drives[0].medium.read(99, 11) == sectors(99) + b"A" * 4096 + b"B" * 512 + sectors(109)


@pytest.mark.parametrize(("code", "wide"), [(r.WRITE_SECTORS, False), (r.WRITE_EXT, True)])
def test_writing_by_pio_interrupts_behind_each_sector(code: int, wide: bool) -> None:
    one = driver()
    assert one.command(code, 10, 2, wide=wide) == READY | r.DRQ
    assert one.interrupts == 0
    one.put(b"x" * 512)
    assert (one.status, one.interrupts) == (READY | r.DRQ, 1)
    one.put(b"y" * 512)
    assert (one.status, one.interrupts) == (READY, 2)
    one.command(r.READ_SECTORS, 9, 4)
    assert one.blocks() == sectors(9) + b"x" * 512 + b"y" * 512 + sectors(12)


def test_32_bit_accesses_and_strings_move_the_same_bytes() -> None:
    one = driver()
    one.command(r.READ_SECTORS, 3, 2)
    assert one.channel.read(r.DATA, 4) == struct.unpack("<I", sectors(3)[:4])[0]
    assert one.channel.read_string(r.DATA, 2, 1000) == sectors(3)[4:]
    assert one.channel.read_string(r.STATUS, 1, 5) == b""
    assert one.channel.read_string(r.DATA, 4, 2) == sectors(4)[:8]
    one.command(r.WRITE_SECTORS, 3, 2)
    one.channel.write(r.DATA, 4, 0x31323334)
    assert one.channel.write_string(r.DATA, 2, b"z" * 1000) == 508
    assert one.channel.write_string(r.DATA, 2, b"z" * 512) == 512
    assert (one.status, one.channel.write_string(r.DATA, 2, b"z" * 512)) == (READY, 0)
    one.command(r.READ_SECTORS, 3, 1)
    assert one.blocks() == b"4321" + b"z" * 508


@pytest.mark.parametrize(
    ("code", "lba", "count", "error"),
    [
        (r.READ_SECTORS, SECTORS, 1, r.IDNF),
        (r.READ_SECTORS, SECTORS - 1, 2, r.IDNF),
        (r.WRITE_SECTORS, SECTORS - 255, 0, r.IDNF),  # 0 is 256
        (r.VERIFY, 1 << 27, 1, r.IDNF),
        (r.PACKET, 0, 1, r.ABRT),
        (r.IDENTIFY_PACKET, 0, 1, r.ABRT),
        (r.NOP, 0, 1, r.ABRT),
        (0xFF, 0, 1, r.ABRT),
        (r.INITIALIZE_PARAMETERS, 0, 0, r.ABRT),
    ],
)
def test_errors(code: int, lba: int, count: int, error: int) -> None:
    one = driver()
    assert one.command(code, lba, count) == READY | r.ERR
    assert (one.error, one.interrupts) == (error, 1)
    assert one.command(r.READ_SECTORS, 1) == READY | r.DRQ  # and it goes on working


def test_what_the_host_cannot_do_is_an_error_of_the_disk() -> None:
    one = Driver(BrokenMedium())
    one.select()
    assert one.command(r.READ_SECTORS, 0x23) == READY | r.ERR
    assert (one.error, one.channel.read(r.LOW, 1)) == (r.UNC, 0x23)
    assert one.command(r.VERIFY) == READY | r.ERR
    one.command(r.WRITE_SECTORS)
    one.put(bytes(512))
    assert one.status == READY | r.ERR | r.DF
    assert one.command(r.FLUSH) == READY | r.ERR | r.DF


def test_features_power_and_the_rest() -> None:
    one = driver()
    assert one.command(r.SET_FEATURES, count=r.PIO_FLOW | 4, features=r.TRANSFER_MODE) == READY
    assert one.command(r.SET_FEATURES, count=r.MULTIWORD_DMA | 3, features=r.TRANSFER_MODE) == READY | r.ERR
    assert one.command(r.SET_FEATURES, features=r.DISABLE_CACHE) == READY
    assert one.command(r.SET_FEATURES, features=0x99) == READY | r.ERR
    one.command(r.IDENTIFY)
    words = struct.unpack("<256H", one.words())
    assert words[85] & 0x20 == 0 and words[63] == 7
    for code in (r.FLUSH, r.FLUSH_EXT, r.STANDBY_NOW, 0x10, 0x70):
        assert one.command(code) == READY
    assert one.command(r.VERIFY, 4, 100) == READY
    assert one.command(r.CHECK_POWER, count=3) == READY and one.channel.read(r.COUNT, 1) == 0xFF
    assert one.command(r.READ_NATIVE_MAX) == READY
    assert one.channel.read(r.LOW, 1) | one.channel.read(r.MID, 1) << 8 == SECTORS - 1


def test_the_overlay_is_bounded_and_a_full_one_is_a_write_error() -> None:
    medium = disk()
    medium.source._limit = 2  # type: ignore[attr-defined]
    one = Driver(medium)
    one.select()
    for lba, status in ((0, READY), (8, READY), (16, READY | r.ERR | r.DF), (9, READY)):
        one.command(r.WRITE_SECTORS, lba)
        one.put(b"q" * 512)
        assert one.status == status
