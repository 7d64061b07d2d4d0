"""The x87's registers as the host side sees them, against what x87 instructions leave there."""

from __future__ import annotations

import pytest

import hypervisor as hv
from tests.core.bare import bare

FLOATS = "fninit; fld1; fldz; fldpi; hlt"
ONE, ZERO, PI = 0x3FFF_8000000000000000, 0, 0x4000_C90FDAA22168C235


def test_the_stack_is_seen_from_its_top() -> None:
    with bare(FLOATS) as vm:
        assert vm.run().reason is hv.Reason.HALTED
        state = vm.vcpu.registers
        assert [state.st(n) for n in range(3)] == [PI, ZERO, ONE]
        assert state.x87.control == 0x37F
        assert state.x87.status == 5 << 11
        assert state.x87.tags == 0b00_01_00_11_11_11_11_11  # R7 is 1.0, R6 is zero, R5 is pi


def test_what_is_written_is_what_instructions_read() -> None:
    with bare("fstp qword ptr [0x80000]; fnstsw ax; fnstcw [0x80010]; stmxcsr [0x80014]; hlt") as vm:
        state = vm.vcpu.registers
        state.set_x87(control=0x27F, status=3 << 11 | 0x100, tags=0xFF3F, mxcsr=0x1FA0)
        state.set_st(0, 0x4000_A000000000000000)
        vm.run()
        assert vm.vcpu.ax == 4 << 11 | 0x100
        assert vm.memory.read(0x80000, 8) == b"\0\0\0\0\0\0\x04\x40"
        assert vm.memory.read(0x80010, 2) == b"\x7f\x02"
        assert vm.memory.read(0x80014, 4) == b"\xa0\x1f\0\0"
        assert state.x87.tags == 0xFFFF


@pytest.mark.parametrize(
    ("value", "tag"), [(ONE, 0), (ZERO, 1), (1, 2), (0x7FFF_8000000000000000, 2), (0x3FFF_0000000000000001, 2)]
)
def test_tags_follow_from_values(value: int, tag: int) -> None:
    with bare("hlt") as vm:
        state = vm.vcpu.registers
        state.set_x87(status=0, tags=0xFFFC)
        state.set_st(0, value)
        assert state.x87.tags == 0xFFFC | tag


def test_after_power_on_sse_and_x87_mask_their_exceptions() -> None:
    with bare("mov eax, 1; cvtsi2ss xmm0, eax; mov eax, 3; cvtsi2ss xmm1, eax; divss xmm0, xmm1; hlt") as vm:
        assert vm.vcpu.registers.x87 == (0x37F, 0, 0xFFFF, 0x1F80)
        vm.vcpu.cr4 |= 0x600
        result = vm.run()
        assert result.reason is hv.Reason.HALTED  # 1/3 is inexact, which would be #XM
        assert vm.vcpu.xmm0 & 0xFFFFFFFF == 0x3EAAAAAB
