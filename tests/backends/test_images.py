"""Image files as media: lazily read, never written unless asked, padded with zeros, refused in a sentence."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from hypervisor.backends import disk_image, overlay
from hypervisor.backends.disk_geometry import FLOPPIES, FLOPPY_LIMIT, floppy_geometry
from hypervisor.backends.image_source import BytesSource, FileSource, Window, open_source
from hypervisor.backends.overlay import Overlay
from hypervisor.bus import Geometry
from hypervisor.errors import ConfigError, ImageError

CONTENT = random.Random(1).randbytes(10_000)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "image"
    path.write_bytes(CONTENT)
    return path


def test_an_overlay_keeps_what_is_written_and_the_file_stays(file: Path) -> None:
    os.utime(file, ns=(0, 0))
    medium = disk_image.disk(disk_image.open_writable(file, "disk"))
    medium.write(3, b"x" * 1024)
    medium.flush()
    assert medium.read(2, 4) == CONTENT[1024:1536] + b"x" * 1024 + CONTENT[2560:3072]
    medium.close()
    assert file.read_bytes() == CONTENT and file.stat().st_mtime_ns == 0


def test_writing_to_the_file_when_asked(file: Path) -> None:
    medium = disk_image.disk(disk_image.open_writable(file, "disk", "write"))
    medium.write(3, b"x" * 512)
    medium.write(30, b"y" * 512)  # beyond the end: the file grows
    medium.flush()
    medium.close()
    medium.close()
    assert file.read_bytes() == CONTENT[:1536] + b"x" * 512 + CONTENT[2048:] + bytes(30 * 512 - 10_000) + b"y" * 512


def test_beyond_the_end_of_an_unpadded_image_there_are_zeros(file: Path) -> None:
    medium = disk_image.disk(disk_image.open_writable(file, "disk"))
    assert medium.geometry == (1, 16, 63) and medium.sectors == 16 * 63
    assert medium.read(19, 2) == CONTENT[19 * 512 :].ljust(1024, b"\0")
    assert medium.read(1007, 1) == bytes(512)


def test_a_disk_of_whole_mib_has_just_its_sectors() -> None:
    assert disk_image.disk(BytesSource(bytes(3 << 20))).sectors == 6144


def test_a_large_sparse_file_is_not_read_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "large"
    with path.open("wb") as large:
        large.truncate(3 << 40)
        large.seek((3 << 40) - 512)
        large.write(b"the end".ljust(512, b"."))
    medium = disk_image.disk(disk_image.open_writable(path, "disk"))
    assert medium.sectors == 3 << 31
    assert medium.read(medium.sectors - 1, 1).startswith(b"the end.")
    assert medium.geometry == (1024, 255, 63)


def test_random_writes_through_an_overlay_are_those_to_an_array() -> None:
    rng = random.Random(2)
    source, model = Overlay(BytesSource(CONTENT)), bytearray(CONTENT.ljust(40_000, b"\0"))
    for _ in range(300):
        at, size = rng.randrange(39_000), rng.randrange(1, 1000)
        content = rng.randbytes(size)
        source.write(at, content)
        model[at : at + size] = content
        at, size = rng.randrange(30_000), rng.randrange(10_000)
        assert source.read(at, size) == model[at : at + size]
    assert source.written <= 40_000 + overlay.BLOCK


def test_an_overlay_keeps_just_the_blocks_that_differ() -> None:
    rng, block = random.Random(5), overlay.BLOCK
    image = (rng.randbytes(5 * block) + bytes(5 * block) + b"end").ljust(11 * block, b"\0")
    source, model = Overlay(BytesSource(image[: 10 * block + 3])), bytearray(image)
    for _ in range(500):
        at = rng.randrange(11 * block - 1)
        size = min(rng.choice([1, 512, block, 3 * block]), 11 * block - at)
        at = at // 512 * 512 if rng.random() < 0.5 and size > 1 else at
        content = image[at : at + size] if rng.random() < 0.6 else rng.randbytes(size)
        source.write(at, content)
        model[at : at + size] = content
        differ = sum(model[n : n + block] != image[n : n + block] for n in range(0, 11 * block, block))
        assert source.written == differ * block and source.read(0, 11 * block) == model
    source.write(0, image)
    assert source.written == 0


def test_a_full_overlay_takes_what_makes_room() -> None:
    block = overlay.BLOCK
    source = Overlay(BytesSource(bytes(4 * block)), limit=2 * block)
    source.write(0, b"a" * 2 * block)
    source.write(block, bytes(block) + b"b" * block)  # one less, and one more
    assert source.written == 2 * block and source.read(0, 4 * block) == b"a" * block + bytes(
        block
    ) + b"b" * block + bytes(block)


def test_what_the_host_cannot_read_any_more_can_be_written_where_it_was_written() -> None:
    class Breaks(BytesSource):
        broken = False

        def read(self, offset: int, size: int) -> bytes:
            if self.broken:
                raise OSError(5, "Input/output error")
            return super().read(offset, size)

    below, block = Breaks(bytes(4 * overlay.BLOCK)), overlay.BLOCK
    source = Overlay(below)
    source.write(0, b"a" * block)
    below.broken = True
    source.write(5, b"b")
    with pytest.raises(OSError, match="Input/output error"):
        source.write(block, b"c")
    below.broken = False
    assert source.read(0, 8) == b"aaaaabaa" and source.read(block, 1) == b"\0"


def test_a_full_overlay_refuses_and_changes_nothing() -> None:
    source = Overlay(BytesSource(bytes(100_000)), limit=2 * overlay.BLOCK)
    source.write(0, b"a" * 8192)
    with pytest.raises(OSError, match="the guest has written 0 MiB, the limit"):
        source.write(8190, b"bbbb")
    assert source.read(8188, 8) == b"aaaa\0\0\0\0"
    source.write(4096, b"c" * 4096)


def test_a_window_is_a_part() -> None:
    window = Window(BytesSource(CONTENT), 1000, 500)
    assert window.read(0, 10) == CONTENT[1000:1010]
    assert window.read(490, 20) == CONTENT[1490:1500] + bytes(10)
    assert window.read(600, 5) == bytes(5)
    with pytest.raises(OSError, match="is not written"):
        window.write(0, b"x")


@pytest.mark.parametrize(
    ("size", "geometry"),
    [
        (512, (80, 2, 18)),
        (163_840, (40, 1, 8)),
        (368_640, (40, 2, 9)),
        (368_641, (80, 2, 18)),
        (737_280, (80, 2, 9)),
        (1_228_800, (80, 2, 15)),
        (1_474_560, (80, 2, 18)),
        (1_474_561, (80, 2, 36)),
        (FLOPPY_LIMIT, (80, 2, 36)),
    ],
)
def test_diskette_formats(size: int, geometry: tuple[int, int, int]) -> None:
    assert floppy_geometry(size, bytes(512)) == geometry
    assert all(one.total * 512 == bytes_ for bytes_, one in FLOPPIES.items())


def test_a_fat_parameter_block_chooses_the_format_of_an_unpadded_diskette() -> None:
    head = bytearray(b"\xeb\x3c\x90" + bytes(509))
    head[11:13], head[24:26], head[26:28] = b"\0\2", b"\x0f\0", b"\2\0"
    assert floppy_geometry(5000, bytes(head)) == Geometry(80, 2, 15)
    head[24] = 9
    assert floppy_geometry(5000, bytes(head)) == Geometry(40, 2, 9)
    assert floppy_geometry(700_000, bytes(head)) == Geometry(80, 2, 9)


def test_what_cannot_be_used_is_said(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    read_only = tmp_path / "read-only"
    read_only.write_bytes(CONTENT)
    for path, sentence in (
        (tmp_path / "none", "none: there is no such file; check the path of the disk."),
        (tmp_path, "is a directory; give a file."),
        (Path("/dev/zero"), "/dev/zero is a device without an end; give a file."),
        (tmp_path / "pipe", "is a pipe or a socket, which has no sectors; give a file."),
        (Path("a" * 5000), "cannot be read: File name too long."),
    ):
        with pytest.raises(ImageError) as caught:
            open_source(path, "disk")
        assert sentence in str(caught.value)
    with pytest.raises(ConfigError, match="mode='rw' of the disk: use one of overlay, write"):
        disk_image.open_writable(read_only, "disk", "rw")


def test_files_that_may_not_be_opened(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: object, flags: int) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(ImageError, match=r"cannot be opened; check its permissions \(Permission denied\)\."):
        FileSource(file, "disk")
    with pytest.raises(ImageError, match=r"cannot be opened for writing; use mode=overlay \(Permission denied\)\."):
        FileSource(file, "disk", writable=True)


def test_a_forgotten_source_gives_its_file_back(file: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    source = FileSource(file, "disk")
    assert len(os.listdir("/proc/self/fd")) == before + 1
    del source
    assert len(os.listdir("/proc/self/fd")) == before


def test_who_writes_a_file_has_it_alone(file: Path) -> None:
    reader, other = FileSource(file, "disk"), FileSource(file, "disk")
    with pytest.raises(ImageError, match="is in use, by another drive or another VM; end that one, or give the disk a"):
        FileSource(file, "disk", writable=True)
    reader.close()
    other.close()
    writer = FileSource(file, "disk", writable=True)
    with pytest.raises(ImageError, match="is being written, by another drive"):
        FileSource(file, "disk")
    writer.close()
    FileSource(file, "disk").close()
