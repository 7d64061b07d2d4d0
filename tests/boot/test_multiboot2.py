from __future__ import annotations

import struct

import pytest

from hypervisor.errors import ImageError
from hypervisor.loaders import BootSpec, detect, load
from hypervisor.loaders.boot_image import Image
from tests.boot.fakes import FakeMemory
from tests.boot.images import CODE, elf, multiboot1_header, multiboot2_elf, multiboot2_header


def information(memory: FakeMemory, at: int) -> list[tuple[int, bytes]]:
    """The tags of an information block, checked for alignment and termination."""
    total, reserved = memory.unpack("II", at)
    assert at % 8 == 0 and reserved == 0
    tags, position = [], at + 8
    while position < at + total:
        kind, size = memory.unpack("II", position)
        tags.append((kind, memory.read(position + 8, size - 8)))
        position += (size + 7) & ~7
    assert position == at + total and tags[-1] == (0, b"")
    return tags


@pytest.mark.parametrize("bits", [32, 64])
def test_the_state_at_entry(bits: int) -> None:
    entry = load(multiboot2_elf(bits), BootSpec(), FakeMemory())
    assert (entry.kind, entry.mode, entry.regs["rip"], entry.regs["rax"]) == ("multiboot2", 32, 0x100000, 0x36D76289)
    assert (entry.cr0, entry.segments["cs"].attributes) == (0x11, 0xC9B)


def test_the_information_block() -> None:
    memory = FakeMemory()
    spec = BootSpec(name="k", append="x=1", modules=[("mod", "arg", b"MODULE")])
    tags = information(memory, load(multiboot2_elf(), spec, memory).regs["rbx"])
    found = dict(tags)
    assert [kind for kind, _ in tags] == [1, 2, 3, 4, 6, 8, 0]
    assert found[1] == b"k x=1\0"
    assert found[2] == b"rootmode\0"
    start, end = struct.unpack_from("<II", found[3])
    assert (memory.read(start, end - start), start % 4096, found[3][8:]) == (b"MODULE", 0, b"mod arg\0")
    assert struct.unpack("<II", found[4]) == (639, 15 << 10)
    assert struct.unpack_from("<II", found[6]) == (24, 0)
    assert struct.unpack_from("<QQII", found[6], 8) == (0, 0x9FC00, 1, 0)
    assert struct.unpack_from("<QIIIBB", found[8]) == (0xB8000, 160, 80, 25, 16, 2)


def test_an_address_tag_loads_a_file_that_is_not_elf() -> None:
    addresses = struct.pack("<4I", 0x100000, 0x100000, 0, 0x110000)
    image = multiboot2_header([(2, 0, addresses), (3, 0, struct.pack("<I", 0x100060))]) + CODE
    memory = FakeMemory()
    assert detect(Image(image)) == "multiboot2"
    assert load(image, BootSpec(), memory).regs["rip"] == 0x100060
    assert memory.read(0x100000, len(image)) == image


def test_an_entry_tag_overrides_the_elf_entry() -> None:
    entry = load(multiboot2_elf(tags=[(3, 0, struct.pack("<I", 0x100010))]), BootSpec(), FakeMemory())
    assert entry.regs["rip"] == 0x100010


def test_known_and_optional_tags_are_accepted() -> None:
    requests = struct.pack("<3I", 6, 15, 21)
    tags = [(1, 0, requests), (4, 0, bytes(4)), (5, 0, bytes(12)), (6, 0, b""), (7, 0, b""), (99, 1, b"abc")]
    load(multiboot2_elf(tags=[*tags, (1, 1, struct.pack("<I", 77))]), BootSpec(), FakeMemory())


def test_multiboot_2_comes_before_1() -> None:
    image = elf(head=multiboot1_header() + bytes(4) + multiboot2_header())
    assert detect(Image(image)) == "multiboot2"
    assert load(image, BootSpec(format="multiboot1"), FakeMemory()).kind == "multiboot1"


def test_a_header_for_mips_is_none_of_ours() -> None:
    assert detect(Image(elf(head=multiboot2_header(architecture=4)))) == "elf"


@pytest.mark.parametrize(
    ("image", "sentence"),
    [
        (elf(), "no multiboot 2 header"),
        (elf(head=multiboot2_header(checksum=7)), "no multiboot 2 header"),
        (multiboot2_elf(tags=[(99, 0, b"")]), "requires tag 99"),
        (multiboot2_elf(tags=[(1, 0, struct.pack("<II", 1, 77))]), r"information of types \[77\]"),
        (multiboot2_header() + CODE, "no address tag"),
        (multiboot2_header([(2, 0, struct.pack("<4I", 0x100000, 0x100000, 0, 0))]) + CODE, "no entry address tag"),
        (multiboot2_header([(2, 0, bytes(3))]) + CODE, "tag 2 has only 3 bytes"),
        (multiboot2_elf()[:106], "truncated"),
    ],
)
def test_bad_images(image: bytes, sentence: str) -> None:
    with pytest.raises(ImageError, match=sentence):
        load(image, BootSpec(format="multiboot2"), FakeMemory())


def test_a_tag_that_leaves_the_header() -> None:
    image = bytearray(multiboot2_elf(tags=[(4, 0, bytes(4))]))
    at = image.index(struct.pack("<HHI", 4, 0, 12))
    struct.pack_into("<I", image, at + 4, 4000)
    with pytest.raises(ImageError, match="leaves the header"):
        load(bytes(image), BootSpec(), FakeMemory())


def test_spoiled_bytes_never_escape_as_other_errors() -> None:
    addresses = struct.pack("<4I", 0x100000, 0x100000, 0, 0x101000)
    image = multiboot2_header([(2, 0, addresses), (3, 0, struct.pack("<I", 0x100060))]) + CODE
    memory = FakeMemory(2 << 20)
    for at in range(16, len(image)):
        for value in (0x00, 0x7F, 0xFF):
            try:
                load(image[:at] + bytes((value,)) + image[at + 1 :], BootSpec(format="multiboot2"), memory)
            except ImageError:
                continue


def test_the_root_of_acpi_tables_is_copied_as_both_versions_have_it() -> None:
    memory = FakeMemory()
    root = bytes(range(36))
    memory.write(0xF0000, root)
    spec = BootSpec(acpi_rsdp=0xF0000)
    tags = information(memory, load(multiboot2_elf(), spec, memory).regs["rbx"])
    assert dict(tags)[14] == root[:20]
    assert dict(tags)[15] == root
