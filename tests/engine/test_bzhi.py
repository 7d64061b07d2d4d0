"""BZHI: the source below a bit, and the carry where there is none to clear (APM volume 3)."""

from __future__ import annotations

import pytest

from tests.core.bare import bare

ONES = (1 << 64) - 1


@pytest.mark.parametrize("index", [0, 1, 30, 31, 32, 62, 63, 64, 255])
@pytest.mark.parametrize("bits", [32, 64])
def test_bzhi(bits: int, index: int) -> None:
    registers = "eax, ebx, ecx" if bits == 32 else "rax, rbx, rcx"
    with bare(f"bzhi {registers}; pushfq; pop rdx; hlt", rbx=ONES, rcx=index) as vm:
        vm.run()
        assert vm.vcpu.rax == (1 << min(index, bits)) - 1
        assert vm.vcpu.rdx & 1 == (index >= bits)
        assert vm.vcpu.rdx >> 6 & 1 == (index == 0)
