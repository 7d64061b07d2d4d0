"""The MP table, read as the MultiProcessor Specification describes it."""

from __future__ import annotations

import struct

import pytest

from hypervisor.acpi import mp_table
from tests.acpi.machines import PLATFORMS

AT = 0xF1000
LENGTHS = {0: 20, 1: 8, 2: 8, 3: 8, 4: 8}
ISA, EXTINT, INT, NMI = 0, 3, 0, 1


@pytest.mark.parametrize("name", PLATFORMS)
def test_the_table_is_well_formed(name: str) -> None:
    platform = PLATFORMS[name]
    data = mp_table(platform, AT, 0x00830F10, 0x178BFBFF)
    pointer, table = data[:16], data[16:]
    assert pointer[:4] == b"_MP_" and sum(pointer) & 0xFF == 0
    assert struct.unpack("<IBB", pointer[4:10]) == (AT + 16, 1, 4)
    assert table[:4] == b"PCMP" and sum(table) & 0xFF == 0
    length, count, apic = struct.unpack("<4xH28xHI", table[:40])
    assert (length, apic) == (len(table), platform.local_apic)
    entries: dict[int, list[bytes]] = {}
    at = 44
    for _ in range(count):
        entries.setdefault(table[at], []).append(table[at : at + LENGTHS[table[at]]])
        at += LENGTHS[table[at]]
    assert at == len(table)
    assert [one[1] for one in entries[0]] == list(range(platform.cpus))
    assert [one[3] for one in entries[0]] == [3] + [1] * (platform.cpus - 1)
    assert entries[1] == [b"\x01\x00ISA   "]
    assert struct.unpack("<BBBBI", entries[2][0]) == (2, platform.io_apic_id, 0x11, 1, platform.io_apic)
    wired = {(one[1], one[5]): (one[7], struct.unpack("<H", one[2:4])[0]) for one in entries[3]}
    assert wired[EXTINT, 0] == (0, 0)
    assert wired[INT, 0] == (platform.timer_pin, 0)
    assert wired[INT, platform.sci] == (platform.sci, 0xD)
    assert wired[INT, 4] == (4, 0)
    assert [(one[1], one[7]) for one in entries[4]] == [(EXTINT, 0), (NMI, 1)]
