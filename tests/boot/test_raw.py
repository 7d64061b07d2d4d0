"""Boot sectors and flat binaries."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hypervisor.errors import ConfigError, HypervisorError, ImageError
from hypervisor.loaders import BootSpec, Image, load
from hypervisor.loaders.bootsector import check, enter
from tests.boot.fakes import FakeMemory
from tests.boot.images import CODE
from tests.sectors import boot_sector


def test_a_boot_sector_is_entered_as_a_bios_does() -> None:
    entry = enter(0x7C00, 0x80)
    assert (entry.kind, entry.mode, entry.cr0) == ("bootsector", 16, 0x10)
    assert (entry.regs["rip"], entry.regs["rsp"], entry.regs["rdx"], entry.regs["rflags"]) == (
        0x7C00,
        0x7C00,
        0x80,
        0x202,
    )
    assert entry.segments["cs"] == (0, 0, 0xFFFF, 0x9B)
    assert entry.segments["ss"] == (0, 0, 0xFFFF, 0x93)
    assert entry.segments["tr"].attributes == 0x8B and entry.segments["ldtr"].attributes == 0x82
    assert entry.idtr == (0, 0x3FF)


@pytest.mark.parametrize(
    ("image", "spec", "sentence"),
    [
        (bytes(512), BootSpec(format="bootsector"), "55 aa is needed at offset 510, and there is 00 00"),
        (bytes(100), BootSpec(format="bootsector"), "and there is the end of the file"),
        (boot_sector(CODE), BootSpec(append="x"), "a boot sector cannot be given --append"),
        (boot_sector(CODE), BootSpec(initrd=b"x"), "--initrd"),
    ],
)
def test_bad_boot_sectors(image: bytes, spec: BootSpec, sentence: str) -> None:
    with pytest.raises(HypervisorError, match=sentence):
        check(Image(image), spec, "bootsector")


def test_media_are_not_loaded() -> None:
    with pytest.raises(ConfigError, match="a bootsector image is put into a drive, not loaded"):
        load(boot_sector(CODE), BootSpec(), FakeMemory())
    with pytest.raises(ImageError, match="this is not a CD image: there is no ISO 9660 volume descriptor in sector 16"):
        check(Image(boot_sector(CODE)), BootSpec(), "cdrom")


@pytest.mark.parametrize(("mode", "cr0", "cs"), [(32, 0x11, 0xC9B), (64, 0x80000011, 0xA9B)])
def test_flat_binaries_in_protected_and_long_mode(mode: int, cr0: int, cs: int) -> None:
    memory = FakeMemory()
    entry = load(CODE, BootSpec(format="flat", at=0x123456, entry=0x123458, mode=mode), memory)
    assert (entry.kind, entry.mode, entry.cr0, entry.segments["cs"].attributes) == ("flat", mode, cr0, cs)
    assert entry.regs["rip"] == 0x123458
    assert memory.read(0x123456, len(CODE)) == CODE


@pytest.mark.parametrize(
    ("start", "selector", "ip"), [(0x7C00, 0, 0x7C00), (0x12345, 0x1000, 0x2345), (0x9FBF0, 0x9000, 0xFBF0)]
)
def test_flat_binaries_in_real_mode(start: int, selector: int, ip: int) -> None:
    entry = load(b"\xf4", BootSpec(format="flat", at=start, mode=16), FakeMemory())
    assert (entry.segments["cs"].selector, entry.segments["cs"].base, entry.regs["rip"]) == (
        selector,
        selector << 4,
        ip,
    )


@pytest.mark.parametrize(
    ("image", "spec", "error", "sentence"),
    [
        (CODE, BootSpec(mode=32), ConfigError, "needs --at ADDRESS and --mode"),
        (CODE, BootSpec(at=0), ConfigError, "needs --at ADDRESS and --mode"),
        (CODE, BootSpec(at=0, mode=8), ConfigError, "needs --at ADDRESS and --mode"),
        (CODE, BootSpec(at=0x100000, mode=16), ConfigError, "out of reach in mode 16; it must be below 0x100000"),
        (CODE, BootSpec(at=0x100000, entry=1 << 32, mode=64), ConfigError, "out of reach in mode 64"),
        (CODE, BootSpec(at=-4096, entry=0, mode=32), ConfigError, "must not be negative"),
        (CODE, BootSpec(at=0xFFFFFF, mode=32), ImageError, "not memory"),
        (CODE, BootSpec(at=0x9FFF0, mode=32), ImageError, "not memory"),
        (b"", BootSpec(at=0, mode=32), ImageError, "empty"),
    ],
)
def test_bad_flat_binaries(image: bytes, spec: BootSpec, error: type[HypervisorError], sentence: str) -> None:
    with pytest.raises(error, match=sentence):
        load(image, replace(spec, format="flat"), FakeMemory())
