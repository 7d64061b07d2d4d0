"""SSE exceptions: MXCSR's flags, what is not masked, denormals, and which operand is taken (APM volume 1, 4.10)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

import hypervisor as hv
from tests.core.bare import DATA, bare, with_idt

IE, DE, ZE, OE, UE, PE, DAZ, FZ, MASKS = 1, 2, 4, 8, 0x10, 0x20, 0x40, 0x8000, 0x1F80
OSFXSR, OSXMMEXCPT = 0x200, 0x400
ONE, THREE, LARGEST, SMALLEST, DENORMAL, INFINITY = 0x3F800000, 0x40400000, 0x7F7FFFFF, 0x00800000, 1, 0x7F800000
SNAN, QNAN, OTHER_QNAN, MINUS, INDEFINITE = 0x7F800001, 0x7FC00001, 0x7FC00002, 1 << 31, 0xFFC00000
CANARY = 0x5A5A5A5A


@contextmanager
def guest(code: str, mxcsr: int, first: int, second: int) -> Iterator[hv.VM]:
    """A bare machine with an operand in XMM0 and another in XMM1 and at 80000h, 128 bits each."""
    with bare(code) as vm:
        vm.vcpu.cr4 |= OSFXSR | OSXMMEXCPT
        vm.vcpu.xmm0, vm.vcpu.xmm1 = first, second
        vm.memory.write(DATA, second.to_bytes(16, "little"))
        vm.vcpu.registers.set_x87(mxcsr=mxcsr)
        yield vm


# what is done to XMM0 with XMM1, MXCSR's bits but the masks, the operands; then flags and XMM0
SCALARS: dict[str, tuple[str, int, int, int, int, int]] = {
    "1/3": ("divss xmm0, xmm1", 0, ONE, THREE, PE, 0x3EAAAAAB),
    "1/3, down": ("divss xmm0, xmm1", 0x2000, ONE, THREE, PE, 0x3EAAAAAA),
    "1/0": ("divss xmm0, xmm1", 0, ONE, MINUS, ZE, INFINITY | MINUS),
    "0/0": ("divss xmm0, xmm1", 0, 0, 0, IE, INDEFINITE),
    "overflow": ("mulss xmm0, xmm1", 0, LARGEST, LARGEST, OE | PE, INFINITY),
    "underflow": ("mulss xmm0, xmm1", 0, SMALLEST, 0x3F000001, UE | PE, 0x00400000),
    "underflow to zero": ("mulss xmm0, xmm1", FZ, SMALLEST, 0x3F000001, UE | PE, 0),
    "an exact denormal": ("mulss xmm0, xmm1", 0, SMALLEST, 0x3F000000, 0, 0x00400000),
    "an exact denormal to zero": ("mulss xmm0, xmm1", FZ, SMALLEST, 0x3F000000, UE | PE, 0),
    "a denormal operand": ("addss xmm0, xmm1", 0, DENORMAL, ONE, DE | PE, ONE),
    "a denormal operand is zero": ("addss xmm0, xmm1", DAZ, DENORMAL, MINUS, 0, 0),
    "a signaling NaN": ("addss xmm0, xmm1", 0, ONE, SNAN, IE, QNAN),
    "two NaNs": ("addss xmm0, xmm1", 0, QNAN, OTHER_QNAN, 0, QNAN),
    "a NaN and a denormal": ("addss xmm0, xmm1", 0, QNAN, DENORMAL, 0, QNAN),
    "minss takes the second of NaNs": ("minss xmm0, xmm1", 0, QNAN, ONE, IE, ONE),
    "maxss takes the second NaN": ("maxss xmm0, xmm1", 0, ONE, SNAN, IE, SNAN),
    "minss takes the second zero": ("minss xmm0, xmm1", 0, MINUS, 0, 0, 0),
    "maxss of a denormal": ("maxss xmm0, xmm1", 0, DENORMAL, 0, DE, DENORMAL),
    "maxss of a denormal that is zero": ("maxss xmm0, xmm1", DAZ, DENORMAL, 0, 0, 0),
    "cmpeqss is quiet": ("cmpss xmm0, xmm1, 0", 0, QNAN, ONE, 0, 0),
    "cmpltss is not": ("cmpss xmm0, xmm1, 1", 0, QNAN, ONE, IE, 0),
    "cmpnless of NaN": ("cmpss xmm0, xmm1, 6", 0, QNAN, ONE, IE, 0xFFFFFFFF),
    "cmpunordss of a signaling NaN": ("cmpss xmm0, xmm1, 3", 0, SNAN, ONE, IE, 0xFFFFFFFF),
    "cmpss with DAZ": ("cmpss xmm0, xmm1, 0", DAZ, DENORMAL, MINUS, 0, 0xFFFFFFFF),
    "sqrtss(-1)": ("sqrtss xmm0, xmm1", 0, 0, ONE | MINUS, IE, INDEFINITE),
    "roundss": ("roundss xmm0, xmm1, 1", 0, 0, 0x3FC00000, PE, ONE),
    "roundss, inexact results quiet": ("roundss xmm0, xmm1, 9", 0, 0, 0x3FC00000, 0, ONE),
    "roundss as MXCSR says": ("roundss xmm0, xmm1, 4", 0x4000, 0, 0x3FC00000, PE, 0x40000000),
    "rcpss has no flags": ("rcpss xmm0, xmm1", 0, 0, SNAN, 0, QNAN),
    "rcpss of a denormal": ("rcpss xmm0, xmm1", 0, 0, DENORMAL | MINUS, 0, INFINITY | MINUS),
    "rsqrtss of -1": ("rsqrtss xmm0, xmm1", 0, 0, ONE | MINUS, 0, INDEFINITE),
    "cvtdq2ps": ("cvtdq2ps xmm0, xmm1", 0, 0, 0x01000001, PE, 0x4B800000),
    "cvttps2dq of what is too large": ("cvttps2dq xmm0, xmm1", 0, 0, 0x4F000000, IE, 0x80000000),
    "cvtps2dq of NaN": ("cvtps2dq xmm0, xmm1", 0, 0, QNAN, IE, 0x80000000),
    "cvtps2dq of 1.5": ("cvtps2dq xmm0, xmm1", 0, 0, 0x3FC00000, PE, 2),
    "cvtsd2ss, overflow": ("cvtsd2ss xmm0, xmm1", 0, 0, 0x7FE0 << 48, OE | PE, INFINITY),
    "cvtss2sd of a signaling NaN": ("cvtss2sd xmm0, xmm1", 0, 0, SNAN, IE, 0x7FF8000020000000),
    "cvtsi2ss": ("mov eax, 0x1000001; cvtsi2ss xmm0, eax", 0, 0, 0, PE, 0x4B800000),
    "dpps looks at what it multiplies": ("dpps xmm0, xmm1, 0x11", 0, ONE | SNAN << 32, THREE, 0, THREE),
    "comiss": ("comiss xmm0, xmm1", 0, QNAN, ONE, IE, QNAN),
    "ucomiss": ("ucomiss xmm0, xmm1", 0, QNAN, ONE, 0, QNAN),
    "cvttss2si": ("cvttss2si eax, xmm0; movd xmm0, eax", 0, INFINITY, 0, IE, 0x80000000),
}


@pytest.mark.parametrize("name", SCALARS)
def test_masked_exceptions_set_flags(name: str) -> None:
    code, bits, first, second, flags, result = SCALARS[name]
    for before in (0, flags):  # flags that are set stay set, and change nothing
        with guest(f"{code}; stmxcsr [0x80100]; hlt", MASKS | bits | before, first, second) as vm:
            assert vm.run().reason is hv.Reason.HALTED
            assert vm.memory.read(DATA + 0x100, 4) == struct.pack("<I", MASKS | bits | flags)
            assert vm.vcpu.registers.x87.mxcsr == MASKS | bits | flags
            assert vm.vcpu.xmm0 & (1 << 64) - 1 == result or vm.vcpu.xmm0 & 0xFFFFFFFF == result


def test_every_element_counts() -> None:
    first = int.from_bytes(struct.pack("<4I", ONE, LARGEST, SNAN, DENORMAL), "little")
    second = int.from_bytes(struct.pack("<4I", THREE, SMALLEST, ONE, ONE), "little")
    with guest("divps xmm0, [0x80000]; hlt", MASKS, first, second) as vm:
        vm.run()
        assert vm.vcpu.registers.x87.mxcsr == MASKS | IE | DE | OE | PE
        assert struct.unpack("<4I", vm.vcpu.xmm0.to_bytes(16, "little")) == (0x3EAAAAAB, INFINITY, QNAN, DENORMAL)


# what is done, what is not masked, the operands, and MXCSR's flags after it
RAISED: dict[str, tuple[str, int, int, int, int]] = {
    "1/0": ("divss xmm0, xmm1", ZE, ONE, 0, ZE),
    "0/0": ("divss xmm0, [0x80000]", IE, 0, 0, IE),
    "inexact": ("divss xmm0, xmm1", PE, ONE, THREE, PE),
    "overflow": ("mulss xmm0, xmm1", OE, LARGEST, LARGEST, OE | PE),
    "an exact denormal": ("mulss xmm0, xmm1", UE, SMALLEST, 0x3F000000, UE),
    "a denormal difference": ("subss xmm0, xmm1", UE, SMALLEST, DENORMAL, UE | DE),
    "a denormal that is not flushed": ("mulss xmm0, xmm1", UE | FZ, SMALLEST, 0x3F000000, UE),
    "a denormal operand": ("addss xmm0, xmm1", DE, DENORMAL, ONE, DE),
    "nothing is computed after one met before": ("divps xmm0, xmm1", ZE, ONE | ONE << 32, THREE << 32, ZE | IE),
    "comiss": ("comiss xmm0, xmm1", IE, QNAN, ONE, IE),
    "cvtss2si": ("cvtss2si eax, xmm0", IE, QNAN, ONE, IE),
    "roundss": ("roundss xmm0, xmm1, 0", PE, 0, 0x3FC00000, PE),
}


@pytest.mark.parametrize("enabled", [True, False])
@pytest.mark.parametrize("name", RAISED)
def test_what_is_not_masked_is_raised_before_anything_is_written(name: str, enabled: bool) -> None:
    code, unmasked, first, second, flags = RAISED[name]
    first |= CANARY << 96
    mxcsr = (MASKS | unmasked & FZ) & ~((unmasked & 0x3F) << 7)
    with guest(f"mov eax, {CANARY}; clc; at: {code}; hlt", mxcsr, first, second) as vm:
        with_idt(vm, {19: "mov ebp, 19; pop rbx; hlt", 6: "mov ebp, 6; pop rbx; hlt"})
        if not enabled:
            vm.vcpu.cr4 &= ~OSXMMEXCPT
        assert vm.run().reason is hv.Reason.HALTED
        assert vm.vcpu.rbp == (19 if enabled else 6)
        assert vm.memory.read(vm.vcpu.rbx - 1, 1) == b"\xf8"  # CLC, before the instruction
        assert vm.vcpu.xmm0 == first
        assert vm.vcpu.eax == CANARY
        assert vm.vcpu.registers.x87.mxcsr == mxcsr | flags


def test_what_is_not_masked_and_not_met_changes_nothing() -> None:
    with guest("divss xmm0, xmm1; hlt", MASKS & ~(ZE << 7), ONE, THREE) as vm:
        assert vm.run().reason is hv.Reason.HALTED
        assert vm.vcpu.xmm0 == 0x3EAAAAAB


@pytest.mark.parametrize("code", ["660f78c00804", "660f79c1", "f20f78c10804", "f20f79c1"])
def test_sse4a_is_not_there(code: str) -> None:
    with bare(".byte " + ", ".join(f"0x{byte:x}" for byte in bytes.fromhex(code)) + "; hlt") as vm:
        with_idt(vm, {6: "mov ebp, 6; hlt"})
        vm.vcpu.cr4 |= OSFXSR
        vm.run()
        assert vm.vcpu.rbp == 6


def test_reserved_bits_of_mxcsr_are_refused() -> None:
    with bare("ldmxcsr [0x80000]; hlt") as vm:
        with_idt(vm, {13: "pop rax; mov ebp, 13; hlt"})
        vm.vcpu.cr4 |= OSFXSR
        vm.memory.write(DATA, b"\x80\x1f\x01\0")
        vm.run()
        assert (vm.vcpu.rbp, vm.vcpu.rax) == (13, 0)
