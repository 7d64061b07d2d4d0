"""Code of 16 bits beyond the first 64 KiB of its segment: what leaves the guest goes on behind itself."""

from __future__ import annotations

import pytest

import hypervisor as hv
from hypervisor.assembler import assemble
from tests.oracle.build import CODE16, DATA32, FLAT, descriptor

GDT, GDTR, CODE = 0x30000, 0x30800, 0x12000


@pytest.mark.parametrize("code", ["cpuid", "rdmsr", "mov eax, cr0", "sgdt [0x100]", "nop"])
def test_rip_is_not_cut(code: str) -> None:
    """16 bits of operand size cut RIP in branches, not in what runs straight on (APM volume 3, Jcc)."""
    table = bytes(8) + descriptor(0, FLAT, CODE16 | 0x800) + descriptor(0, FLAT, DATA32)
    body = assemble(f"{code}; hlt", origin=0, mode=16).code

    def setup(vm: hv.Vm) -> None:
        vm.memory.write(GDT, table)
        vm.memory.write(GDTR, (len(table) - 1).to_bytes(2, "little") + GDT.to_bytes(4, "little"))
        vm.memory.write(CODE, body)

    start = f"mov ecx, 0x10; lgdt [{GDTR:#x}]; push 8; push {CODE:#x}; retf"
    r = hv.run_asm(start, mode=32, setup=setup)
    assert (r.reason, r.rip) == (hv.Reason.HALTED, CODE + len(body))
