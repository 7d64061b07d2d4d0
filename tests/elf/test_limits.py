"""ELF files that ask for much: each reader stops at a limit that it names, and damage raises nothing but `ElfError`."""

from __future__ import annotations

import random
import struct
import tracemalloc
import zlib
from pathlib import Path

import pytest

from hypervisor.elf import CallFrames, ElfError, Lines, Row, Sections, symbols
from hypervisor.elf.line_programs import MOST_RUN
from hypervisor.elf.reader import LONGEST_NAME
from hypervisor.elf.symbol_sections import MOST_SYMBOLS
from hypervisor.errors import ConfigError
from hypervisor.symbols.symbol_table import SymbolTable
from tests.elf.programs import built
from tests.hostile.image_bombs import (
    AT,
    COMMON,
    END_SEQUENCE,
    ROW,
    Section,
    compressed,
    debug_data_of_elf,
    elf,
    function,
    line_unit,
    named,
    set_address,
    symbol,
    symbols_of_elf,
)

PEAK = 200 << 20
EXPENSIVE = (
    "names-without-end-100000", "names-that-share-their-ends", "compressed-zeros", "compressed-more-than-it-says",
    "lines-sequences", "frames-registers",
)  # fmt: skip
"""Images of a few MiB that were gigabytes, or would be without a limit."""


def line_file(data: bytes, **more: bytes) -> bytes:
    return elf([Section(b".debug_line", data), *(Section(b"." + name.encode(), text) for name, text in more.items())])


def test_what_is_good() -> None:
    assert symbols(elf(named(symbol(1, 5), b"\0main\0"))) == {"main": 5}
    assert Lines(line_file(line_unit(ROW))).line(AT) is None  # the sequence ends where it begins
    rows = line_unit(set_address(AT) + b"\1\2\x08" + END_SEQUENCE)
    assert Lines(line_file(rows)).line(AT + 7) == ("a.c", 1) and Lines(line_file(rows)).line(AT + 8) is None
    frames = CallFrames(elf([Section(b".eh_frame", COMMON + function(b"\x0c\7\x08\x90\1\x44\x0e\x10"))]))
    assert frames.row(AT + 3) == Row(16, 6, 7, 8, {16: 1})
    assert frames.row(AT + 4) == Row(16, 6, 7, 16, {16: 1}) and frames.row(AT - 1) is None


def test_64_bit_dwarf() -> None:
    inner = line_unit(set_address(AT) + b"\1\2\x08" + END_SEQUENCE)[4:]
    wide = inner[:2] + struct.pack("<Q", int.from_bytes(inner[2:6], "little")) + inner[6:]
    assert Lines(line_file(b"\xff" * 4 + struct.pack("<Q", len(wide)) + wide)).line(AT) == ("a.c", 1)


def test_an_address_that_only_looks_like_a_beginning_misleads_nobody() -> None:
    text = b"\0" + set_address(AT + 1)[1:].replace(b"\0", b"\1")
    rows = line_unit(set_address(AT) + b"\1\2\x40" + END_SEQUENCE, b"\0a.c\0\0\0\0" + b"\0" + b"\0\x09\x02" + text)
    assert Lines(line_file(rows)).line(AT + 0x20) == ("a.c", 1)


def test_a_name_without_an_end_is_left_out() -> None:
    names = b"\0main\0" + b"A" * 3 * LONGEST_NAME
    assert symbols(elf(named(symbol(1, 5) + symbol(6, 6), names))) == {"main": 5}
    assert symbols(elf(named(symbol(1, 5), b"\0" + b"A" * LONGEST_NAME + b"\0"))) == {"A" * LONGEST_NAME: 5}


def test_names_that_move_the_cursor_are_shown_without() -> None:
    assert list(symbols(elf(named(symbol(1), b"\0\x1b[2Jx\0")))) == ["\N{REPLACEMENT CHARACTER}[2Jx"]
    rows = line_unit(set_address(AT) + b"\1\2\x08" + END_SEQUENCE, b"\0\x1bc\0\0\0\0\0")
    assert Lines(line_file(rows)).line(AT) == ("\N{REPLACEMENT CHARACTER}c", 1)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (elf(named(symbol(1) * (MOST_SYMBOLS + 1), b"\0a\0")), "500001 symbols; at most 500000"),
        (elf(named(symbol(1), b"", link=7)), "has no names"),
        (elf(named(symbol(1), b"\0a\0"), count=0xFFFF), "section headers lie beyond"),
        (elf(named(symbol(1), b"\0a\0"), table=(64, 8)), "section headers of 8 bytes"),
        (elf([Section(b".symtab", b"", 2, link=1, size=1 << 63)]), "lies beyond the end of the file"),
        (b"\x7fELF\x02\x02\x01" + bytes(60), "encoding 2"),
    ],
    ids=["count", "link", "end", "entry", "size", "encoding"],
)
def test_symbols_beyond_the_limits(data: bytes, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(ElfError, match=sentence):
        symbols(data)
    (tmp_path / "kernel.elf").write_bytes(data)
    table = SymbolTable()
    with pytest.raises(ConfigError, match=f"damaged ELF file: .*{sentence}"):
        table.load(tmp_path / "kernel.elf")
    assert table.lookup(AT) is None and table.line(AT) is None


@pytest.mark.parametrize(
    ("section", "sentence"),
    [
        (Section(b".debug_line", compressed(b"", 1 << 40), flags=0x800), "1048576 MiB; at most 64"),
        (Section(b".debug_line", compressed(zlib.compress(bytes(999)), 10), flags=0x800), "does not have the 10 bytes"),
        (Section(b".debug_line", compressed(zlib.compress(bytes(9)), 10), flags=0x800), "does not have the 10 bytes"),
        (Section(b".debug_line", compressed(b"", 0, kind=2), flags=0x800), "in a way that is not understood"),
        (Section(b".debug_line", compressed(b"abcd", 9), flags=0x800), "cannot be decompressed"),
        (Section(b".zdebug_line", b"nothing"), "is not compressed"),
    ],
    ids=["size", "more", "less", "zstd", "damage", "gnu"],
)
def test_compressed_sections(section: Section, sentence: str) -> None:
    with pytest.raises(ElfError, match=sentence):
        Lines(elf([section]))


def test_line_programs_are_run_up_to_a_limit() -> None:
    one = line_unit(set_address(AT) + b"\1" + b"\x20" * (MOST_RUN // 4) + END_SEQUENCE)
    far = [one.replace(set_address(AT), set_address(AT + (n << 24))) for n in range(6)]
    lines = Lines(line_file(b"".join(far)))
    assert [lines.line(AT + (n << 24)) is not None for n in range(6)] == [True] * 3 + [False] * 3
    assert lines.line(AT) is not None  # what has been run is kept


def test_the_rules_of_a_function_are_followed_up_to_a_limit() -> None:
    for rules, sentence in ((b"\x0a" * 65, "more than 64 states"), (b"\0" * (1 << 15), "more than 16 KiB")):
        with pytest.raises(ElfError, match=sentence):
            CallFrames(elf([Section(b".eh_frame", COMMON + function(rules))])).row(AT)


@pytest.mark.parametrize("name", EXPENSIVE)
def test_no_file_takes_more_memory_than_its_size_explains(name: str) -> None:
    made = (image for family in (symbols_of_elf, debug_data_of_elf) for image in family())
    image = next(image for image in made if image.name == name)
    tracemalloc.start(1)
    try:
        for read in (symbols, lambda data: Lines(data).line(AT), lambda data: CallFrames(data).row(AT)):
            try:
                read(image.data)
            except ElfError:
                continue
        assert tracemalloc.get_traced_memory()[1] < PEAK
    finally:
        tracemalloc.stop()


def test_addresses_that_collide_in_a_dict_are_looked_up() -> None:
    table = SymbolTable({f"s{n}": n << 44 for n in range(1000)})
    assert table.lookup(5 << 44) == ("s5", 0)


def test_damage_raises_nothing_else(tmp_path: Path) -> None:
    rng = random.Random(8)
    whole = built(tmp_path, "-g", "-O1", units=1, functions=6).read_bytes()
    sections = Sections(whole)
    interesting = [s for s in sections.all if s.name in (b".debug_line", b".eh_frame", b".symtab", b".debug_line_str")]
    good = Lines(whole).line(AT)
    same = 0
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(rng.choice((1, 4, 40))):
            section = rng.choice(interesting)
            where = rng.choice((section.offset + rng.randrange(section.size), rng.randrange(64), len(data) - 1))
            data[where] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        try:
            same += Lines(bytes(data)).line(AT) == good
            symbols(bytes(data))
            frames = CallFrames(bytes(data))
            for at in range(AT, AT + 400, 16):
                frames.row(at)
        except ElfError:
            continue
    assert 10 < same < 300
