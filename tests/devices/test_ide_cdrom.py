"""The CD drive and its packets."""

from __future__ import annotations

import struct

import pytest

from hypervisor.backends import disk_image
from hypervisor.devices.ide import ata_registers as r
from hypervisor.devices.ide import mmc
from tests.devices.ide import CD_IMAGE, CD_SECTORS, BrokenMedium, Driver, cd

READY = r.DRDY | r.DSC


def driver() -> Driver:
    one = Driver(cd())
    one.select(low=0xA0)
    return one


def read_10(first: int, count: int) -> bytes:
    return struct.pack(">BBIBHB", mmc.READ_10, 0, first, 0, count, 0)


def read_12(first: int, count: int) -> bytes:
    return struct.pack(">BBIIBB", mmc.READ_12, 0, first, count, 0, 0)


def test_identify_packet_device() -> None:
    one = driver()
    assert one.command(r.IDENTIFY_PACKET) & r.DRQ
    words = struct.unpack("<256H", one.words())
    assert words[0] == 0x85C0
    assert struct.pack(">20H", *words[27:47]).rstrip() == b"Virtual CD-ROM"


@pytest.mark.parametrize("limit", [0xFFFE, 2048, 512, 100, 0, 0xFFFF])
@pytest.mark.parametrize("packet", [read_10(3, 40), read_12(3, 40)])
def test_reading_in_blocks_of_the_byte_count_limit(packet: bytes, limit: int) -> None:
    one = driver()
    assert one.packet(packet, limit) == READY | r.DRQ
    assert one.answer() == CD_IMAGE[3 * 2048 : 43 * 2048]
    assert one.status == READY


def test_read_cd_gives_user_data() -> None:
    one = driver()
    one.packet(bytes((mmc.READ_CD, 0, 0, 0, 0, 7, 0, 0, 2, 0x10)))
    assert one.answer() == CD_IMAGE[7 * 2048 : 9 * 2048]
    assert one.packet(bytes((mmc.READ_CD, 0, 0, 0, 0, 7, 0, 0, 2, 0xF8))) == READY | r.ERR


@pytest.mark.parametrize("operation", sorted(mmc.HANDLERS))
def test_an_empty_drive_is_not_ready_for_what_needs_a_cd(operation: int) -> None:
    one = Driver(disk_image.no_cd())
    one.select(low=0xA0)
    packet = bytes((operation, 0, 0, 0, 0, 0, 0, 0, 1, 0x10))
    status = one.packet(packet)
    if operation in mmc.OF_THE_MEDIUM:
        assert (status, one.error) == (READY | r.ERR, 0x24)
        one.packet(bytes((mmc.REQUEST_SENSE, 0, 0, 0, 18)))
        answer = one.answer()
        assert (answer[2], answer[12], answer[13]) == (0x02, 0x3A, 0)
    else:
        one.packet(bytes((mmc.REQUEST_SENSE, 0, 0, 0, 18)))
        assert one.answer()[2] != 0x02


def test_an_empty_drive_says_that_it_is() -> None:
    one = Driver(disk_image.no_cd())
    one.select(low=0xA0)
    one.packet(bytes((mmc.GET_EVENT_STATUS, 1, 0, 0, 16, 0, 0, 0, 8)))
    assert one.answer() == bytes((0, 6, 4, 16, 0, 0, 0, 0))
    one.packet(bytes((mmc.GET_CONFIGURATION, 0, 0, 0, 0, 0, 0, 0, 16)))
    assert one.answer()[6:8] == bytes(2)


def test_reading_nothing_succeeds() -> None:
    one = driver()
    assert one.packet(read_10(0, 0)) == READY


@pytest.mark.parametrize(
    ("packet", "sense"),
    [
        (read_10(CD_SECTORS, 1), mmc.OUT_OF_RANGE),
        (read_12(0, 0xFFFFFFFF), mmc.OUT_OF_RANGE),
        (b"\x2a", mmc.NO_SUCH_COMMAND),
        (bytes((mmc.MODE_SENSE_10, 0, 0x0E, 0, 0, 0, 0, 0, 255)), mmc.BAD_FIELD),
        (bytes((mmc.INQUIRY, 1, 0, 0, 96)), mmc.BAD_FIELD),
        (bytes((mmc.GET_EVENT_STATUS, 0, 0, 0, 16, 0, 0, 0, 8)), mmc.BAD_FIELD),
    ],
)
def test_errors_leave_a_sense_that_can_be_asked_for_once(packet: bytes, sense: int) -> None:
    one = driver()
    assert one.packet(packet) == READY | r.ERR
    assert one.error == sense >> 16 << 4 | r.ABRT
    one.packet(bytes((mmc.REQUEST_SENSE, 0, 0, 0, 18)))
    answer = one.answer()
    assert (len(answer), answer[0], answer[2] << 16 | answer[12] << 8 | answer[13]) == (18, 0x70, sense)
    one.packet(bytes((mmc.REQUEST_SENSE, 0, 0, 0, 18)))
    assert one.answer()[2] == 0


def test_a_cd_that_the_host_cannot_read() -> None:
    one = Driver(BrokenMedium(100, 2048))
    one.select(low=0xA0)
    assert one.packet(read_10(0, 1)) == READY | r.ERR
    assert one.channel.drives[0] is not None and one.channel.drives[0].s.sense == mmc.UNRECOVERED_READ


def ask(*packet: int) -> bytes:
    one = driver()
    one.packet(bytes(packet))
    return one.answer()


def test_what_the_drive_says_about_itself() -> None:
    assert ask(mmc.READ_CAPACITY) == struct.pack(">II", CD_SECTORS - 1, 2048)
    inquiry = ask(mmc.INQUIRY, 0, 0, 0, 36)
    assert (len(inquiry), inquiry[:2], inquiry[8:23]) == (36, b"\x05\x80", b"VIRTUAL CD-ROM ")
    assert ask(mmc.INQUIRY, 0, 0, 0, 5) == inquiry[:5]
    configuration = ask(mmc.GET_CONFIGURATION, 0, 0, 0, 0, 0, 0, 0, 255)
    assert struct.unpack_from(">IxxH", configuration) == (len(configuration) - 4, 8)
    assert ask(mmc.GET_CONFIGURATION, 2, 0, 3, 0, 0, 0, 0, 255)[8:] == bytes.fromhex("0003030429000000")
    assert ask(mmc.GET_EVENT_STATUS, 1, 0, 0, 16, 0, 0, 0, 8) == bytes((0, 6, 4, 16, 0, 2, 0, 0))
    assert ask(mmc.GET_EVENT_STATUS, 1, 0, 0, 2, 0, 0, 0, 8) == bytes((0, 2, 0x80, 16))
    mode = ask(mmc.MODE_SENSE_10, 0, 0x2A, 0, 0, 0, 0, 0, 128)
    assert (len(mode), mode[8:10]) == (28, b"\x2a\x12") and struct.unpack(">H", mode[:2])[0] == 26
    assert ask(mmc.READ_DISC_INFORMATION, 0, 0, 0, 0, 0, 0, 0, 34)[:4] == bytes((0, 32, 0x0E, 1))
    assert ask(mmc.MECHANISM_STATUS, 0, 0, 0, 0, 0, 0, 0, 0, 8) == bytes((0, 0, 0, 0, 0, 1, 0, 0))


def test_the_table_of_contents() -> None:
    toc = ask(mmc.READ_TOC, 0, 0, 0, 0, 0, 0, 0, 255)
    assert toc == struct.pack(">HBBBBBBIBBBBI", 18, 1, 1, 0, 0x14, 1, 0, 0, 0, 0x14, 0xAA, 0, CD_SECTORS)
    by_time = ask(mmc.READ_TOC, 2, 0, 0, 0, 0, 0xAA, 0, 255)
    assert by_time == bytes((0, 10, 1, 1, 0, 0x14, 0xAA, 0, 0, 0, 3, 5))  # 230 frames
    assert ask(mmc.READ_TOC, 0, 1, 0, 0, 0, 0, 0, 255) == bytes((0, 10, 1, 1, 0, 0x14, 1, 0, 0, 0, 0, 0))
    assert len(ask(mmc.READ_TOC, 0, 2, 0, 0, 0, 0, 0, 255)) == 4 + 4 * 11
    assert ask(mmc.READ_TOC, 0, 0, 0, 0, 0, 0, 0, 4) == toc[:4]


@pytest.mark.parametrize("code", [mmc.TEST_UNIT_READY, mmc.START_STOP, mmc.PREVENT_REMOVAL, mmc.SEEK_10, mmc.SET_SPEED])
def test_packets_without_data(code: int) -> None:
    one = driver()
    assert one.packet(bytes((code,))) == READY
    assert one.channel.read(r.COUNT, 1) == 3


def test_device_reset_ends_a_transfer() -> None:
    one = driver()
    one.packet(read_10(0, 10))
    one.interrupts = 0
    one.channel.write(r.COMMAND, 1, r.DEVICE_RESET)
    assert (one.status, one.interrupts, one.channel.read(r.MID, 1)) == (0, 0, 0x14)
