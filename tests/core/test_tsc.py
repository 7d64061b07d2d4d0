"""The time-stamp counter's offset: writes of TSC move TSC_ADJUST, and writes of TSC_ADJUST move TSC (SDM volume 3B,
18.17.3).
"""

from __future__ import annotations

import pytest

import hypervisor as hv

NEGATIVE = (1 << 64) - 5_000_000_000


@pytest.mark.parametrize("offset", [0, 1 << 40, NEGATIVE])
def test_tsc_adjust_is_the_distance_from_the_clock(offset: int) -> None:
    result = hv.run_asm(
        f"""
        mov ecx, 0x3b
        mov eax, {offset & 0xFFFFFFFF}
        mov edx, {offset >> 32}
        wrmsr
        rdmsr
        shl rdx, 32
        or rax, rdx
        mov rbx, rax
        rdtsc
        shl rdx, 32
        or rax, rdx
        hlt
        """,
        mode=64,
    )
    assert result.rbx == offset
    assert 0 <= result.rax - offset & (1 << 64) - 1 < 1_000_000


def test_writing_tsc_moves_tsc_adjust_by_as_much() -> None:
    result = hv.run_asm("mov ecx, 0x10; mov edx, 0x100; xor eax, eax; wrmsr; mov ecx, 0x3b; rdmsr; hlt", mode=64)
    assert 0 <= (0x100 << 32) - (result.edx << 32 | result.eax) < 1_000_000
