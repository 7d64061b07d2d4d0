"""x87 exceptions: status flags, stack faults, what masked and unmasked ones leave, and where #MF is raised (APM
volume 1, 6.8; SDM volume 1, 8.5 and 8.7).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

import hypervisor as hv
from tests.core.bare import DATA, bare, with_idt

IE, DE, ZE, OE, UE, PE, SF, ES, C1 = 1, 2, 4, 8, 0x10, 0x20, 0x40, 0x80, 0x200
B = 0x8000
TOP = 7 << 11
ONE = 0x3FFF_8000000000000000
EMPTY = 0xFFFF
LARGEST, SMALLEST, DENORMAL = 0x7FFE_FFFFFFFFFFFFFFFF, 0x0001_8000000000000000, 1
SNAN, QNAN, UNNORMAL = 0x7FFF_8000000000000001, 0x7FFF_C000000000000001, 0x3FFF_0000000000000001
ADD_ST1, MUL_ST1 = ".byte 0xd8, 0xc1", ".byte 0xd8, 0xc9"
A = "fld tbyte ptr [0x80000]"
NE = 1 << 5


# what is done, its operands at 80000h and 80010h, and the status word after it without TOP
MASKED: dict[str, tuple[str, tuple[int, ...], int]] = {
    "1/0": ("fld1; fldz; fdivp", (), ZE),
    "0/0": ("fldz; fldz; fdivp", (), IE),
    "sqrt(-1)": ("fld1; fchs; fsqrt", (), IE),
    "sqrt(-0)": ("fldz; fchs; fsqrt", (), 0),
    "1/3, rounded down": ("fld1; fild word ptr [0x80000]; fdivp", (3,), PE | C1),
    "1/7": ("fld1; fild word ptr [0x80000]; fdivp", (7,), PE),
    "overflow": (f"{A}; {A}; {MUL_ST1}", (LARGEST,), OE | PE | C1),
    "underflow": (f"{A}; {A}; {MUL_ST1}", (SMALLEST,), UE | PE),
    "a denormal operand": (f"{A}; fld1; {ADD_ST1}", (DENORMAL,), DE | PE),
    "a signaling NaN": (f"{A}; fld1; {ADD_ST1}", (SNAN,), IE),
    "a quiet NaN": (f"{A}; fld1; {ADD_ST1}", (QNAN,), 0),
    "an unnormal": (f"{A}; fld1; {ADD_ST1}", (UNNORMAL,), IE),
    "a quiet NaN compared": (f"{A}; fld1; fcompp", (QNAN,), IE | 0x4500),
    "a quiet NaN compared quietly": (f"{A}; fld1; fucompp", (QNAN,), 0x4500),
    "a signaling NaN compared quietly": (f"{A}; fld1; fucompp", (SNAN,), IE | 0x4500),
    "a denormal single loaded": ("fld dword ptr [0x80000]", (1,), DE),
    "a signaling single loaded": ("fld dword ptr [0x80000]", (0x7F800001,), IE),
    "a denormal single added": ("fld1; fadd dword ptr [0x80000]", (1,), DE | PE),
    "a denormal double compared": ("fld1; fcom qword ptr [0x80000]", (1,), DE),
    "an empty register": ("fchs", (), IE | SF),
    "an empty register added": ("fld1; .byte 0xd8, 0xc3", (), IE | SF),
    "an empty register stored": ("fstp dword ptr [0x80100]", (), IE | SF),
    "an empty register stored whole": ("fstp tbyte ptr [0x80100]", (), IE | SF),
    "an empty register loaded": (".byte 0xd9, 0xc3", (), IE | SF),
    "an empty register exchanged": ("fld1; .byte 0xd9, 0xcb", (), IE | SF),
    "a full stack": ("fld1;" * 8 + "fldz", (), IE | SF | C1),
    "a full stack, from memory": ("fld1;" * 8 + A, (), IE | SF | C1),
    "a full stack, of an integer": ("fld1;" * 8 + "fild word ptr [0x80000]", (), IE | SF | C1),
    "a full stack, of a decimal": ("fld1;" * 8 + "fbld [0x80000]", (), IE | SF | C1),
    "an integer of 16 bits": ("fild dword ptr [0x80000]; fistp word ptr [0x80100]", (100000,), IE),
    "an integer of 64 bits": (f"{A}; fistp qword ptr [0x80100]", (LARGEST,), IE),
    "an inexact integer": ("fldpi; fistp dword ptr [0x80100]", (), PE),
    "an inexact integer, truncated": ("fldpi; fisttp dword ptr [0x80100]", (), PE),
    "a decimal": (f"{A}; fbstp [0x80100]", (LARGEST,), IE),
    "a single that overflows": (f"{A}; fstp dword ptr [0x80100]", (LARGEST,), OE | PE | C1),
    "a double that underflows": (f"{A}; fstp qword ptr [0x80100]", (SMALLEST,), UE | PE),
    "fscale": (f"{A}; fld1; fscale", (LARGEST,), OE | PE | C1),
    "fxtract of 0": ("fldz; fxtract", (), ZE),
    "fyl2x of 0": ("fld1; fldz; fyl2x", (), ZE),
    "fprem by 0": ("fldz; fld1; fprem", (), IE),
}


@contextmanager
def guest(code: str, values: tuple[int, ...]) -> Iterator[hv.VM]:
    """A bare machine with operands of 80 bits from 80000h on."""
    with bare(code) as vm:
        for n, value in enumerate(values):
            vm.memory.write(DATA + 16 * n, value.to_bytes(10, "little"))
        vm.vcpu.cr0 |= NE
        yield vm


@pytest.mark.parametrize("name", MASKED)
def test_masked_exceptions_set_flags(name: str) -> None:
    code, values, expected = MASKED[name]
    for flags in (0, expected & 0x7F):  # the second time they are set already
        with guest(f"{code}; fnstsw ax; hlt", values) as vm:
            state = vm.vcpu.registers
            state.set_x87(status=flags, tags=EMPTY)
            assert vm.run().reason is hv.Reason.HALTED
            assert vm.vcpu.ax & ~TOP == expected
            assert state.x87.status & ~TOP == expected


# what is not masked, what is done, its operands; then flags, how many registers are in use, ST(0), and the operand at
# 80100h of 10 bytes, which was full of AAh
UNTOUCHED = int.from_bytes(b"\xaa" * 10, "little")
UNMASKED: dict[str, tuple[int, str, tuple[int, ...], int, int, int, int]] = {
    "1/0 keeps its operands": (ZE, "fld1; fldz; fdivp", (), ZE, 2, 0, UNTOUCHED),
    "sqrt(-1)": (IE, "fld1; fchs; fsqrt", (), IE, 1, ONE | 1 << 79, UNTOUCHED),
    "a comparison does not pop": (IE, f"{A}; fld1; fcompp", (QNAN,), IE, 2, ONE, UNTOUCHED),
    "a denormal operand": (DE, f"{A}; fld1; faddp", (DENORMAL,), DE, 2, ONE, UNTOUCHED),
    "a denormal single loaded": (DE, "fld dword ptr [0x80000]", (1,), DE, 1, 0x3F6A_8000000000000000, UNTOUCHED),
    "a denormal single added": (DE, "fld1; fadd dword ptr [0x80000]", (1,), DE, 1, ONE, UNTOUCHED),
    "overflow, biased": (OE, f"{A}; {A}; fmulp", (LARGEST,), OE | PE, 1, 0x5FFE_FFFFFFFFFFFFFFFE, UNTOUCHED),
    "underflow, biased": (UE, f"{A}; {A}; fmulp", (SMALLEST,), UE, 1, 0x2003_8000000000000000, UNTOUCHED),
    "an exact denormal": (UE, f"{A}; {A}; faddp", (DENORMAL,), UE | DE, 1, 0x5FC3_8000000000000000, UNTOUCHED),
    "inexact": (PE, "fld1; fild word ptr [0x80000]; fdivp", (3,), PE | C1, 1, 0x3FFD_AAAAAAAAAAAAAAAB, UNTOUCHED),
    "a full stack": (IE, "fld1;" * 8 + "fldz", (), IE | SF | C1, 8, ONE, UNTOUCHED),
    "a full stack, from memory": (IE, "fld1;" * 8 + A, (), IE | SF | C1, 8, ONE, UNTOUCHED),
    "an empty register loaded": (IE, "fld1; .byte 0xd9, 0xc3", (), IE | SF, 1, ONE, UNTOUCHED),
    "an empty register moved": (IE, "fld1; cmp eax, eax; .byte 0xda, 0xcb", (), IE | SF, 1, ONE, UNTOUCHED),
    "an integer out of range": (IE, "fild dword ptr [0x80000]; fistp word ptr [0x80100]", (1 << 20,), IE, 1,
                                0x4013_8000000000000000, UNTOUCHED),
    "a decimal out of range": (IE, f"{A}; fbstp [0x80100]", (LARGEST,), IE, 1, LARGEST, UNTOUCHED),
    "an empty register stored": (IE, "fstp tbyte ptr [0x80100]", (), IE | SF, 0, 0, UNTOUCHED),
    "a single that overflows": (OE, f"{A}; fstp dword ptr [0x80100]", (LARGEST,), OE, 1, LARGEST, UNTOUCHED),
    "a single that is inexact": (PE, "fldpi; fstp dword ptr [0x80100]", (), PE | C1, 0, 0,
                                 UNTOUCHED & ~0xFFFFFFFF | 0x40490FDB),
}  # fmt: skip


@pytest.mark.parametrize("name", UNMASKED)
def test_what_is_not_masked_is_raised_at_the_next_instruction_that_waits(name: str) -> None:
    unmasked, code, values, flags, used, st0, stored = UNMASKED[name]
    with guest(f"{code}; nop; fnstsw ax; waits: fwait; nop; hlt", values) as vm:
        with_idt(vm, {16: "pop rbx; hlt"})
        vm.memory.write(DATA + 0x100, b"\xaa" * 10)
        state = vm.vcpu.registers
        state.set_x87(control=0x37F & ~unmasked, tags=EMPTY)
        result = vm.run()
        assert result.reason is hv.Reason.HALTED
        assert vm.vcpu.ax & ~TOP == flags | ES | B
        assert vm.memory.read(vm.vcpu.rbx, 2) == b"\x9b\x90"  # the FWAIT
        assert state.x87.status & ~TOP == flags | ES | B
        assert sum(state.x87.tags >> 2 * n & 3 != 3 for n in range(8)) == used
        assert used == 0 or state.st(0) == st0
        assert int.from_bytes(vm.memory.read(DATA + 0x100, 10), "little") == stored


WAITING = {
    "fwait": True, "fld1": True, "fadd dword ptr [0x80100]": True, "fldcw [0x80040]": True, "fldenv [0x80200]": True,
    "frstor [0x80200]": True, "fstp dword ptr [0x80100]": True, "fxch": True, "fincstp": True, "fnop": True,
    "emms": True, "paddb mm0, mm1": True, "movq rax, mm0": True, "fbstp [0x80100]": True, "fxam": True, "fsin": True,
    "fnstcw [0x80100]": False, "fnstsw [0x80100]": False, "fnstenv [0x80200]": False, "fnsave [0x80200]": False,
    "fnclex": False, "fninit": False, "fxsave [0x80200]": False, "fxrstor [0x80400]": False, "movq rax, xmm0": False,
}  # fmt: skip


@pytest.mark.parametrize("instruction", WAITING)
def test_which_instructions_wait(instruction: str) -> None:
    """Those raise what is pending, before they do anything (SDM volume 1, 8.6 and 8.3.12)."""
    code = f"fld1; fldz; fdivp; fxsave [0x80400]; at: {instruction}; mov ebp, 1; hlt"
    with guest(code, ()) as vm:
        with_idt(vm, {16: "pop rbx; hlt"})
        vm.vcpu.cr4 |= 0x200
        vm.vcpu.registers.set_x87(control=0x37F & ~ZE, tags=EMPTY)
        vm.vcpu.rbp = 0
        assert vm.run().reason is hv.Reason.HALTED
        assert vm.vcpu.rbp == (0 if WAITING[instruction] else 1)


@pytest.mark.parametrize(
    "load",
    ["fldcw [0x80040]", "fnstenv [0x80100]; mov word ptr [0x80100], 0x37b; fldenv [0x80100]",
     "fnsave [0x80100]; mov word ptr [0x80100], 0x37b; frstor [0x80100]",
     "fxsave [0x80100]; mov word ptr [0x80100], 0x37b; fxrstor [0x80100]"],
)  # fmt: skip
def test_a_mask_that_is_taken_away_makes_an_old_flag_pending(load: str) -> None:
    with guest(f"fld1; fldz; fdivp; fnstsw ax; mov ebx, eax; {load}; fnstsw ax; hlt", ()) as vm:
        vm.memory.write(DATA + 0x40, (0x37B).to_bytes(2, "little"))
        vm.vcpu.cr4 |= 0x200
        assert vm.run().reason is hv.Reason.HALTED
        assert vm.vcpu.bx & ~TOP == ZE
        assert vm.vcpu.ax & ~TOP == ZE | ES | B


def test_without_ne_nothing_is_raised_and_instructions_go_on() -> None:
    """Hardware asks for IRQ 13 then, which this machine does not have."""
    code = "fld1; fldz; fdivp; fld1; fadd dword ptr [0x80000]; fwait; paddb mm0, mm1; emms; fnstsw ax; hlt"
    with guest(code, (0x40000000,)) as vm:
        vm.vcpu.cr0 &= ~NE
        vm.vcpu.registers.set_x87(control=0x37F & ~ZE, tags=EMPTY)
        assert vm.run().reason is hv.Reason.HALTED
        assert vm.vcpu.ax & ~TOP == ZE | ES | B


def test_a_single_step_over_an_instruction_that_is_given_up() -> None:
    """The debugger's step ends behind it, as behind any other."""
    with guest("fld1; fistp word ptr [0x80100]; nop; hlt", ()) as vm:
        state = vm.vcpu.registers
        state.set_x87(control=0x37E, tags=EMPTY)
        vm.step(1)
        state.set_st(0, LARGEST)
        at = vm.vcpu.rip
        vm.step(1)
        assert vm.vcpu.rip == at + 7
        assert state.x87.status & ~TOP == IE | ES | B
        vm.step(1)
        assert vm.vcpu.rip == at + 8
