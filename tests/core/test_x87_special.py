"""x87 instructions with operands that are no ordinary numbers, and constants (SDM volume 2; volume 1, 8.3)."""

from __future__ import annotations

import gmpy2
import pytest

import hypervisor as hv
from tests.core.bare import DATA, bare, with_idt
from tests.oracle import floating
from tests.oracle.floating import EXTENDED, encode

IE, DE, ZE, PE, C0, C1, C2, C3 = 1, 2, 4, 0x20, 0x100, 0x200, 0x400, 0x4000
TOP, MINUS = 7 << 11, 1 << 79
INFINITY, INDEFINITE, UNNORMAL = 0x7FFF << 64 | 1 << 63, 0xFFFF_C000000000000000, 0x3FFF_4000000000000000


def number(value: float, sign: int = 0) -> int:
    return encode(gmpy2.mpfr(value), EXTENDED) | sign


CONSTANTS = {
    "fld1": lambda: gmpy2.mpfr(1), "fldl2t": lambda: gmpy2.log2(10), "fldl2e": lambda: gmpy2.log2(gmpy2.exp(1)),
    "fldpi": gmpy2.const_pi, "fldlg2": lambda: gmpy2.log10(2), "fldln2": gmpy2.const_log2,
    "fldz": lambda: gmpy2.mpfr(0),
}  # fmt: skip


@pytest.mark.parametrize("rounding", range(4))
@pytest.mark.parametrize("name", CONSTANTS)
def test_constants_are_rounded_as_rc_says(name: str, rounding: int) -> None:
    with gmpy2.context(precision=200):
        exact = CONSTANTS[name]()
    with gmpy2.context(precision=64, round=floating.ROUNDING[rounding]):
        expected = encode(+exact, EXTENDED)
    with bare(f"{name}; hlt") as vm:
        vm.vcpu.registers.set_x87(control=0x7F | rounding << 10, tags=0xFFFF)  # the precision has no say
        vm.run()
        assert vm.vcpu.registers.st(0) == expected


# the instruction, ST(0), ST(1); then ST(0), ST(1) where there are two, and the status word
SPECIAL: dict[str, tuple[str, int, int, int, int | None, int]] = {
    "fyl2x of 0": ("fyl2x", 0, number(1), INFINITY | MINUS, None, ZE),
    "fyl2x of 0, negative": ("fyl2x", 0, number(-1), INFINITY, None, ZE),
    "fyl2x of 0 and 0": ("fyl2x", 0, 0, INDEFINITE, None, IE),
    "fyl2x of 0 and infinity": ("fyl2x", 0, INFINITY, INFINITY | MINUS, None, 0),
    "fyl2x of 1 and infinity": ("fyl2x", number(1), INFINITY, INDEFINITE, None, IE),
    "fyl2x of 1": ("fyl2x", number(1), number(5), 0, None, 0),
    "fyl2x of -1": ("fyl2x", number(-1), number(1), INDEFINITE, None, IE),
    "fyl2x of infinity": ("fyl2x", INFINITY, number(2), INFINITY, None, 0),
    "fyl2x of infinity and 0": ("fyl2x", INFINITY, 0, INDEFINITE, None, IE),
    "fyl2x of a half and 0": ("fyl2x", number(0.5), 0, MINUS, None, 0),
    "fyl2xp1 of 0": ("fyl2xp1", 0, number(3), 0, None, 0),
    "fyl2xp1 of 0 and infinity": ("fyl2xp1", 0, INFINITY, INDEFINITE, None, IE),
    "fxtract of 0": ("fxtract", MINUS, 0, MINUS, INFINITY | MINUS, ZE),
    "fxtract of infinity": ("fxtract", INFINITY | MINUS, 0, INFINITY | MINUS, INFINITY, 0),
    "fxtract of a denormal": ("fxtract", 1, 0, number(1), number(-16445), DE),
    "fxtract of 12": ("fxtract", number(12), 0, number(1.5), number(3), 0),
    "fscale by infinity": ("fscale", number(1), INFINITY, INFINITY, INFINITY, 0),
    "fscale by -infinity": ("fscale", number(1), INFINITY | MINUS, 0, INFINITY | MINUS, 0),
    "fscale of 0 by infinity": ("fscale", 0, INFINITY, INDEFINITE, INFINITY, IE),
    "fscale of infinity by -infinity": ("fscale", INFINITY, INFINITY | MINUS, INDEFINITE, INFINITY | MINUS, IE),
    "fscale by what is no integer": ("fscale", number(3), number(1.75), number(6), number(1.75), 0),
    "fprem of infinity": ("fprem", INFINITY, number(1), INDEFINITE, number(1), IE),
    "fprem by infinity": ("fprem", number(3), INFINITY, number(3), INFINITY, 0),
    "fprem by 0": ("fprem", number(3), 0, INDEFINITE, 0, IE),
    "fprem": ("fprem", number(7), number(2), number(1), number(2), C1 | C3),
    "fprem of a negative": ("fprem", number(-7), number(2), number(-1), number(2), C1 | C3),
    "fprem1": ("fprem1", number(7), number(2), number(-1), number(2), C0),
    "fprem of -0": ("fprem", MINUS, number(2), MINUS, number(2), 0),
    "fxam of an unnormal": ("fxam", UNNORMAL, 0, UNNORMAL, 0, 0),
    "fxam of a pseudo-denormal": ("fxam", 1 << 63, 0, 1 << 63, 0, C2 | C3),
    "fxam of a NaN": ("fxam", INDEFINITE, 0, INDEFINITE, 0, C0 | C1),
    "frndint of an unnormal": ("frndint", UNNORMAL, 0, INDEFINITE, 0, IE),
    "fsin of 2**63": ("fsin", 0x403E << 64 | 1 << 63, 0, 0x403E << 64 | 1 << 63, 0, C2),
    "fpatan of 0 and -0": ("fpatan", MINUS, 0, 0x4000_C90FDAA22168C235, None, PE | C1),
    "f2xm1 of 1": ("f2xm1", number(1), 0, number(1), 0, 0),
}


TRANSCENDENTAL = ("f2xm1", "fpatan", "fyl2x", "fyl2xp1")
"""Whose results may be inexact to a processor though they are numbers."""


@pytest.mark.parametrize("name", SPECIAL)
def test_special_operands(name: str) -> None:
    code, first, second, st0, st1, status = SPECIAL[name]
    with bare(f"fld tbyte ptr [0x80010]; fld tbyte ptr [0x80000]; {code}; fnstsw ax; hlt") as vm:
        vm.memory.write(DATA, first.to_bytes(16, "little") + second.to_bytes(16, "little"))
        vm.run()
        state = vm.vcpu.registers
        known = 0x1F if code in TRANSCENDENTAL else 0x3F if code in ("fscale", "fxtract") else 0x473F
        assert (vm.vcpu.ax & known, state.st(0)) == (status & known, st0)
        assert st1 is None or state.st(1) == st1


DECIMAL = 0xFFFF_C000000000000000


@pytest.mark.parametrize(
    ("value", "stored", "flags"),
    [
        (MINUS, 1 << 79, 0), (number(123), 0x123, 0), (number(-1.5), 1 << 79 | 2, PE), (INFINITY, DECIMAL, IE),
        (INDEFINITE, DECIMAL, IE), (number(1e18), DECIMAL, IE), (number(999999999999999), 0x999999999999999, 0),
        (1, 0, PE), (UNNORMAL, DECIMAL, IE),
    ],
)  # fmt: skip
def test_decimals(value: int, stored: int, flags: int) -> None:
    with bare("fld tbyte ptr [0x80000]; fbstp [0x80010]; fnstsw ax; hlt") as vm:
        vm.memory.write(DATA, value.to_bytes(16, "little"))
        vm.run()
        assert vm.vcpu.ax & 0x3F == flags
        assert int.from_bytes(vm.memory.read(DATA + 16, 10), "little") == stored
        assert vm.vcpu.registers.x87.tags == 0xFFFF


@pytest.mark.parametrize("instruction", ["fbstp [rdi]", "fstp tbyte ptr [rdi]", "fbld [rdi]", "fld tbyte ptr [rdi]"])
@pytest.mark.parametrize(("address", "faults_at"), [(0x8FFFA, 0x90000), (0x90FFA, 0x90FFA), (0x91FFA, 0x91FFA)])
def test_a_page_fault_names_the_first_page_that_is_not_there(instruction: str, address: int, faults_at: int) -> None:
    """Pages 90h and 91h are not there."""
    with bare(f"fld1; {instruction}; hlt", rdi=address) as vm:
        with_idt(vm, {14: "mov rbx, cr2; hlt"})
        vm.memory.write(0x3000, (0x4007).to_bytes(8, "little"))
        vm.memory.write(0x4000, (0x5007).to_bytes(8, "little"))
        pages = [page << 12 | (0 if page in (0x90, 0x91) else 7) for page in range(512)]
        vm.memory.write(0x5000, b"".join(entry.to_bytes(8, "little") for entry in pages))
        assert vm.run().reason is hv.Reason.HALTED
        assert vm.vcpu.rbx == faults_at
        assert vm.vcpu.registers.x87.status == TOP
        assert vm.vcpu.registers.st(0) == number(1)
