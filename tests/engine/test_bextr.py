"""BEXTR: as many bits as there are from a bit on (AMD64 APM volume 3)."""

from __future__ import annotations

import pytest

from tests.core.bare import DATA, bare

SOURCE = 0xF1E2D3C4_B5A69788


@pytest.mark.parametrize("length", [0, 1, 31, 32, 33, 63, 64, 255])
@pytest.mark.parametrize("start", [0, 1, 31, 32, 63, 64, 255])
@pytest.mark.parametrize(("mode", "bits"), [(32, 32), (64, 32), (64, 64)])
def test_bextr(mode: int, bits: int, start: int, length: int) -> None:
    registers, memory = "eax, ebx, ecx", "eax, dword ptr [rdi], ecx"
    if bits == 64:
        registers, memory = "rax, rbx, rcx", "rax, qword ptr [rdi], rcx"
    if mode == 32:
        memory = memory.replace("rdi", "edi")
    source = SOURCE & ((1 << bits) - 1)
    expected = source >> start & ((1 << length) - 1)
    for operands in (registers, memory):
        code = f"stc; bextr {operands}; push{'fq' if mode == 64 else 'fd'}; pop {'rdx' if mode == 64 else 'edx'}; hlt"
        with bare(code, mode, rbx=SOURCE, rcx=0xABCD0000 | length << 8 | start, rdi=DATA) as vm:
            vm.memory.write(DATA, SOURCE.to_bytes(8, "little"))
            vm.run()
            assert vm.vcpu.rax == expected, operands
            assert vm.vcpu.rdx & 0x801 == 0
            assert vm.vcpu.rdx >> 6 & 1 == (expected == 0)
