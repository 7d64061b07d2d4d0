"""The packets that a CD-ROM drive answers. A drive whose medium has no sectors is empty.

Sources: SFF-8020i revision 2.6, section 10; MMC-3 revision 10, section 6; SPC-2, section 7 (INQUIRY, REQUEST SENSE).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

from hypervisor.bus import Medium

TEST_UNIT_READY, REQUEST_SENSE, INQUIRY, START_STOP, PREVENT_REMOVAL = 0x00, 0x03, 0x12, 0x1B, 0x1E
READ_CAPACITY, READ_10, SEEK_10, READ_SUBCHANNEL, READ_TOC, GET_CONFIGURATION = 0x25, 0x28, 0x2B, 0x42, 0x43, 0x46
GET_EVENT_STATUS, READ_DISC_INFORMATION, MODE_SENSE_10, READ_12, SET_SPEED = 0x4A, 0x51, 0x5A, 0xA8, 0xBB
MECHANISM_STATUS, READ_CD = 0xBD, 0xBE

NO_MEDIUM, UNRECOVERED_READ = 0x023A00, 0x031100
NO_SUCH_COMMAND, OUT_OF_RANGE, BAD_FIELD = 0x052000, 0x052100, 0x052400
"""Sense key, additional sense code and qualifier (MMC-3, annex B)."""

NO_PROFILE, CD_ROM_PROFILE = 0x0000, 0x0008
LEAD_OUT = 0xAA
DATA_TRACK = 0x14
"""ADR 1 (position), control 4 (data)."""
PREGAP = 150
"""Frames before LBA 0 in addresses by minute, second and frame."""
USER_DATA = 0x10
"""READ CD: 2048 bytes of a sector."""


class PacketError(Exception):
    """A packet that fails; ``sense`` says why."""

    def __init__(self, sense: int) -> None:
        super().__init__(f"sense {sense:#08x}")
        self.sense = sense


@dataclass(frozen=True)
class Sectors:
    """An answer that consists of sectors of the CD."""

    first: int
    count: int


Answer = bytes | Sectors


def execute(packet: bytes, cd: Medium, sense: int) -> Answer:
    """What the drive answers to ``packet``; ``sense`` is that of the last failure. Raises `PacketError`."""
    handler = HANDLERS.get(packet[0])
    if handler is None:
        raise PacketError(NO_SUCH_COMMAND)
    if not cd.sectors and packet[0] in OF_THE_MEDIUM:
        raise PacketError(NO_MEDIUM)
    return handler(packet, cd, sense)


def _nothing(packet: bytes, cd: Medium, sense: int) -> Answer:
    return b""


def _request_sense(packet: bytes, cd: Medium, sense: int) -> Answer:
    answer = struct.pack(">BBBIBIBB4x", 0x70, 0, sense >> 16, 0, 10, 0, sense >> 8 & 0xFF, sense & 0xFF)
    return answer[: packet[4]]


def _inquiry(packet: bytes, cd: Medium, sense: int) -> Answer:
    if packet[1] & 1 or packet[2]:
        raise PacketError(BAD_FIELD)  # no vital product data
    # CD-ROM; removable; no standard; response format of ATAPI
    answer = struct.pack("BBBBB3x", 5, 0x80, 0, 0x21, 31) + b"VIRTUAL CD-ROM          1.0 "
    return answer[: struct.unpack_from(">H", packet, 3)[0]]


def _capacity(packet: bytes, cd: Medium, sense: int) -> Answer:
    return struct.pack(">II", min(cd.sectors - 1, 0xFFFFFFFF), cd.sector_size)


def _sectors(cd: Medium, first: int, count: int) -> Answer:
    if first + count > cd.sectors:
        raise PacketError(OUT_OF_RANGE)
    return Sectors(first, count) if count else b""


def _read_10(packet: bytes, cd: Medium, sense: int) -> Answer:
    return _sectors(cd, *struct.unpack_from(">IxH", packet, 2))


def _read_12(packet: bytes, cd: Medium, sense: int) -> Answer:
    return _sectors(cd, *struct.unpack_from(">II", packet, 2))


def _read_cd(packet: bytes, cd: Medium, sense: int) -> Answer:
    (first,) = struct.unpack_from(">I", packet, 2)
    count = int.from_bytes(packet[6:9], "big")
    if count and packet[9] & 0xF8 != USER_DATA:
        raise PacketError(BAD_FIELD)
    return _sectors(cd, first, count)


def _toc(packet: bytes, cd: Medium, sense: int) -> Answer:
    """One session with one data track."""
    by_time = bool(packet[1] & 0x02)
    form = packet[2] & 0x0F or packet[9] >> 6
    start = packet[6]
    (room,) = struct.unpack_from(">H", packet, 7)
    if form == 0:
        tracks = [(number, at) for number, at in ((1, 0), (LEAD_OUT, cd.sectors)) if start <= number]
        if not tracks:
            raise PacketError(BAD_FIELD)
        rows = b"".join(struct.pack("BBBB", 0, DATA_TRACK, number, 0) + _address(at, by_time) for number, at in tracks)
    elif form == 1:  # sessions: the first track of the last one
        rows = struct.pack("BBBB", 0, DATA_TRACK, 1, 0) + _address(0, by_time)
    elif form == 2:  # the lead-in as it is recorded
        points = ((0xA0, bytes((0, 1, 0, 0))), (0xA1, bytes((0, 1, 0, 0))), (0xA2, _address(cd.sectors, True)))
        rows = b"".join(
            bytes((1, DATA_TRACK, 0, point, 0, 0, 0)) + at for point, at in (*points, (1, _address(0, True)))
        )
    else:
        raise PacketError(BAD_FIELD)
    return (struct.pack(">HBB", len(rows) + 2, 1, 1) + rows)[:room]


def _address(sector: int, by_time: bool) -> bytes:
    if not by_time:
        return struct.pack(">I", min(sector, 0xFFFFFFFF))
    frames = sector + PREGAP
    return bytes((0, frames // (75 * 60) & 0xFF, frames // 75 % 60, frames % 75))


def _configuration(packet: bytes, cd: Medium, sense: int) -> Answer:
    """Profile list with CD-ROM, the core feature, and the removable medium."""
    profile = CD_ROM_PROFILE if cd.sectors else NO_PROFILE
    features = (
        struct.pack(">HBBHBB", 0x0000, 0x03, 4, CD_ROM_PROFILE, profile == CD_ROM_PROFILE, 0),
        struct.pack(">HBBI4x", 0x0001, 0x0B, 8, 2),  # core, by ATAPI
        struct.pack(">HBBI", 0x0003, 0x03, 4, 0x29000000),  # tray, can be ejected and locked
        struct.pack(">HBBIHH", 0x0010, 0x01, 8, cd.sector_size, 1, 0),  # random access for reading
        struct.pack(">HBBI", 0x001E, 0x09, 4, 0),  # reads CDs
    )
    kind = packet[1] & 0x03
    start, room = struct.unpack_from(">H3xH", packet, 2)
    chosen = [
        row for row in features if (row[0] << 8 | row[1] == start if kind == 2 else row[0] << 8 | row[1] >= start)
    ]
    rows = b"".join(chosen)
    return (struct.pack(">IHH", len(rows) + 4, 0, profile) + rows)[:room]


def _event_status(packet: bytes, cd: Medium, sense: int) -> Answer:
    """Nothing has happened; whether a medium is present."""
    if not packet[1] & 1:
        raise PacketError(BAD_FIELD)  # asynchronous notification
    (room,) = struct.unpack_from(">H", packet, 7)
    if packet[4] & 1 << 4:
        answer = struct.pack(">HBBBBBB", 6, 0x04, 0x10, 0, 0x02 if cd.sectors else 0, 0, 0)
    else:
        answer = struct.pack(">HBB", 2, 0x80, 0x10)
    return answer[:room]


def _disc_information(packet: bytes, cd: Medium, sense: int) -> Answer:
    """A complete disc with one session and one track."""
    answer = bytearray(34)
    struct.pack_into(">HBBBBB", answer, 0, 32, 0x0E, 1, 1, 1, 1)
    answer[7] = 0x20
    return bytes(answer[: struct.unpack_from(">H", packet, 7)[0]])


def _mode_sense(packet: bytes, cd: Medium, sense: int) -> Answer:
    """Pages 01h (read error recovery) and 2Ah (capabilities)."""
    pages = {
        0x01: bytes((0x01, 0x06, 0x00, 0x05, 0, 0, 0, 0)),
        0x2A: struct.pack(">BBBBBBBBHHHHBBBB", 0x2A, 0x12, 0, 0, 0x71, 0x60, 0x29, 0, 706, 2, 512, 706, 0, 0, 0, 0),
    }
    page = packet[2] & 0x3F
    if packet[2] >> 6 == 3 or (page != 0x3F and page not in pages):
        raise PacketError(BAD_FIELD)
    content = b"".join(data for number, data in pages.items() if page in (number, 0x3F))
    answer = struct.pack(">HB5x", len(content) + 6, 0x01) + content
    return answer[: struct.unpack_from(">H", packet, 7)[0]]


def _mechanism_status(packet: bytes, cd: Medium, sense: int) -> Answer:
    return bytes((0, 0, 0, 0, 0, 1, 0, 0))[: struct.unpack_from(">H", packet, 8)[0]]


def _subchannel(packet: bytes, cd: Medium, sense: int) -> Answer:
    """No audio is being played."""
    return bytes((0, 0x15, 0, 0))[: struct.unpack_from(">H", packet, 7)[0]]


HANDLERS: dict[int, Callable[[bytes, Medium, int], Answer]] = {
    TEST_UNIT_READY: _nothing,
    REQUEST_SENSE: _request_sense,
    INQUIRY: _inquiry,
    START_STOP: _nothing,
    PREVENT_REMOVAL: _nothing,
    READ_CAPACITY: _capacity,
    READ_10: _read_10,
    SEEK_10: _nothing,
    READ_SUBCHANNEL: _subchannel,
    READ_TOC: _toc,
    GET_CONFIGURATION: _configuration,
    GET_EVENT_STATUS: _event_status,
    READ_DISC_INFORMATION: _disc_information,
    MODE_SENSE_10: _mode_sense,
    READ_12: _read_12,
    SET_SPEED: _nothing,
    MECHANISM_STATUS: _mechanism_status,
    READ_CD: _read_cd,
}
"""Packets by their operation code."""
OF_THE_MEDIUM = frozenset((
    TEST_UNIT_READY, READ_CAPACITY, READ_10, READ_12, READ_CD, SEEK_10, READ_SUBCHANNEL, READ_TOC,
    READ_DISC_INFORMATION,
))  # fmt: skip
"""Packets that an empty drive refuses (MMC-3, the "NOT READY" of each)."""
