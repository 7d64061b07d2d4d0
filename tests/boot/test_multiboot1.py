from __future__ import annotations

import struct

import pytest

from hypervisor.errors import ImageError
from hypervisor.loaders import BootSpec, load
from tests.boot.fakes import FakeMemory
from tests.boot.images import CODE, Part, elf, multiboot1_elf, multiboot1_header


def kludge(flags: int = 0x10003, *, code: bytes = CODE, before: int = 0, **override: int) -> bytes:
    """A flat file with address fields: the header ``before`` bytes into what is loaded at 1 MiB."""
    base = 0x100000
    fields = {
        "header": base + before,
        "load": base,
        "load_end": 0,
        "bss_end": 0,
        "entry": base + before + 32,
    } | override
    return bytes(before) + multiboot1_header(flags, addresses=list(fields.values())) + code


@pytest.mark.parametrize("bits", [32, 64])
def test_the_state_at_entry(bits: int) -> None:
    memory = FakeMemory()
    entry = load(multiboot1_elf(bits), BootSpec(name="kernel.elf"), memory)
    assert (entry.kind, entry.mode, entry.regs["rip"], entry.regs["rax"]) == ("multiboot1", 32, 0x100000, 0x2BADB002)
    assert (entry.cr0, entry.cr3, entry.cr4, entry.efer, entry.regs["rflags"]) == (0x11, 0, 0, 0, 2)
    assert entry.segments["cs"] == (0x08, 0, 0xFFFFFFFF, 0xC9B)
    assert all(entry.segments[name] == (0x10, 0, 0xFFFFFFFF, 0xC93) for name in ("ds", "es", "ss", "fs", "gs"))
    assert memory.unpack("3Q", entry.gdtr.base) == (0, 0x00CF9B000000FFFF, 0x00CF93000000FFFF)
    assert memory.read(0x100000, len(CODE)) == CODE


def test_the_information_block() -> None:
    memory = FakeMemory()
    spec = BootSpec(name="dir/kernel", append="a=1 b", modules=[("mod", "x y", b"M" * 5000), ("two", "", b"N")])
    info = load(multiboot1_elf(), spec, memory).regs["rbx"]
    assert info >= 0x1000
    flags, lower, upper = memory.unpack("III", info)
    assert flags == 0b10_0100_1101
    assert (lower, upper) == (639, 15 << 10)
    line, count, modules = memory.unpack("III", info + 16)
    assert memory.string(line) == "dir/kernel a=1 b"
    assert count == 2
    start, end, text, reserved = memory.unpack("IIII", modules)
    assert (start % 4096, end - start, reserved, memory.string(text)) == (0, 5000, 0, "mod x y")
    assert memory.read(start, 5000) == b"M" * 5000
    start2, end2, text2, _ = memory.unpack("IIII", modules + 16)
    assert start2 >= end and (start2 % 4096, end2 - start2, memory.string(text2)) == (0, 1, "two")
    length, map_at = memory.unpack("II", info + 44)
    assert length == 5 * 24
    assert memory.unpack("IQQI", map_at) == (20, 0, 0x9FC00, 1)
    assert memory.unpack("IQQI", map_at + 72) == (20, 0x100000, 15 << 20, 1)
    assert memory.string(memory.unpack("I", info + 64)[0]) == "rootmode"


def test_without_arguments_the_command_line_is_the_name() -> None:
    memory = FakeMemory()
    info = load(multiboot1_elf(), BootSpec(name="k"), memory).regs["rbx"]
    assert memory.string(memory.unpack("I", info + 16)[0]) == "k"


def test_an_initrd_is_the_first_module() -> None:
    memory = FakeMemory()
    info = load(multiboot1_elf(), BootSpec(initrd=b"rd", modules=[("m", "", b"")]), memory).regs["rbx"]
    count, modules = memory.unpack("II", info + 20)
    start, end, text, _ = memory.unpack("IIII", modules)
    assert (count, memory.read(start, end - start), memory.string(text)) == (2, b"rd", "initrd")


def test_a_kernel_that_asks_for_video_gets_ega_text() -> None:
    memory = FakeMemory()
    info = load(multiboot1_elf(flags=7), BootSpec(), memory).regs["rbx"]
    assert memory.unpack("I", info)[0] & 1 << 12
    assert memory.unpack("QIIIBB", info + 88) == (0xB8000, 160, 80, 25, 16, 2)


def test_segments_go_to_physical_addresses_and_bss_is_zeroed() -> None:
    memory = FakeMemory()
    memory.data[0x300000:0x310000] = b"\xee" * 0x10000
    parts = [Part(0x200000, b"text", vaddr=0xC0200000), Part(0x300000, b"data", 0x8000, vaddr=0xC0300000)]
    entry = load(multiboot1_elf(parts=parts, entry=0xC0200002), BootSpec(), memory)
    assert entry.regs["rip"] == 0x200002
    assert memory.read(0x200000, 4) == b"text"
    assert memory.read(0x300000, 0x8001) == b"data" + bytes(0x7FFC) + b"\xee"


def test_an_image_in_the_loaders_area_moves_the_loaders_data() -> None:
    memory = FakeMemory()
    entry = load(multiboot1_elf(parts=[Part(0x80000, CODE, 0x1FC00)], entry=0x80000), BootSpec(), memory)
    assert 0x1000 <= entry.regs["rbx"] < 0x80000 and 0x1000 <= entry.gdtr.base < 0x80000
    assert memory.read(0x80000, 0x1FC00) == CODE + bytes(0x1FC00 - len(CODE))


def test_address_fields() -> None:
    memory = FakeMemory()
    image = kludge(before=64, bss_end=0x110000)
    memory.data[0x100000:0x120000] = b"\xee" * 0x20000
    entry = load(image, BootSpec(), memory)
    assert entry.regs["rip"] == 0x100000 + 96
    assert memory.read(0x100000, len(image)) == image
    assert memory.read(0x100000 + len(image), 0x110001 - 0x100000 - len(image))[-2:] == b"\0\xee"


def test_address_fields_win_over_elf() -> None:
    header = multiboot1_header(0x10003, addresses=[0x200000, 0x200000, 0, 0, 0x200020])
    entry = load(elf(head=header), BootSpec(), FakeMemory())
    assert entry.regs["rip"] == 0x200020


def test_load_end_leaves_the_rest_of_the_file_out() -> None:
    memory = FakeMemory()
    load(kludge(load_end=0x100040), BootSpec(), memory)
    assert memory.read(0x100040, 32) == bytes(32)


def test_the_entry_has_symbols() -> None:
    symbols = [("start", 0x100000, 0x12), ("local", 1, 0x02), ("start", 2, 0x02), ("file.c", 3, 0x04)]
    entry = load(multiboot1_elf(symbols=symbols), BootSpec(), FakeMemory())
    assert dict(entry.symbols) == {"start": 0x100000, "local": 1}


@pytest.mark.parametrize(
    ("image", "sentence"),
    [
        (multiboot1_elf(checksum=1), "no multiboot header"),
        (multiboot1_elf(flags=0x0B), "requires features 0x8"),
        (multiboot1_header(0x3) + CODE, "no address fields"),
        (multiboot1_header(0x10003), "truncated"),
        (multiboot1_elf(parts=[Part(0x100000, CODE, 1 << 30)]), r"--memory 1025M"),
        (multiboot1_elf(parts=[Part(0xB8000, CODE)], entry=0xB8000), "which is not memory"),
        (multiboot1_elf(parts=[Part(0x100000, CODE), Part(0x100020, CODE)]), "overlaps"),
        (multiboot1_elf(parts=[Part(0x100000, CODE, 8)]), "64 bytes in the file for 8 in memory"),
        (multiboot1_elf(entry=0x900000), "entry point 0x900000 is in no segment"),
        (multiboot1_elf(64, parts=[Part(1 << 33, CODE)], entry=1 << 33), "which is not memory"),
        (multiboot1_elf(machine=40), "is for ARM"),
        (multiboot1_elf(64, machine=183), "is for AArch64"),
        (multiboot1_elf(machine=62), "x32"),
        (multiboot1_elf(kind=1), "not executable"),
        (kludge(load=0x100010), "outside the file"),
        (kludge(header=0x100010), "outside the file"),
        (kludge(load_end=0xFFFFF), "not above load_addr"),
        (kludge(load_end=0x200000), "truncated"),
        (kludge(bss_end=0x100001), "below the end"),
        (kludge(bss_end=0xFFFFFFFF), "not memory"),
    ],
)
def test_bad_images(image: bytes, sentence: str) -> None:
    with pytest.raises(ImageError, match=sentence):
        load(image, BootSpec(format="multiboot1"), FakeMemory())


def test_modules_that_do_not_fit() -> None:
    with pytest.raises(ImageError, match="no room for module big"):
        load(multiboot1_elf(), BootSpec(modules=[("big", "", bytes(16 << 20))]), FakeMemory())


def test_memory_too_small_for_anything() -> None:
    with pytest.raises(ImageError, match="not memory"):
        load(multiboot1_elf(), BootSpec(), FakeMemory(64 << 10))


def test_every_truncation_is_an_image_error_or_loads() -> None:
    image = multiboot1_elf(64, symbols=[("start", 0x100000, 0x12)])
    for size in range(len(image)):
        try:
            entry = load(image[:size], BootSpec(format="multiboot1"), FakeMemory(2 << 20))
        except ImageError:
            continue
        assert dict(entry.symbols) in ({}, {"start": 0x100000})


def test_spoiled_bytes_never_escape_as_other_errors() -> None:
    image = multiboot1_elf(64, symbols=[("start", 0x100000, 0x12)])
    memory = FakeMemory(2 << 20)
    for at in range(0, len(image)):
        for value in (0x00, 0x7F, 0xFF):
            spoiled = image[:at] + bytes((value,)) + image[at + 1 :]
            try:
                dict(load(spoiled, BootSpec(), memory).symbols)
            except ImageError:
                continue


def test_the_header_is_searched_for_in_8_kib() -> None:
    at = 8192 - 12
    image = bytes(at) + struct.pack("<III", 0x1BADB002, 0, -0x1BADB002 & 0xFFFFFFFF)
    with pytest.raises(ImageError, match="no address fields"):
        load(image, BootSpec(format="multiboot1"), FakeMemory())
    with pytest.raises(ImageError, match="no multiboot header"):
        load(bytes(4) + image, BootSpec(format="multiboot1"), FakeMemory())
