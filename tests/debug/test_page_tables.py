"""`Vcpu.page_tables` says of every address what the walk of one address says, and the engine's."""

from __future__ import annotations

import random
import struct

import pytest

import hypervisor as hv
from hypervisor.arch import flags
from hypervisor.arch import paging as p
from tests.core.bare import bare

TABLES, COUNT = 0x20000, 40
"""Where random tables lie, and how many pages they take."""

MODES = {
    "long": (64, 8, flags.CR4_PAE, 0),
    "no execute off": (64, 8, flags.CR4_PAE, flags.EFER_NXE),
    "pae": (32, 8, flags.CR4_PAE, 0),
    "32 bits": (32, 4, flags.CR4_PSE, 0),
    "without large pages": (32, 4, 0, 0),
}
"""Bits of the code, bytes of an entry, CR4, and bits that EFER has not."""


def _random_tables(vm: hv.VM, mode: str, choice: random.Random) -> None:
    bits, size, cr4, without = MODES[mode]
    content = bytearray(COUNT << 12)
    for at in range(0, len(content), size):
        if choice.random() < 0.03 or at < 8 * size:
            entry = TABLES + (choice.randrange(COUNT) << 12) | choice.choice((1, 3, 5, 7, 7, 7, 0))
            if choice.random() < 0.2:
                entry |= p.PS
            if choice.random() < 0.1:
                entry |= 1 << choice.randrange(8 * size)
            content[at : at + size] = struct.pack("<Q" if size == 8 else "<I", entry & (1 << 8 * size) - 1)
    vm.memory.write(TABLES, bytes(content))
    vcpu = vm.vcpu
    vcpu.cr3 = TABLES
    vcpu.cr4 = cr4
    if bits == 32:
        vcpu.efer = flags.EFER_NXE if choice.random() < 0.5 and size == 8 else 0
        vcpu.cr0 |= flags.CR0_PG
    vcpu.efer &= ~without


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("seed", range(4))
def test_it_agrees_with_walks(mode: str, seed: int) -> None:
    choice = random.Random(f"{mode} {seed}")
    with bare("hlt", mode=MODES[mode][0]) as vm:
        _random_tables(vm, mode, choice)
        vcpu = vm.vcpu
        found = vcpu.page_tables()
        asked = [one.gva + choice.randrange(one.size) for one in found.ranges[:: max(len(found) // 150, 1)]]
        asked += [one.gva + edge for one in found.ranges[:40] for edge in (-1, 0, one.size - 1, one.size)]
        top = (1 << 48) - 1 if MODES[mode][0] == 64 else 0xFFFF_FFFF
        asked += [choice.randrange(top) & top >> choice.choice((0, 8, 16, 24)) for _ in range(100)]
        last = found.ranges[-1].gva + found.ranges[-1].size if found.ranges else 0
        reached = 0
        for gva in asked:
            gva &= (1 << 64) - 1
            if not found.complete and gva >= last:
                continue
            here = next((one for one in found if one.gva <= gva < one.gva + one.size), None)
            walks = {access: hv.explain(vcpu, gva, access) for access in ("read", "write", "fetch")}
            user = hv.explain(vcpu, gva, "read", user=True)
            if here is None:
                assert walks["read"].gpa is None, hex(gva)
                continue
            reached += 1
            assert walks["read"].gpa == here.gpa + gva - here.gva == vcpu.translate(gva), hex(gva)
            assert (walks["fetch"].gpa is not None, user.gpa is not None) == (here.executable, here.user), hex(gva)
            assert "read-only" in walks["read"].reason or here.writable, hex(gva)
        assert reached or not found.ranges


def test_tables_without_end_come_to_an_end() -> None:
    with bare("hlt") as vm:
        vm.memory.write(TABLES, struct.pack("<Q", TABLES | 7) * 512)
        vm.vcpu.cr3 = TABLES
        found = vm.vcpu.page_tables()
        assert not found.complete and len(found) <= 4096 and "(and more)" in found._repr_html_()


def test_what_it_says() -> None:
    with bare("hlt") as vm:
        assert str(vm.vcpu.page_tables()) == (
            "4-level paging, CR3 0x2000:\n0000000000000000-00000000ffffffff rwxu -> 0x0"
        )
        vm.vcpu.cr0 &= ~flags.CR0_PG
        assert len(vm.vcpu.page_tables()) == 0 and "paging is off" in str(vm.vcpu.page_tables())
