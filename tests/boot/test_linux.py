from __future__ import annotations

import struct
from itertools import pairwise

import pytest

from hypervisor.errors import ConfigError, ImageError
from hypervisor.loaders import BootSpec, load
from hypervisor.loaders.boot_image import Image
from hypervisor.loaders.linux_kernel.protocol import parse_header
from tests.boot.fakes import FakeMemory
from tests.boot.images import CODE, bzimage


def test_the_64_bit_entry_is_taken_when_the_kernel_has_it() -> None:
    memory = FakeMemory()
    entry = load(bzimage(), BootSpec(), memory)
    assert (entry.kind, entry.mode, entry.regs["rip"]) == ("linux64", 64, 0x200200)
    assert memory.read(0x200000, 1024) == CODE * 16
    assert entry.cr0 == 0x80000011 and entry.cr4 == 0x20 and entry.efer == 0x500
    assert entry.segments["cs"] == (0x10, 0, 0xFFFFFFFF, 0xA9B)
    assert entry.segments["ss"] == (0x18, 0, 0xFFFFFFFF, 0xC93)
    assert entry.regs["rflags"] == 2


@pytest.mark.parametrize(("flags", "mode"), [(0, None), (1, 32)])
def test_the_32_bit_entry_otherwise_or_when_asked_for(flags: int, mode: int | None) -> None:
    entry = load(bzimage(xloadflags=flags), BootSpec(mode=mode), FakeMemory())
    assert (entry.kind, entry.mode, entry.regs["rip"], entry.cr0) == ("linux32", 32, 0x200000, 0x11)
    assert entry.segments["cs"] == (0x10, 0, 0xFFFFFFFF, 0xC9B)
    assert entry.regs["rbx"] == entry.regs["rbp"] == entry.regs["rdi"] == 0


def test_the_gdt_in_memory_agrees_with_the_segments() -> None:
    memory = FakeMemory()
    entry = load(bzimage(), BootSpec(), memory)
    assert entry.gdtr.limit == 31
    assert memory.unpack("4Q", entry.gdtr.base) == (0, 0, 0x00AF9B000000FFFF, 0x00CF93000000FFFF)


@pytest.mark.parametrize("address", [0, 0x80000, 0x1FFFFF, 0x200200, 0x3FFFFFFF, 0xFEE00000, 0xFFFFFFFF])
def test_the_page_tables_map_4_gib_one_to_one(address: int) -> None:
    memory = FakeMemory()
    table = load(bzimage(), BootSpec(), memory).cr3
    for shift in (39, 30, 21):
        (entry,) = memory.unpack("Q", table + 8 * (address >> shift & 511))
        assert entry & 3 == 3
        table = entry & ~0xFFF
        assert entry >> 7 & 1 == (shift == 21)
    assert table | address & 0x1FFFFF == address


def test_boot_params() -> None:
    memory = FakeMemory()
    spec = BootSpec(append="console=ttyS0", memory_map=[(0, 0x9FC00, 1), (0x9FC00, 0x400, 2), (0x100000, 15 << 20, 1)])
    image = bzimage()
    at = load(image, spec, memory).regs["rsi"]
    params = memory.read(at, 4096)
    assert params[0x1FE:0x206] == b"\x55\xaa\xeb\x6aHdrS"
    assert params[0x210] == 0xFF
    assert struct.unpack_from("<I", params, 0x214) == (0x200000,)
    assert memory.string(struct.unpack_from("<I", params, 0x228)[0]) == "console=ttyS0"
    assert params[0x1E8] == 3
    assert struct.unpack_from("<QQI", params, 0x2D0 + 40) == (0x100000, 15 << 20, 1)
    assert struct.unpack_from("<I", params, 0x1E0) == (15 << 10,)
    assert (params[6], params[7], params[14], params[15]) == (3, 80, 25, 1)  # mode 3, 80 by 25, VGA
    assert params[0x1EF] == 0  # the sentinel


def test_the_setup_header_ends_where_it_says() -> None:
    memory = FakeMemory()
    image = bytearray(bzimage())
    image[0x26C:0x2D0] = b"\xaa" * (0x2D0 - 0x26C)  # code that follows the header
    at = load(bytes(image), BootSpec(), memory).regs["rsi"]
    assert memory.read(at + 0x26C, 0x290 - 0x26C) == bytes(0x290 - 0x26C)


def test_the_initrd_is_as_high_as_it_may_be() -> None:
    memory = FakeMemory()
    initrd = b"0707" * 2000
    at = load(bzimage(), BootSpec(initrd=initrd), memory).regs["rsi"]
    start, size = memory.unpack("II", at + 0x218)
    assert (start, size) == ((16 << 20) - 8192, 8000)
    assert memory.read(start, size) == initrd


def test_initrd_addr_max_is_kept() -> None:
    memory = FakeMemory()
    at = load(bzimage(initrd_addr_max=0x7FFFFF), BootSpec(initrd=b"x" * 4096), memory).regs["rsi"]
    assert memory.unpack("I", at + 0x218) == (0x7FF000,)


def test_an_initrd_that_meets_the_kernel_goes_below_it() -> None:
    memory = FakeMemory()
    image = bzimage(pref_address=0x800000, init_size=0x800000)
    at = load(image, BootSpec(initrd=b"x" * 4096), memory).regs["rsi"]
    assert memory.unpack("I", at + 0x218) == (0x7FF000,)


def test_loader_data_do_not_overlap() -> None:
    memory = FakeMemory()
    load(bzimage(), BootSpec(append="x" * 100, initrd=b"i" * 5000), memory)
    ranges = sorted(memory.written)
    assert all(start + size <= after for (start, size), (after, _) in pairwise(ranges))
    assert ranges[0][0] >= 0x80000


def test_a_kernel_that_is_not_relocatable_goes_to_code32_start() -> None:
    assert load(bzimage(relocatable=0), BootSpec(), FakeMemory()).regs["rip"] == 0x100200


def test_an_old_protocol_has_none_of_the_new_fields() -> None:
    header = parse_header(Image(bzimage(version=0x202, jump=0x24)))
    assert (header.entry_64, header.relocatable, header.command_line_size) == (False, False, 255)
    assert header.initrd_addr_max == 0x37FFFFFF
    assert load(bzimage(version=0x202, jump=0x24), BootSpec(mode=32), FakeMemory()).regs["rip"] == 0x100000


@pytest.mark.parametrize(("version", "kind"), [(0x203, "linux16"), (0x206, "linux16"), (0x207, "linux32")])
def test_before_there_was_a_32_bit_protocol_the_entry_has_16_bits(version: int, kind: str) -> None:
    assert load(bzimage(version=version, xloadflags=0), BootSpec(), FakeMemory()).kind == kind


def test_setup_sects_0_means_4() -> None:
    assert parse_header(Image(bzimage(setup_sects=0))).setup_size == 5 * 512


def test_a_file_may_end_within_its_last_paragraph_and_may_carry_a_signature() -> None:
    memory = FakeMemory()
    load(bzimage(code=CODE[:-8], syssize=4), BootSpec(), memory)
    load(bzimage(code=CODE + b"signature" * 9, syssize=4), BootSpec(), memory)
    assert memory.read(0x200000, 65) == CODE + b"\0"


@pytest.mark.parametrize(
    ("image", "spec", "sentence"),
    [
        (bzimage(version=0x201), BootSpec(), "protocol 2.01, which is too old"),
        (bzimage(loadflags=0), BootSpec(), "is a zImage, which is too old"),
        (bzimage(syssize=1 << 20), BootSpec(), "truncated"),
        (bzimage()[:600], BootSpec(), "truncated"),
        (bzimage()[:0x207], BootSpec(), "truncated"),
        (bzimage()[:0x240], BootSpec(), "truncated"),
        (bzimage()[:2560], BootSpec(), "truncated"),
        (bzimage(init_size=64 << 20), BootSpec(), "--memory 66M"),
        (bzimage(pref_address=1 << 63), BootSpec(), "beyond 4 GiB"),
        (bzimage(pref_address=0xA0000), BootSpec(), "which is not memory"),
        (bzimage(), BootSpec(initrd=bytes(16 << 20)), "no room for the initrd"),
        (bzimage(initrd_addr_max=0x1000), BootSpec(initrd=b"x"), "no room for the initrd"),
        (b"MZ" + bytes(600), BootSpec(format="linux"), "not a bzImage"),
    ],
)
def test_bad_images(image: bytes, spec: BootSpec, sentence: str) -> None:
    with pytest.raises(ImageError, match=sentence):
        load(image, spec, FakeMemory())


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        (BootSpec(append="x" * 101), "has 101 bytes, but this kernel takes at most 100"),
        (BootSpec(append="a\0b"), "NUL character"),
        (BootSpec(modules=[("m", "", b"")]), "--initrd instead of --module"),
        (BootSpec(mode=8), "mode 16, 32 or 64"),
        (BootSpec(append="vga=big"), "vga=big is no video mode"),
        (BootSpec(append="vga=0x10000"), "vga=0x10000 is no video mode"),
        (BootSpec(memory_map=[(i << 12, 4096, 1) for i in range(4096)]), "has 4096 entries"),
    ],
)
def test_bad_options(spec: BootSpec, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        load(bzimage(), spec, FakeMemory())


def test_the_16_bit_entry_when_asked_for_or_when_there_is_no_other() -> None:
    for image, mode in ((bzimage(), 16), (bzimage(xloadflags=0, code32_start=0), None)):
        memory = FakeMemory()
        entry = load(image, BootSpec(mode=mode, append="one two", initrd=b"rd" * 100), memory)
        assert (entry.kind, entry.mode, entry.cr0 & 1) == ("linux16", 16, 0)
        assert (entry.segments["cs"].selector, entry.regs["rip"]) == (0x9020, 0)
        assert {entry.segments[name].selector for name in ("ds", "es", "ss", "fs", "gs")} == {0x9000}
        assert not entry.regs["rflags"] & 0x200
        setup = memory.read(0x90000, 1024)
        assert setup[0x1FE:0x206] == b"\x55\xaa\xeb\x6aHdrS"
        assert setup[0x210] == 0xFF and setup[0x211] & 0x81 == 0x81
        initrd_at, initrd_size = struct.unpack_from("<II", setup, 0x218)
        assert memory.read(initrd_at, initrd_size) == b"rd" * 100
        assert struct.unpack_from("<H", setup, 0x224)[0] == entry.regs["rsp"] - 0x200
        (line_at,) = struct.unpack_from("<I", setup, 0x228)
        assert memory.read(line_at, 8) == b"one two\0"
        assert memory.read(0x100000, 64) == CODE
    with pytest.raises(ConfigError, match="16-bit entry only"):
        load(bzimage(xloadflags=0, code32_start=0), BootSpec(mode=32), FakeMemory())


@pytest.mark.parametrize(
    ("append", "mode"),
    [
        ("vga=791 quiet", 791), ("a vga=0x318", 0x318), ("vga=01", 1), ("vga=010", 8), ("vga=0", 0),
        ("vga=ask", 0xFFFD), ("vga=ext", 0xFFFE), ("vga=1 b vga=normal", 0xFFFF),
    ],
)  # fmt: skip
def test_a_video_mode_goes_to_the_kernels_real_mode_code(append: str, mode: int) -> None:
    memory = FakeMemory()
    assert load(bzimage(), BootSpec(append=append), memory).kind == "linux16"
    assert struct.unpack_from("<H", memory.read(0x90000, 1024), 0x1FA)[0] == mode
    assert load(bzimage(), BootSpec(append=append, mode=32), FakeMemory()).kind == "linux32"


def test_a_64_bit_entry_that_the_kernel_lacks() -> None:
    with pytest.raises(ConfigError, match="no 64-bit entry"):
        load(bzimage(xloadflags=0), BootSpec(mode=64), FakeMemory())


def test_the_root_of_acpi_tables_is_passed_on() -> None:
    memory = FakeMemory()
    params = load(bzimage(), BootSpec(acpi_rsdp=0xF0000), memory).regs["rsi"]
    assert memory.unpack("Q", params + 0x70) == (0xF0000,)
