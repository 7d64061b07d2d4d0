"""The boot order, El Torito, and what INT 13h shows of a CD."""

from __future__ import annotations

import struct

import pytest

from hypervisor.backends import disk_image, el_torito
from hypervisor.backends.image_source import BytesSource
from hypervisor.backends.overlay import Overlay
from hypervisor.firmware.bios.disk.drive_numbers import Drives
from hypervisor.traps.verdicts import HANDLED, Stop
from tests.boot.bios_fakes import Machine
from tests.boot.cds import CATALOGUE, IMAGE, SECTOR, catalogue, cd

NOT_BOOTABLE = bytes(512)


def sector(mark: int) -> bytes:
    return bytes([mark]) * 510 + b"\x55\xaa"


def machine(order: str, floppy: bytes | None = None, disk: bytes | None = None, iso: bytes | None = None) -> Machine:
    drives = Drives(
        [] if floppy is None else [disk_image.floppy(Overlay(BytesSource(floppy)))],
        [] if disk is None else [disk_image.disk(Overlay(BytesSource(disk)))],
        None if iso is None else disk_image.cdrom(iso),
    )
    return Machine(drives=drives, boot_order=order)


def entered(machine: Machine) -> tuple[int, int, int]:
    """CS, IP and DL that the stub's IRET leads to."""
    ip, cs = machine.memory.unpack("HH", 0x7BFA)
    assert (machine.vcpu.rsp, machine.vcpu.ax) == (0x7BFA, 0xAA55)
    return cs, ip, machine.vcpu.dl


def test_the_first_device_that_boots_is_booted() -> None:
    subject = machine("adc", NOT_BOOTABLE, sector(2))
    assert subject.interrupt(0x19) is HANDLED
    assert entered(subject) == (0, 0x7C00, 0x80)
    assert subject.memory.read(0x7C00, 512) == sector(2)


def test_int_18h_goes_on_with_the_next_device_and_says_at_the_end_what_was_tried() -> None:
    subject = machine("acd", sector(1), sector(2), b"\0" * 40000)
    subject.interrupt(0x19)
    assert entered(subject) == (0, 0x7C00, 0)
    subject.interrupt(0x18)
    assert entered(subject) == (0, 0x7C00, 0x80)
    verdict = subject.interrupt(0x18)
    assert isinstance(verdict, Stop)
    assert verdict.reason == (
        "no bootable device (floppy: it was booted, and gave up; disk: it was booted, and gave up; "
        "CD: it has no El Torito boot record in sector 17)"
    )
    subject.interrupt(0x19)
    assert entered(subject) == (0, 0x7C00, 0)


def test_without_drives_there_is_a_message() -> None:
    verdict = machine("ca", floppy=NOT_BOOTABLE).interrupt(0x19)
    assert isinstance(verdict, Stop)
    assert (
        verdict.reason
        == "no bootable device (disk: there is none; floppy: its first sector ends in 00 00, not in 55 aa)"
    )


def test_a_cd_without_emulation() -> None:
    iso = cd(b"".join(bytes([n]) * 512 for n in range(16)), catalogue(segment=0x1234, count=5))
    subject = machine("d", iso=iso)
    subject.interrupt(0x19)
    assert entered(subject) == (0x1000, 0x2340, 0xE0)
    assert subject.memory.read(0x12340, 5 * 512 + 1) == iso[IMAGE * SECTOR :][: 5 * 512] + b"\0"
    subject.memory.write(0x6000, struct.pack("<BBHHHQ", 16, 0, 2, 0, 0x2000, IMAGE))
    subject.interrupt(0x13, ax=0x4200, dx=0xE0, ds=0x600, si=0)
    assert (subject.carry, subject.memory.read(0x20000, 4096)) == (False, iso[IMAGE * SECTOR :][:4096])
    subject.interrupt(0x13, ax=0x4300, dx=0xE0)
    assert (subject.carry, subject.vcpu.ah) == (True, 3)
    subject.interrupt(0x13, ax=0x4B01, dx=0xE0)
    assert not subject.carry
    assert subject.memory.unpack("BBBBIHHHH", 0x6000) == (0x13, 0, 0xE0, 0, IMAGE, 0, 0, 0x1234, 5)
    subject.memory.write(0x6000, struct.pack("<H", 30))
    subject.interrupt(0x13, ax=0x4800, dx=0xE0)
    assert subject.memory.unpack("HHIIIQH", 0x6000) == (30, 0x24, 0, 0, 0, 23, 2048)


def test_a_cd_that_is_a_floppy() -> None:
    image = bytearray(2880 * 512)
    image[:512], image[-512:] = sector(7), b"\x99" * 512
    subject = machine("d", floppy=sector(1), iso=cd(bytes(image), catalogue(media=2, count=1)))
    subject.interrupt(0x19)
    assert entered(subject) == (0, 0x7C00, 0)
    assert subject.memory.read(0x7C00, 512) == sector(7)
    subject.interrupt(0x13, ax=0x0201, cx=0x4F12, dx=0x0100, es=0x1000, bx=0)
    assert (subject.carry, subject.memory.read(0x10000, 512)) == (False, b"\x99" * 512)
    subject.interrupt(0x13, ax=0x0301, cx=1, dx=0)
    assert (subject.carry, subject.vcpu.ah) == (True, 3)
    subject.interrupt(0x13, ax=0x0201, cx=1, dx=1)  # the real one has moved up
    assert subject.memory.read(0x10000, 512) == sector(1)
    subject.interrupt(0x13, ax=0x4B00, dx=0, ds=0x600, si=0)
    assert subject.memory.unpack("BBB", 0x6000) == (0x13, 2, 0)
    subject.interrupt(0x13, ax=0x0201, cx=1, dx=0)
    assert subject.memory.read(0x10000, 512) == sector(1)


def test_a_cd_that_is_a_hard_disk() -> None:
    image = bytearray(4 * 16 * 63 * 512)
    image[446:462] = struct.pack("<8BII", 0x80, 0, 1, 0, 6, 15, 63, 3, 0, 4032)  # to cylinder 3, head 15, sector 63
    image[510:512] = b"\x55\xaa"
    subject = machine("d", disk=sector(1), iso=cd(bytes(image), catalogue(media=4, count=1)))
    subject.interrupt(0x19)
    assert entered(subject) == (0, 0x7C00, 0x80)
    subject.interrupt(0x13, ax=0x0800, dx=0x80)
    assert (subject.vcpu.cx, subject.vcpu.dx) == (0x033F, 0x0F02)
    subject.interrupt(0x13, ax=0x0201, cx=1, dx=0x81, es=0x1000, bx=0)
    assert subject.memory.read(0x10000, 512) == sector(1)


def broken(at: int, value: int) -> bytearray:
    entries = catalogue()
    entries[at] = value
    return entries


@pytest.mark.parametrize(
    ("iso", "sentence"),
    [
        (bytes(2048), "no boot record"),
        (bytes(40 * SECTOR), "no El Torito boot record in sector 17"),
        (cd(b"", at=0xFFFFFFFF), "its boot catalogue would be in sector 4294967295, beyond the end"),
        (cd(b"", bytes(SECTOR)), "does not begin with a validation entry"),
        (cd(b"", broken(4, 1)), "the checksum of its boot catalogue is wrong"),
        (cd(b"", catalogue(indicator=0)), "the default entry of its boot catalogue is not bootable"),
        (cd(b"", catalogue(media=5)), "unknown media type 5"),
        (cd(b"", catalogue(start=CATALOGUE + 1)), "its boot image would begin in sector 19, beyond the end"),
        (cd(b"x", catalogue(count=0xFFFF)), "its boot image of 65535 sectors at segment 0x7c0 exceeds 640 KiB"),
        (cd(b"x", catalogue(segment=0xFFFF)), "exceeds 640 KiB"),
    ],
)
def test_damaged_cds(iso: bytes, sentence: str) -> None:
    with pytest.raises(el_torito.NotBootableError, match=sentence):
        el_torito.parse(disk_image.cdrom(iso))
