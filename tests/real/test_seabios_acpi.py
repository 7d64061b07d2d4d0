"""SeaBIOS places our ACPI tables, takes its timer from them, and starts the processors."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import hypervisor as hv
from tests.sectors import boot_sector

SECTOR = boot_sector("cli; hlt")


def test_seabios_places_the_tables_and_starts_the_processors(debian_file: Callable[[str, str], Path]) -> None:
    firmware = debian_file("seabios", "usr/share/seabios/bios-256k.bin")
    with closing(hv.boot(firmware=firmware, disks=[SECTOR], memory="64M", cpus=3)) as vm:
        assert vm.run(virtual_timeout=30).reason is hv.Reason.HALTED
        log = vm.firmware.log.text
        assert "Using pmtimer, ioport 0x608" in log
        assert "Found 3 cpu(s) max supported 3 cpu(s)" in log
        segment = vm.memory.read(0xE0000, 0x20000)
        rsdp = segment[segment.index(b"RSD PTR ") :][:36]
        assert sum(rsdp[:20]) & 0xFF == sum(rsdp) & 0xFF == 0

        def table(at: int) -> bytes:
            (size,) = struct.unpack("<I", vm.memory.read(at + 4, 4))
            found = vm.memory.read(at, size)
            assert sum(found) & 0xFF == 0, found[:4]
            return found

        xsdt = table(struct.unpack("<Q", rsdp[24:32])[0])
        found = {(one := table(at))[:4]: one for (at,) in struct.iter_unpack("<Q", xsdt[36:])}
        (dsdt,) = struct.unpack_from("<I", found[b"FACP"], 40)
        assert table(dsdt)[:4] == b"DSDT"
        processors = re.findall(rb"\x00\x08(.)(.)\x01\x00\x00\x00", found[b"APIC"][44:], re.DOTALL)
        assert processors == [(b"\0", b"\0"), (b"\1", b"\1"), (b"\2", b"\2")]
