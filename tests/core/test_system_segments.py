"""LLDT and LTR: what they take and refuse (AMD64 APM volume 2, 4.8.3; volume 3, LLDT and LTR)."""

from __future__ import annotations

import struct

import pytest

import hypervisor as hv
from tests.core.bare import bare

GDT = 0x90000
LDT, TSS16, TSS32, BUSY = 0x82, 0x81, 0x89, 0x8B
BASE = 0xFFFF_8012_3456_7000
LOADS = ("lldt", "ltr")


def descriptor(kind: int, base: int, high: int = 0) -> bytes:
    """Sixteen bytes, with the limit 0x67; ``high`` are the attributes that the upper half must not have."""
    low = 0x67 | (base & 0xFFFFFF) << 16 | kind << 40 | (base >> 24 & 0xFF) << 56
    return struct.pack("<QII", low, base >> 32 & 0xFFFFFFFF, high)


def load(name: str, content: bytes, mode: int, selector: int = 0x20, limit: int = 0x2F) -> str:
    """What becomes of it: the register, or the exception."""
    with bare(f"mov eax, {selector}; {name} ax; mov ebx, 7; cli; hlt", mode) as vm:
        vm.memory.write(GDT, vm.memory.read(0x1000, 24))
        vm.memory.write(GDT + 0x20, content)
        vm.vcpu.gdtr = hv.Table(GDT, limit)
        vm.traps.exception(None, lambda vcpu, exit: hv.stop(f"{exit.vector} {exit.error_code:#x} at {vcpu.rbx}"))
        result = vm.run(timeout=5)
        register = vm.vcpu.registers.segment("tr" if name == "ltr" else "ldtr")
        busy = vm.memory.read(GDT + 0x25, 1)[0] != content[5]
        if result.reason is hv.Reason.STOPPED:
            assert not busy
            assert register.selector != selector or register.base == 0
            return result.message
        assert result.ebx == 7, result.message
        assert busy is (name == "ltr")
        return f"{register.selector:#x} {register.base:#x} {register.limit:#x}"


@pytest.mark.parametrize("name", LOADS)
def test_what_is_loaded(name: str) -> None:
    kind = TSS32 if name == "ltr" else LDT
    assert load(name, descriptor(kind, BASE), 64) == f"0x20 {BASE:#x} 0x67"
    assert load(name, descriptor(kind, BASE), 32) == "0x20 0x34567000 0x67"
    assert load(name, descriptor(kind, BASE), 32, limit=0x27) == "0x20 0x34567000 0x67"
    if name == "ltr":
        assert load(name, descriptor(TSS16, BASE), 32) == "0x20 0x34567000 0x67"
    assert load(name, descriptor(kind, BASE), 64, selector=0x22) == f"0x22 {BASE:#x} 0x67"


@pytest.mark.parametrize("mode", [32, 64])
@pytest.mark.parametrize("name", LOADS)
def test_what_is_refused(name: str, mode: int) -> None:
    kind = TSS32 if name == "ltr" else LDT
    good = descriptor(kind, 0x1000)
    for other in {LDT, TSS32, BUSY, 0x92, 0x9A, 0x8C, 0x80} - {kind}:
        assert load(name, descriptor(other, 0x1000), mode) == "13 0x20 at 0", hex(other)
    assert load(name, descriptor(kind & 0x7F, 0x1000), mode) == "11 0x20 at 0"
    assert load(name, good, mode, limit=0x2E if mode == 64 else 0x26) == "13 0x20 at 0"
    assert load(name, good, mode, selector=0x24) == "13 0x24 at 0"
    if name == "ltr":
        assert load(name, good, mode, selector=3) == "13 0x0 at 0"


@pytest.mark.parametrize("name", LOADS)
def test_what_long_mode_refuses_besides(name: str) -> None:
    """A base that is not canonical, a type in the upper half, a TSS of 16 bits."""
    kind = TSS32 if name == "ltr" else LDT
    for base in (0x8000_0000_0000, 0xFFFF_7FFF_FFFF_F000, 0xAAAA_AAAA_AAAA_AAAA, 0x00FF_AAAA_AAAA_AAAA):
        assert load(name, descriptor(kind, base), 64) == "13 0x20 at 0", hex(base)
        assert load(name, descriptor(kind, base), 32) == f"0x20 {base & 0xFFFFFFFF:#x} 0x67"
    for bit in range(8, 13):
        assert load(name, descriptor(kind, 0x1000, 1 << bit), 64) == "13 0x20 at 0", bit
    if name == "ltr":
        assert load(name, descriptor(TSS16, 0x1000), 64) == "13 0x20 at 0"


def test_a_null_selector_empties_ldtr() -> None:
    before = "mov eax, 0x20; lldt ax;"
    for mode in (32, 64):
        with bare(f"{before} xor eax, eax; lldt ax; hlt", mode) as vm:
            vm.memory.write(GDT, vm.memory.read(0x1000, 24))
            vm.memory.write(GDT + 0x20, descriptor(LDT, 0x1000))
            vm.vcpu.gdtr = hv.Table(GDT, 0x2F)
            assert vm.run(timeout=5).reason is hv.Reason.HALTED
            register = vm.vcpu.registers.segment("ldtr")
            assert (register.selector, register.limit) == (0, 0)
