"""What flushes a guest's TLB, and what does not (AMD64 APM volume 2, 5.5.2), seen in accessed bits and page faults."""

from __future__ import annotations

import struct

import pytest

import hypervisor as hv
from hypervisor.machine.bare import PAGE_TABLES
from tests.core.bare import bare

PAGE, TABLE = 0x40000000, 0x90000
ENTRY = TABLE + 0x1000
_FLUSHES = {
    "MOV CR3": "mov rax, cr3; mov cr3, rax",
    "INVLPG": f"mov rax, {PAGE + 0x123}; invlpg [rax]",
    "CR4": "mov rax, cr4; bts rax, 7; mov cr4, rax",
    "CR0": "mov rax, cr0; bts rax, 16; mov cr0, rax",
}
_KEEPS = {
    "nothing": "nop",
    "INVLPG of another page": f"mov rax, {PAGE + 0x1000}; invlpg [rax]",
    "an access to another page": f"mov rax, {PAGE + 0x1000}; mov al, [rax]",
    "CPUID": "xor eax, eax; cpuid",
}


def _seen(between: str, listen: str = "") -> int:
    """Whether the accessed bit of a page is set again by a load behind ``between``."""
    code = f"""
        mov rsi, {PAGE}
        mov edx, [rsi]
        and qword ptr [{ENTRY}], {~0x20}
        {between}
        mov edx, [rsi]
        mov ebx, [{ENTRY}]
        hlt
    """
    with bare(code) as vm:
        vm.memory.write(PAGE_TABLES + 0x1008, struct.pack("<Q", TABLE | 7))
        vm.memory.write(TABLE, struct.pack("<Q", ENTRY | 7))
        vm.memory.write(ENTRY, struct.pack("<QQ", 0x80007, 0x81007))
        if listen:
            getattr(vm.traps, listen)(mode="observe")(lambda vcpu, exit: None)
        result = vm.run(timeout=20)
        assert result.reason is hv.Reason.HALTED, result.message
        return vm.vcpu.ebx >> 5 & 1


@pytest.mark.parametrize("listen", ["", "cr_write", "invlpg"])
@pytest.mark.parametrize("between", _FLUSHES)
def test_what_flushes(between: str, listen: str) -> None:
    assert _seen(_FLUSHES[between], listen) == 1


@pytest.mark.parametrize("between", _KEEPS)
def test_what_does_not(between: str) -> None:
    assert _seen(_KEEPS[between]) == 0


@pytest.mark.parametrize("flushed", [0x40000000, 0x5FFFF000, 0x7FE00000])
def test_invlpg_forgets_all_of_a_page_of_1_gib(flushed: int) -> None:
    code = f"""
        mov rsi, {PAGE + 0x80000}
        mov edx, [rsi]
        mov qword ptr [{PAGE_TABLES + 0x1008}], 0
        mov rax, {flushed}
        invlpg [rax]
        mov edx, [rsi]
        hlt
    """
    with bare(code) as vm:
        vm.memory.write(PAGE_TABLES + 0x1008, struct.pack("<Q", 0x87))
        result = vm.run(timeout=20)
        assert result.reason is hv.Reason.CRASHED and vm.vcpu.cr2 == PAGE + 0x80000, result.message


@pytest.mark.parametrize("flushed", [0x400000, 0x5FF000, 0x600000, 0x7FF000])
def test_invlpg_forgets_all_of_a_page_of_4_mib(flushed: int) -> None:
    code = f"""
        mov dword ptr [{TABLE}], 0x83
        mov dword ptr [{TABLE + 4}], 0x83
        mov eax, cr4
        or eax, 0x10
        mov cr4, eax
        mov eax, {TABLE}
        mov cr3, eax
        mov eax, cr0
        or eax, 0x80000000
        mov cr0, eax
        mov edx, [0x480000]
        mov dword ptr [{TABLE + 4}], 0
        invlpg [{flushed}]
        mov edx, [0x480000]
        hlt
    """
    with bare(code, mode=32) as vm:
        result = vm.run(timeout=20)
        assert result.reason is hv.Reason.CRASHED and vm.vcpu.cr2 == 0x480000, result.message
