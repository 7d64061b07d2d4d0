from __future__ import annotations

import struct
from dataclasses import replace

import pytest

from hypervisor.errors import ConfigError, ImageError
from hypervisor.loaders import BootSpec, load
from tests.boot.fakes import FakeMemory
from tests.boot.images import CODE, Part, elf


def xen_note(entry: int) -> bytes:
    return struct.pack("<III4sI", 4, 4, 18, b"Xen\0", entry)


def test_elf32_is_entered_in_flat_protected_mode() -> None:
    memory = FakeMemory()
    entry = load(elf(), BootSpec(), memory)
    assert (entry.kind, entry.mode, entry.cr0, entry.cr3, entry.regs["rip"]) == ("elf32", 32, 0x11, 0, 0x100000)
    assert entry.regs["rsp"] % 16 == 0 and entry.regs["rsp"] > 0x80000
    assert memory.read(0x100000, len(CODE)) == CODE


def test_elf64_is_entered_in_long_mode_at_its_physical_entry() -> None:
    high = 0xFFFFFFFF80000000
    image = elf(64, [Part(0x100000, CODE, vaddr=high + 0x100000)], entry=high + 0x100008)
    entry = load(image, BootSpec(), FakeMemory())
    assert (entry.kind, entry.mode, entry.regs["rip"]) == ("elf64", 64, 0x100008)
    assert entry.efer == 0x500 and entry.cr3 >= 0x80000 and entry.segments["cs"].attributes == 0xA9B


def test_an_entry_that_is_physical_already() -> None:
    image = elf(64, [Part(0x100000, CODE, vaddr=0xFFFF800000100000)], entry=0x100004)
    assert load(image, BootSpec(), FakeMemory()).regs["rip"] == 0x100004


@pytest.mark.parametrize("bits", [32, 64])
def test_notes_at_a_higher_half_kernels_virtual_address_are_left_out(bits: int) -> None:
    kernel, build_id = Part(0x100000, CODE, vaddr=0xC0100000), Part(0xC0000000, struct.pack("<III4s", 4, 0, 3, b"GNU"))
    with pytest.raises(ImageError, match="the segment at 0xc0000000 needs"):
        load(elf(bits, [kernel, build_id], 0x100000), BootSpec(), FakeMemory())
    memory = FakeMemory()
    entry = load(elf(bits, [kernel, replace(build_id, is_note=True)], 0x100000), BootSpec(), memory)
    assert entry.regs["rip"] == 0x100000
    (note,) = entry.notes
    assert note == "image: the segment at 0xc0000000 lies outside memory; it holds notes alone, and is left out."
    loaded = load(elf(bits, [kernel, replace(build_id, paddr=0x200000, is_note=True)], 0x100000), BootSpec(), memory)
    assert loaded.notes == ()
    assert memory.read(0x20000C, 3) == b"GNU"  # where there is memory they are loaded


@pytest.mark.parametrize("bits", [32, 64])
def test_a_segment_has_no_more_in_the_file_than_in_memory(bits: int) -> None:
    for size in (0, 4):  # one that occupies nothing is not left out silently
        parts = [Part(0x100000, CODE), Part(1 << 30, b"12345", memory_size=size)]
        with pytest.raises(ImageError, match=f"at 0x40000000 has 5 bytes in the file for {size} in memory"):
            load(elf(bits, parts), BootSpec(), FakeMemory())


@pytest.mark.parametrize("bits", [32, 64])
def test_a_pvh_note_is_honoured(bits: int) -> None:
    memory = FakeMemory()
    spec = BootSpec(append="quiet", initrd=b"INITRD", modules=[("m", "a", b"MM")])
    entry = load(elf(bits, note=xen_note(0x100010)), spec, memory)
    assert (entry.kind, entry.mode, entry.regs["rip"], entry.cr0) == ("pvh", 32, 0x100010, 0x11)
    magic, version, _, count, modules, line, rsdp, memory_map, ranges, _ = memory.unpack(
        "IIIIQQQQII", entry.regs["rbx"]
    )
    assert (magic, version, count, rsdp, ranges) == (0x336EC578, 1, 2, 0, 5)
    assert memory.string(line) == "quiet"
    start, size, text, _ = memory.unpack("4Q", modules)
    assert (memory.read(start, size), memory.string(text)) == (b"INITRD", "initrd")
    start, size, text, _ = memory.unpack("4Q", modules + 32)
    assert (memory.read(start, size), memory.string(text)) == (b"MM", "m a")
    assert memory.unpack("QQII", memory_map) == (0, 0x9FC00, 1, 0)


def test_pvh_passes_the_root_of_acpi_tables_on() -> None:
    memory = FakeMemory()
    entry = load(elf(32, note=xen_note(0x100010)), BootSpec(acpi_rsdp=0xF0000), memory)
    assert memory.unpack("Q", entry.regs["rbx"] + 32) == (0xF0000,)


def test_symbols_are_read_when_looked_at() -> None:
    symbols = [("main", 0xFFFFFFFF80001000, 0x12), ("counter", 0xFFFFFFFF80002000, 0x01)]
    entry = load(elf(64, symbols=symbols), BootSpec(), FakeMemory())
    assert entry.symbols["main"] == 0xFFFFFFFF80001000
    assert set(entry.symbols) == {"main", "counter"}


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        (BootSpec(append="x"), "plain ELF file cannot be given --append"),
        (BootSpec(initrd=b"x", modules=[("m", "", b"")]), "--initrd or --module"),
        (BootSpec(at=0), "--at and --entry are for --format flat"),
        (BootSpec(format="elph"), "'elph' is not an image format; use one of linux, multiboot2"),
    ],
)
def test_options_that_cannot_be_honoured_are_refused(spec: BootSpec, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        load(elf(), spec, FakeMemory())


@pytest.mark.parametrize(
    ("image", "sentence"),
    [
        (b"\x7fELF", "truncated"),
        (elf()[:30], "truncated"),
        (elf()[:60], "truncated"),
        (elf(machine=40), "for ARM; build it for x86"),
        (elf(machine=999), "for machine 999"),
        (elf(parts=[]), "no segment to load"),
        (elf(parts=[Part(0x100000, b"", 0)]), "no segment to load"),
        (elf(kind=4), "type 4, not executable"),
        (elf(64, [Part(0x100000, CODE), Part(0x100030, CODE)]), "overlaps the segment at 0x100000"),
        (elf(64, [Part(0x100000, CODE, 1 << 34)]), "Memory ends at 0x1000000"),
        (elf(64, [Part((1 << 64) - 4096, CODE)]), "not memory. Link it to addresses that are RAM"),
        (elf(parts=[Part(0xF0000, CODE)], entry=0xF0000), "which is not memory. Link it"),
        (elf(note=struct.pack("<III", 1000, 4, 18)), "truncated"),
        (elf().replace(b"\x7fELF\x01\x01", b"\x7fELF\x01\x02"), "little-endian"),
        (elf().replace(b"\x7fELF\x01\x01", b"\x7fELF\x03\x01"), "ELF class 3"),
    ],
)
def test_bad_images(image: bytes, sentence: str) -> None:
    with pytest.raises(ImageError, match=sentence):
        load(image, BootSpec(), FakeMemory())


def test_nothing_is_written_when_a_later_segment_is_bad() -> None:
    memory = FakeMemory()
    with pytest.raises(ImageError):
        load(elf(parts=[Part(0x100000, CODE), Part(0xA0000, CODE)]), BootSpec(), memory)
    assert memory.written == []
