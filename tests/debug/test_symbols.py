"""Symbol tables: sources, look-ups in both directions, file formats and their errors."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

import hypervisor as hv
from hypervisor.errors import ConfigError
from hypervisor.guests import shipped
from hypervisor.symbols.symbol_table import MAX_OFFSET, SymbolTable
from tests.sectors import boot_sector


def test_both_directions() -> None:
    table = SymbolTable({"main": 0x1000, "tail": 0x1040})
    assert table["main"] == 0x1000 and "tail" in table and len(table) == 2 and list(table) == ["main", "tail"]
    assert table.lookup(0x1000) == ("main", 0) and table.describe(0x1000) == "main"
    assert table.lookup(0x103F) == ("main", 0x3F) and table.describe(0x103F) == "main+0x3f"
    assert table.lookup(0xFFF) is None and table.describe(0xFFF) == ""
    assert table.lookup(0x1040 + MAX_OFFSET) is None


def test_an_address_with_several_names_shows_the_shortest() -> None:
    assert SymbolTable({"__pfx_start": 1, "start": 1, "begin": 1}).lookup(1) == ("begin", 0)


def test_sources_are_merged_read_late_and_moved_by_their_base() -> None:
    read: list[int] = []

    class Lazy(dict[str, int]):
        def items(self):  # type: ignore[no-untyped-def]
            read.append(1)
            return super().items()

    table = SymbolTable()
    table.add(Lazy(a=0x10, b=0x20))
    table.add({"b": 0x30}, base=0x1000)
    assert read == []
    assert dict(table) == {"a": 0x10, "b": 0x1030} and table.lookup(0x1031) == ("b", 1)
    table.add({"c": 1})
    assert table["c"] == 1


def test_address_takes_both_and_suggests() -> None:
    assert SymbolTable().address(0x1234) == 0x1234
    assert SymbolTable({"start_kernel": 7}).address("start_kernel") == 7
    with pytest.raises(ConfigError, match="no symbols are loaded"):
        SymbolTable().address("main")
    with pytest.raises(ConfigError, match=r"no symbol 'start_kernl' among the 1 loaded\. Did you mean start_kernel\?"):
        SymbolTable({"start_kernel": 7}).address("start_kernl")


def load(path: Path, content: bytes | str, base: int = 0) -> dict[str, int]:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    table = SymbolTable()
    table.load(path, base)
    return dict(table)


def test_nm_system_map_and_kallsyms(tmp_path: Path) -> None:
    text = (
        "0000000000000000 A fixed_percpu_data\nffffffff81000000 T _text\nffffffff81000100 t helper [mod]\n"
        "                 U printf\n# comment\n\n"
    )
    assert load(tmp_path / "System.map", text) == {"_text": 0xFFFFFFFF81000000, "helper": 0xFFFFFFFF81000100}


def test_json(tmp_path: Path) -> None:
    assert load(tmp_path / "s.json", '{"a": 16, "b": "0x20"}', base=1) == {"a": 17, "b": 33}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("1000 T main\nwhat is this\n", r"line 2: 'what is this' is not 'ADDRESS TYPE NAME'"),
        ("1000\n", "line 1: '1000' is not"),
        ('{"a": ', "begins like JSON but is not"),
        ('{"a": []}', r"'a' has \[\]; an address is a number"),
        (b"\x7fELF\x02\x01\x01" + bytes(20), "damaged ELF"),
        ("1000 0000000000000010 T main\n", "is not 'ADDRESS TYPE NAME' as nm writes it"),  # nm -S
        (bytes(510) + b"\x55\xaaHdrS", "line 1: .* is not 'ADDRESS TYPE NAME'"),  # a bzImage
        ("", "has no symbols"),
        ("# nothing\n         U printf\n0000000000000010 A number\n", "has no symbols"),
        ("{}", "has no symbols"),
        (shipped("long").image, "is not 'ADDRESS TYPE NAME'"),
        ("0000000000000000 T _text\n0000000000000000 t helper\t[mod]\n", "Read /proc/kallsyms as root"),
        ("ffffffffffffffff B The real System.map is in the linux-image-dbg package\n", "may be a stub"),
    ],
)
def test_files_that_are_none_of_these_are_refused_and_poison_nothing(
    tmp_path: Path, content: bytes | str, sentence: str
) -> None:
    (tmp_path / "bad").write_bytes(content if isinstance(content, bytes) else content.encode())
    table = SymbolTable({"main": 0x1000})
    with pytest.raises(ConfigError, match=sentence):
        table.load(tmp_path / "bad")
    assert table.lookup(0x1001) == ("main", 1) and table.line(0x1000) is None


def test_an_elf_file_without_symbols_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"has no symbols\. Give the file before it was stripped"):
        load(tmp_path / "stripped", elf([]))


def test_a_file_is_read_when_it_is_named(tmp_path: Path) -> None:
    file = tmp_path / "s.map"
    file.write_text("1000 T main\n")
    table = SymbolTable()
    table.load(file)
    file.unlink()
    assert table.lookup(0x1000) == ("main", 0) and table.line(0x1000) is None


def test_a_kernels_addresses_as_the_kernel_tells_them(tmp_path: Path) -> None:
    """/proc/kallsyms: a tab and the module behind those of modules; moved where the guest's kernel lies elsewhere."""
    text = "ffffffff81000000 T _text\nffffffffc0000010 t open\t[loop]\n"
    moved = load(tmp_path / "kallsyms", text, base=0x1000000)
    assert moved == {"_text": 0xFFFFFFFF82000000, "open": 0xFFFFFFFFC1000010}


def test_a_crash_is_reported_as_if_no_bad_file_had_been_named(tmp_path: Path) -> None:
    (tmp_path / "bzImage").write_bytes(bytes(510) + b"\x55\xaaHdrS")
    with hv.boot(boot_sector("lidt [zero]; int 3; zero: .word 0, 0, 0"), memory="4M") as vm:
        with pytest.raises(ConfigError, match="is not 'ADDRESS TYPE NAME'"):
            vm.symbols.load(tmp_path / "bzImage")
        crash = vm.run(timeout=20).crash
    assert crash is not None and "failed" not in str(crash) and "triple fault" in crash.message


def test_a_missing_file_is_reported_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent cannot be read: No such file"):
        SymbolTable().load(tmp_path / "absent")


def elf(symbols: list[tuple[str, int, int, int]]) -> bytes:
    """An ELF64 file that is a symbol table and nothing else: (name, value, type, section)."""
    names, entries = b"\0", bytes(24)
    for name, value, kind, section in symbols:
        entries += struct.pack("<IBBHQQ", len(names), 1 << 4 | kind, 0, section, value, 0)
        names += name.encode() + b"\0"
    section_names = b"\0.symtab\0.strtab\0.shstrtab\0"
    at = 64
    headers = bytes(64)
    parts = ((1, 2, entries, 2, 1, 24), (9, 3, names, 0, 0, 0), (17, 3, section_names, 0, 0, 0))
    for name_at, kind, data, link, info, entry in parts:
        headers += struct.pack("<IIQQQQIIQQ", name_at, kind, 0, 0, at, len(data), link, info, 8, entry)
        at += len(data)
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    header = ident + struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, 0, 0, at, 0, 64, 0, 0, 64, 4, 3)
    return header + entries + names + section_names + headers


def test_elf(tmp_path: Path) -> None:
    table = [("main", 0x401000, 2, 1), ("data", 0x402000, 1, 1), ("a.c", 0, 4, 0xFFF1), ("extern", 0, 0, 0)]
    assert load(tmp_path / "a.elf", elf(table)) == {"main": 0x401000, "data": 0x402000}
