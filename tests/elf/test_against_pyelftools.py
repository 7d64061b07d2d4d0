"""What we read of good files is what pyelftools reads: every symbol, every row of lines, every rule of the frames."""

from __future__ import annotations

import io
from typing import Any

import pytest
from elftools.elf.elffile import ELFFile

from hypervisor.elf import CallFrames, Lines, functions, symbols
from tests.elf.programs import built

KINDS = [
    "-g -gdwarf-2", "-g -gdwarf-3 -O2", "-g -gdwarf-4 -O1", "-g -gdwarf-5 -O2", "-g -O0 -m32", "-g -gdwarf-4 -O2 -m32",
    "-g -O2 -gz=zlib", "-g -gdwarf-4 -O2 -gz=zlib-gnu -m32", "-g -O2 -ffunction-sections -fdebug-prefix-map=/=here/",
    "-g -O2 -fno-asynchronous-unwind-tables", "-g -O1 -m32 -fno-asynchronous-unwind-tables",
]  # fmt: skip


@pytest.fixture(params=KINDS, scope="module")
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return built(tmp_path_factory.mktemp("built"), *request.param.split()).read_bytes()


def open_elf(data: bytes) -> Any:
    return ELFFile(io.BytesIO(data))


def rows(data: bytes) -> dict[int, tuple[str, int] | None]:
    """What is at each address that a row begins at: the last one counts, and one behind a sequence's end is none."""
    found: list[tuple[int, bool, tuple[str, int] | None]] = []
    info = open_elf(data).get_dwarf_info()
    for unit in info.iter_CUs():
        program = info.line_program_for_CU(unit)
        files, first = program["file_entry"], int(program["version"] < 5)
        for entry in program.get_entries():
            state = entry.state
            if state is not None and state.end_sequence:
                found.append((state.address, False, None))
            elif state is not None:
                found.append((state.address, True, (files[state.file - first].name.decode(), state.line)))
    return {address: row for address, _, row in sorted(found, key=lambda row: row[:2])}


def test_lines(program: bytes) -> None:
    expected, lines = rows(program), Lines(program)
    assert len(expected) > 500
    addresses = sorted(expected)
    for address, following in zip(addresses, [*addresses[1:], addresses[-1] + 1], strict=True):
        for at in {address, following - 1}:
            assert lines.line(at) == expected[address], hex(at)
    assert lines.all_lines() == {row for row in expected.values() if row is not None}


def test_symbols(program: bytes) -> None:
    table = open_elf(program).get_section_by_name(".symtab")
    expected: dict[str, int] = {}
    for bind in ("STB_GLOBAL", "STB_LOCAL"):
        for symbol in table.iter_symbols():
            kind = symbol["st_info"]
            if kind["type"] in ("STT_NOTYPE", "STT_FUNC", "STT_OBJECT") and symbol["st_shndx"] != "SHN_UNDEF":
                if kind["bind"] == bind and symbol.name:
                    expected.setdefault(symbol.name, symbol["st_value"])
    assert len(expected) > 60 and symbols(program) == expected


def test_functions(program: bytes) -> None:
    table = open_elf(program).get_section_by_name(".symtab")
    expected: dict[int, set[str]] = {}
    for symbol in table.iter_symbols():
        if symbol["st_info"]["type"] == "STT_FUNC" and symbol["st_shndx"] != "SHN_UNDEF":
            expected.setdefault(symbol["st_value"], set()).add(symbol.name)
    found = functions(program)
    assert len(found) > 60 and list(found) == sorted(expected)
    assert all(name in expected[address] for address, name in found.items())


def test_frames(program: bytes) -> None:
    elf = open_elf(program)
    info, frames = elf.get_dwarf_info(), CallFrames(program)
    checked = 0
    for entry in info.EH_CFI_entries() if info.has_EH_CFI() else info.CFI_entries():
        if "initial_location" not in getattr(entry, "header", ()):
            continue
        table = entry.get_decoded().table
        end = entry["initial_location"] + entry["address_range"]
        for row, following in zip(table, [*(row["pc"] for row in table[1:]), end], strict=True):
            for at in {row["pc"], following - 1}:
                ours = frames.row(at)
                assert ours is not None, hex(at)
                back = entry.cie["return_address_register"]
                saved = {n: row[n].arg for n in (back, ours.pointer) if n in row and row[n].type == "OFFSET"}
                assert (ours.register, ours.offset, ours.saved) == (row["cfa"].reg, row["cfa"].offset, saved), hex(at)
                checked += 1
    assert checked > 200
