"""Hostile boot sectors, disks and CDs: what drives, their geometry and the BIOS read of them before a guest runs."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from tests.hostile.image_bombs import HALT, Image

SECTOR, CD_SECTOR = 512, 2048
MARK = b"\x55\xaa"


def boot_sector(block: bytes = b"", partitions: bytes = b"") -> bytes:
    """A sector that halts, with a FAT parameter block from offset 11 on and a partition table."""
    data = bytearray(b"\xeb\x3c\x90" + bytes(SECTOR - 3))
    data[11 : 11 + len(block)] = block
    data[62:78] = HALT
    data[446 : 446 + len(partitions)] = partitions
    data[510:512] = MARK
    return bytes(data)


def partition(kind: int, start: int, size: int, chs: bytes = b"\xff\xff\xff") -> bytes:
    """An entry of a partition table."""
    return struct.pack("<B3sB3sII", 0x80, chs, kind, chs, start, size)


def cd(
    catalogue: bytes | None = None, at: int = 18, image: bytes = HALT, sectors: int = 24, record: bytes = b""
) -> bytes:
    """A CD whose boot record names a catalogue ``at`` a sector, with a boot image in sector 20."""
    data = bytearray(sectors * CD_SECTOR)
    data[16 * CD_SECTOR : 16 * CD_SECTOR + 7] = b"\1CD001\1"
    head = b"\0CD001\1EL TORITO SPECIFICATION".ljust(0x47, b"\0") + struct.pack("<I", at)
    head = record or head
    data[17 * CD_SECTOR : 17 * CD_SECTOR + len(head)] = head
    if catalogue is not None:
        data[18 * CD_SECTOR : 18 * CD_SECTOR + len(catalogue)] = catalogue
    data[20 * CD_SECTOR : 20 * CD_SECTOR + len(image)] = image
    return bytes(data[: sectors * CD_SECTOR])


VALIDATION = struct.pack("<BBH24sH", 1, 0, 0, b"", 0x55AA) + MARK


def entry(media: int = 0, segment: int = 0, count: int = 4, start: int = 20, system: int = 0) -> bytes:
    """A catalogue with one entry to boot."""
    return VALIDATION + struct.pack("<BBHBBHI", 0x88, media, segment, system, 0, count, start)


def disks() -> Iterator[Image]:
    """Diskettes and hard disks."""
    for sectors in (0, 1, 63, 64, 0xFFFF):
        for heads in (0, 1, 255, 256, 0xFFFF):
            block = struct.pack(
                "<HBHBHHBHHHII", 512, 1, 1, 2, 224, 2880, 0xF0, 9, sectors, heads, 0xFFFFFFFF, 0xFFFFFFFF
            )
            yield Image(f"floppy-{sectors}-{heads}", boot_sector(block))
            yield Image(f"disk-{sectors}-{heads}", boot_sector(block), ("--media", "disk"), (1 << 20) + 512)
    for size in (512, 513, 1 << 20, (2880 << 10) + 1, 1 << 31, 1 << 32, 1 << 40, 1 << 43):
        yield Image(f"disk-of-{size:x}", boot_sector(), ("--media", "disk"), size)
    itself = partition(5, 0, 0xFFFFFFFF) * 4
    yield Image("extended-partition-in-itself", boot_sector(partitions=itself), ("--media", "disk"), 1 << 21)
    yield Image("partitions-beyond", boot_sector(partitions=partition(0x83, 0xFFFFFFFF, 0xFFFFFFFF) * 4), size=1 << 22)
    yield Image("half-a-sector", boot_sector()[:300])


def cds() -> Iterator[Image]:
    """CDs that boot, or look as if."""
    for at in (0, 16, 17, 18, 23, 24, 0xFFFFFFFF):
        yield Image(f"cd-catalogue-{at:x}", cd(entry(), at))
    for media in (*range(6), 0x0F, 0xFF):
        yield Image(f"cd-media-{media:x}", cd(entry(media)))
        yield Image(f"cd-media-{media:x}-at-its-end", cd(entry(media, start=23)))
        yield Image(f"cd-media-{media:x}-in-itself", cd(entry(media, start=0)))
    for segment in (0, 1, 0x9FFF, 0xA000, 0xFFFF):
        for count in (0, 1, 1280, 0xFFFF):
            yield Image(f"cd-{count}-at-{segment:x}", cd(entry(segment=segment, count=count)))
    for start in (19, 23, 24, 0xFFFFFFFF):
        yield Image(f"cd-image-{start:x}", cd(entry(start=start)))
    for chs in (b"\0\0\0", b"\xff\xff\xff", b"\0\x3f\xff", b"\xff\xc1\0"):
        sector = boot_sector(partitions=partition(6, 0, 0xFFFFFFFF, chs))
        yield Image(f"cd-hard-disk-{chs.hex()}", cd(entry(4, start=20), image=sector))
    yield Image("cd-without-a-catalogue", cd())
    yield Image("cd-checksum", cd(entry().replace(MARK, b"\x55\xab", 1)))
    yield Image("cd-ends-in-its-record", cd(entry())[: 17 * CD_SECTOR + 40])
    yield Image("cd-ends-in-its-catalogue", cd(entry())[: 18 * CD_SECTOR + 33])
    yield Image("cd-of-a-descriptor", cd(entry())[: 16 * CD_SECTOR + 6])
    yield Image("cd-sparse", cd(entry()), size=1 << 42)
    directory = bytearray(cd(entry()))
    struct.pack_into("<BBII", directory, 16 * CD_SECTOR + 156, 34, 0, 16, 0)  # the root directory is its own descriptor
    yield Image("cd-directory-in-itself", bytes(directory))


def others() -> Iterator[Image]:
    """Flat binaries, and what is no image at all."""
    flat = ("--format", "flat", "--mode", "32")
    for at in ("0", "0x1000", "0x9fc00", "0x3ffffff", "0xffffffff", "0xffffffffffffffff", "0x10000000000000000"):
        yield Image(f"flat-{at}", HALT, (*flat, "--at", at))
    yield Image("flat-entry", HALT, (*flat, "--at", "0x100000", "--entry", "0xffffffff"))
    yield Image("flat-of-64M", HALT, (*flat, "--at", "0x100000"), 64 << 20)
    yield Image("flat-of-4G", HALT, (*flat, "--at", "0x100000"), 1 << 32)
    for name, magic in (
        ("gzip", b"\x1f\x8b"),
        ("xz", b"\xfd7zXZ"),
        ("zstd", b"\x28\xb5\x2f\xfd"),
        ("qcow", b"QFI\xfb"),
        ("efi", b"MZ"),
    ):
        yield Image(name, magic + bytes(100))
        yield Image(f"{name}-alone", magic)
    yield Image("empty", b"")
    yield Image("a-byte", b"\x7f")
    yield Image("elf-magic", b"\x7fELF")
    yield Image("text", b"#!/bin/sh\necho no\n")
    yield Image("zeros", b"", size=1 << 41)
    for format in ("elf", "multiboot1", "multiboot2", "linux", "bootsector", "cdrom"):
        yield Image(f"zeros-as-{format}", bytes(4096), ("--format", format))
    yield Image("many-modules", bytes(100), ("--module", "/dev/zero"))
    yield Image("endless-initrd", bytes(100), ("--initrd", "/dev/zero"))
    yield Image("endless-script", b"", ("--script", "/dev/zero"))


def all_media() -> Iterator[Image]:
    """All of them."""
    for family in (disks, cds, others):
        yield from family()
