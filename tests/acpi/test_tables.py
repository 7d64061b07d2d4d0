"""The tables as others read them: ACPICA's iasl takes each apart and puts it together again, to the same bytes."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from hypervisor.acpi import Platform, build, loader_script
from tests.acpi.machines import PLATFORMS
from tests.programs import run

AT = 0xF0040
COMPILER = slice(28, 36)
"""Where a header names the program that made the table: iasl writes its own name there."""


def tables_at(platform: Platform, address: int = AT) -> dict[str, bytes]:
    """Each table by signature, found from the root as a guest does."""
    rsdp, data = build(platform).at(address)

    def table(at: int) -> bytes:
        start = at - address
        (length,) = struct.unpack_from("<I", data, start + 4)
        return data[start : start + length]

    rsdt_at, xsdt_at = struct.unpack("<I", rsdp[16:20])[0], struct.unpack("<Q", rsdp[24:32])[0]
    found = {"RSDT": table(rsdt_at), "XSDT": table(xsdt_at)}
    listed = struct.unpack(f"<{(len(found['XSDT']) - 36) // 8}Q", found["XSDT"][36:])
    assert struct.unpack(f"<{len(listed)}I", found["RSDT"][36:]) == listed
    for at in listed:
        found[table(at)[:4].decode()] = table(at)
    fadt = found["FACP"]
    facs_at, dsdt_at = struct.unpack_from("<II", fadt, 36)
    assert struct.unpack_from("<Q", fadt, 140) == (dsdt_at,)
    assert facs_at % 64 == 0
    return found | {"FACS": table(facs_at), "DSDT": table(dsdt_at)}


@pytest.mark.parametrize(
    ("name", "signature"), [(name, signature) for name in PLATFORMS for signature in tables_at(PLATFORMS[name])]
)
def test_iasl_takes_it_apart_and_puts_it_together_again(name: str, signature: str, tmp_path: Path) -> None:
    table = tables_at(PLATFORMS[name])[signature]
    (tmp_path / "table.dat").write_bytes(table)
    said = run("iasl", "-d", "table.dat", cwd=tmp_path)
    assert "warning" not in said.lower() and "error" not in said.lower(), said
    said = run("iasl", "-oa", "-p", "again", "table.dsl", cwd=tmp_path)
    assert "0 Errors, 0 Warnings, 0 Remarks" in said
    again = bytearray((tmp_path / "again.aml").read_bytes())
    if signature != "FACS":
        again[COMPILER], again[9] = table[COMPILER], table[9]
    assert bytes(again) == table


@pytest.mark.parametrize("name", PLATFORMS)
def test_checksums(name: str) -> None:
    for signature, table in tables_at(PLATFORMS[name]).items():
        assert signature == "FACS" or sum(table) & 0xFF == 0, signature
    rsdp, _ = build(PLATFORMS[name]).at(AT)
    assert sum(rsdp[:20]) & 0xFF == 0
    assert sum(rsdp) & 0xFF == 0
    assert (rsdp[:8], rsdp[15], len(rsdp)) == (b"RSD PTR ", 2, 36)


def test_the_hpet_is_described_where_there_is_one() -> None:
    assert "HPET" not in tables_at(PLATFORMS["small"])
    table = tables_at(PLATFORMS["pc"])["HPET"]
    assert struct.unpack_from("<IBBBBQBHB", table, 36) == (0x8086A201, 0, 64, 0, 0, 0xFED00000, 0, 100, 0)


def test_the_madt_lists_processors_and_interrupts() -> None:
    table = tables_at(PLATFORMS["elsewhere"])["APIC"]
    assert struct.unpack_from("<II", table, 36) == (0xD0000000, 1)
    entries: dict[int, list[bytes]] = {}
    at = 44
    while at < len(table):
        entries.setdefault(table[at], []).append(table[at : at + table[at + 1]])
        at += table[at + 1]
    assert at == len(table)
    assert [(one[2], one[3], one[4]) for one in entries[0]] == [(0, 0, 1), (1, 1, 1), (2, 2, 1)]
    assert [struct.unpack("<BBBBII", one) for one in entries[1]] == [(1, 12, 9, 0, 0xD0001000, 0)]
    assert [struct.unpack("<BBBBIH", one)[3:] for one in entries[2]] == [(0, 2, 0), (10, 10, 0xD)]
    assert entries[4] == [bytes((4, 6, 0xFF, 0, 0, 1))]


def test_firmware_that_runs_the_script_gets_the_same_tables() -> None:
    """The script, executed as SeaBIOS does it, gives what `AcpiTables.at` gives."""
    acpi = build(PLATFORMS["smp"])
    files = {name: bytearray(data) for name, data in loader_script.files(acpi).items()}
    script = bytes(files.pop(loader_script.SCRIPT_FILE))
    places: dict[str, int] = {}

    def name(raw: bytes) -> str:
        return raw.rstrip(b"\0").decode()

    for start in range(0, len(script), 128):
        entry = script[start : start + 128]
        command = int.from_bytes(entry[:4], "little")
        if command == 1:
            file, align, zone = struct.unpack_from("<56sIB", entry, 4)
            places[name(file)] = {1: 0x7FE0000, 2: 0xF5AD0}[zone]
            assert places[name(file)] % align == 0
        elif command == 2:
            into, of, offset, size = struct.unpack_from("<56s56sIB", entry, 4)
            data = files[name(into)]
            value = int.from_bytes(data[offset : offset + size], "little") + places[name(of)]
            data[offset : offset + size] = value.to_bytes(size, "little")
        else:
            assert command == 3
            file, offset, first, length = struct.unpack_from("<56sIII", entry, 4)
            data = files[name(file)]
            data[offset] = (data[offset] - sum(data[first : first + length])) & 0xFF
    rsdp, tables = acpi.at(0x7FE0000)
    assert bytes(files[loader_script.RSDP_FILE]) == rsdp
    assert bytes(files[loader_script.TABLES_FILE]) == tables
