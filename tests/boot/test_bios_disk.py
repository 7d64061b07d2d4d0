from __future__ import annotations

import struct

import pytest

from hypervisor.backends import disk_image as media
from hypervisor.backends.disk_geometry import disk_geometry
from hypervisor.backends.disk_image import ImageMedium
from hypervisor.backends.image_source import BytesSource
from hypervisor.backends.overlay import Overlay
from hypervisor.bus import Geometry
from hypervisor.firmware.bios.disk.drive_numbers import Drives
from hypervisor.traps.verdicts import HANDLED
from tests.boot.bios_fakes import Machine

SECTORS = b"".join(bytes([number]) * 512 for number in range(64))


def fat_sector(sectors: int, heads: int) -> bytes:
    image = bytearray(b"\xeb\x3c\x90" + bytes(509))
    struct.pack_into("<H", image, 11, 512)
    struct.pack_into("<HH", image, 24, sectors, heads)
    return bytes(image)


@pytest.mark.parametrize(
    ("image", "geometry"),
    [
        (bytes(513), (1, 16, 63)),
        (bytes(1474560), (80, 2, 18)),
        (fat_sector(18, 2), (1, 2, 18)),
        (fat_sector(0, 2), (1, 16, 63)),
        (b"\xeb" + b"\xff" * 511, (1, 16, 63)),
        (bytes(16 * 63 * 512 * 3 + 1), (4, 16, 63)),
    ],
)
def test_geometry(image: bytes, geometry: tuple[int, int, int]) -> None:
    assert disk_geometry(len(image), image[:512]) == geometry


def test_heads_grow_with_the_disk() -> None:
    assert disk_geometry(8 << 30, bytes(512)) == Geometry(1024, 255, 63)


def test_reading_by_chs() -> None:
    machine = Machine(SECTORS)
    assert machine.interrupt(0x13, ax=0x0202, cx=0x0003, dx=0x0080, es=0x1000, bx=0x10) is HANDLED
    assert not machine.carry
    assert (machine.vcpu.ah, machine.vcpu.al) == (0, 2)
    assert machine.memory.read(0x10010, 1024) == b"\x02" * 512 + b"\x03" * 512
    machine.interrupt(0x13, ax=0x0201, cx=0x0001, dx=0x0180, es=0x1000, bx=0)
    assert machine.memory.read(0x10000, 512) == b"\x3f" * 512


def test_what_lies_beyond_the_image_is_zero_up_to_the_geometry() -> None:
    machine = Machine(b"\xaa" * 700)
    machine.memory.write(0x10000, b"\xee" * 2048)
    machine.interrupt(0x13, ax=0x0203, cx=0x0001, dx=0x0080, es=0x1000, bx=0)
    assert machine.memory.read(0x10000, 1537) == b"\xaa" * 700 + bytes(836) + b"\xee"
    machine.interrupt(0x13, ax=0x0201, cx=0x003F, dx=0x0F80, es=0x1000, bx=0)
    assert not machine.carry


@pytest.mark.parametrize(
    ("ax", "cx", "dx", "code"),
    [
        (0x0201, 0x0000, 0x0080, 4),  # there is no sector 0
        (0x0201, 0x0101, 0x0080, 4),  # one cylinder only
        (0x0201, 0x0001, 0x1080, 4),  # head 16
        (0x0202, 0x003F, 0x0F80, 4),  # from the last sector on
        (0x0200, 0x0001, 0x0080, 1),
        (0x02FF, 0x0001, 0x0080, 1),
        (0x0201, 0x0001, 0x0000, 1),  # no floppy
        (0x0201, 0x0001, 0x0081, 1),
        (0x0501, 0x0001, 0x0080, 0x86),  # formatting a track
    ],
)
def test_errors_set_carry_ah_and_the_status(ax: int, cx: int, dx: int, code: int) -> None:
    machine = Machine(SECTORS)
    machine.interrupt(0x13, ax=ax, cx=cx, dx=dx, es=0x1000, bx=0)
    assert (machine.carry, machine.vcpu.ah) == (True, code)
    if ax >> 8 != 5:
        machine.interrupt(0x13, ax=0x0100, dx=0x80)
        assert (machine.carry, machine.vcpu.ah) == (True, code)
    machine.interrupt(0x13, ax=0, dx=0x80)
    machine.interrupt(0x13, ax=0x0100, dx=0x80)
    assert (machine.carry, machine.vcpu.ah) == (False, 0)


def test_without_a_disk_every_call_fails() -> None:
    machine = Machine()
    machine.interrupt(0x13, ax=0x0201, cx=1, dx=0x80)
    assert (machine.carry, machine.vcpu.ah) == (True, 1)


def test_parameters() -> None:
    machine = Machine(SECTORS)
    machine.interrupt(0x13, ax=0x0800, dx=0x80)
    assert (machine.carry, machine.vcpu.cx, machine.vcpu.dx) == (False, 63, 0x0F01)
    machine.interrupt(0x13, ax=0x1500, dx=0x80)
    assert (machine.carry, machine.vcpu.ah, machine.vcpu.cx, machine.vcpu.dx) == (False, 3, 0, 1008)


def packet(machine: Machine, count: int, sector: int, size: int = 16) -> None:
    machine.memory.write(0x6000, struct.pack("<BBHHHQ", size, 0, count, 0x20, 0x2000, sector))


def test_reading_and_writing_by_block() -> None:
    machine = Machine(SECTORS)
    machine.interrupt(0x13, ax=0x4100, bx=0x55AA, dx=0x80)
    assert (machine.carry, machine.vcpu.ah, machine.vcpu.bx, machine.vcpu.cx) == (False, 0x30, 0xAA55, 1)
    packet(machine, 2, 5)
    machine.interrupt(0x13, ax=0x4200, dx=0x80, ds=0x600, si=0)
    assert not machine.carry
    assert machine.memory.read(0x20020, 1024) == SECTORS[5 * 512 : 7 * 512]
    machine.memory.write(0x20020, b"W" * 1024)
    machine.interrupt(0x13, ax=0x4300, dx=0x80)
    machine.interrupt(0x13, ax=0x0201, cx=6, dx=0x80, es=0x1000, bx=0)
    assert machine.memory.read(0x10000, 512) == b"W" * 512


@pytest.mark.parametrize(
    ("count", "sector", "size", "code"),
    [(1, 1008, 16, 4), (2, 1007, 16, 4), (1, 1 << 63, 16, 4), (1, 0, 8, 1)],
)
def test_bad_packets(count: int, sector: int, size: int, code: int) -> None:
    machine = Machine(SECTORS)
    packet(machine, count, sector, size)
    machine.interrupt(0x13, ax=0x4200, dx=0x80, ds=0x600, si=0)
    assert (machine.carry, machine.vcpu.ah) == (True, code)


def test_extended_parameters() -> None:
    machine = Machine(SECTORS)
    machine.memory.write(0x6000, struct.pack("<H", 30))
    machine.interrupt(0x13, ax=0x4800, dx=0x80, ds=0x600, si=0)
    assert machine.memory.unpack("HHIIIQHI", 0x6000) == (30, 2, 1, 16, 63, 1008, 512, 0xFFFFFFFF)
    machine.memory.write(0x6000, struct.pack("<H", 26))
    machine.interrupt(0x13, ax=0x4800, dx=0x80)
    assert machine.memory.unpack("HHIIIQH", 0x6000) == (26, 2, 1, 16, 63, 1008, 512)
    machine.memory.write(0x6000, struct.pack("<H", 20))
    machine.interrupt(0x13, ax=0x4800, dx=0x80)
    assert machine.carry


@pytest.mark.parametrize(
    ("size", "kind", "sectors"), [(512, 4, 18), (368_640, 1, 9), (1_228_800, 2, 15), (2_000_000, 5, 36)]
)
def test_floppies(size: int, kind: int, sectors: int) -> None:
    machine = Machine(drives=Drives([media.floppy(Overlay(BytesSource(bytes(size))))]))
    assert machine.memory.unpack("H", 0x410)[0] & 0xC1 == 1
    machine.interrupt(0x13, ax=0x0800, dx=0)
    cylinders = 40 if kind == 1 else 80
    assert (machine.carry, machine.vcpu.bl, machine.vcpu.cx, machine.vcpu.dx) == (
        False, kind, (cylinders - 1) << 8 | sectors, 0x0101,
    )  # fmt: skip
    table = machine.vcpu.es.base + machine.vcpu.di
    assert machine.memory.read(table + 4, 1)[0] == sectors
    assert machine.memory.unpack("HH", 4 * 0x1E) == (table - 0xF0000, 0xF000)
    machine.interrupt(0x13, ax=0x1500, dx=0)
    assert (machine.carry, machine.vcpu.ah) == (False, 1)
    machine.interrupt(0x13, ax=0x0201, cx=sectors, dx=0x0100, es=0x1000, bx=0)
    assert not machine.carry
    machine.interrupt(0x13, ax=0x0201, cx=sectors + 1, dx=0x0100)
    assert (machine.carry, machine.vcpu.ah) == (True, 4)
    machine.interrupt(0x13, ax=0x0201, cx=1, dx=1)
    assert (machine.carry, machine.vcpu.ah) == (True, 1)


def test_an_empty_floppy_drive() -> None:
    """What SeaBIOS says of QEMU's, which `tests/qemu_command/test_rows.py` asks."""
    machine = Machine(drives=Drives([media.no_diskette()]))
    assert machine.memory.unpack("H", 0x410)[0] & 0xC1 == 1
    machine.interrupt(0x13, ax=0x0800, dx=0)
    assert (machine.carry, machine.vcpu.bl, machine.vcpu.cx, machine.vcpu.dx) == (False, 5, 0x4F24, 0x0101)
    table = machine.vcpu.es.base + machine.vcpu.di
    assert machine.memory.read(table + 4, 1)[0] == 18
    packet(machine, 1, 0)
    for ax, status in ((0x0201, 0x20), (0x0301, 0x20), (0x0401, 0x20), (0x1600, 0x06), (0x4200, 0x20)):
        machine.interrupt(0x13, ax=ax, cx=1, dx=0, ds=0x600, si=0)
        assert (machine.carry, machine.vcpu.ah) == (True, status), hex(ax)
    machine.interrupt(0x13, ax=0x0000, dx=0)
    assert not machine.carry


def test_what_the_host_cannot_do_is_a_status() -> None:
    class Broken(ImageMedium):
        def read(self, first: int, count: int) -> bytes:
            raise OSError(5, "Input/output error")

    machine = Machine(drives=Drives(disks=[Broken(BytesSource(SECTORS), 64, Geometry(1, 1, 63))]))
    for ax, status in ((0x0201, 0x10), (0x0401, 0x10), (0x0301, 0x03)):
        machine.interrupt(0x13, ax=ax, cx=1, dx=0x80, es=0x1000, bx=0)
        assert (machine.carry, machine.vcpu.ah, machine.vcpu.al) == (True, status, 0)


def test_a_packet_with_a_flat_address() -> None:
    machine = Machine(SECTORS)
    machine.memory.write(0x6000, struct.pack("<BBHIQQ", 24, 0, 2, 0xFFFFFFFF, 5, 0x123456))
    machine.interrupt(0x13, ax=0x4200, dx=0x80, ds=0x600, si=0)
    assert machine.memory.read(0x123456, 1024) == SECTORS[5 * 512 : 7 * 512]
