"""MMX mode: what MMX instructions leave in the x87 (Intel SDM volume 3, 12.2), and SSSE3's operations on neighbours."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random

import pytest

import hypervisor as hv
from hypervisor.assembler import assemble
from tests.core.bare import CODE, DATA, bare

OSFXSR, NE, TS, EM, OPERAND = 0x200, 0x20, 8, 4, 0x1122334455667788
EMPTY, ALL_ONES = 0xFFFF, 0xFFFF
FIVE = 5 << 11  # TOP

READS = [
    "movq [rdi], mm3", "movd eax, mm3", "movd [rdi], mm3", "pmovmskb eax, mm3", "pextrw eax, mm3, 1",
    "movntq [rdi], mm3", "maskmovq mm3, mm4", "cvtpi2ps xmm0, mm3", "cvtpi2pd xmm0, mm3", "cvtpi2ps xmm0, [rdi]",
    "movq2dq xmm0, mm3",
]  # fmt: skip
WRITES = [
    "movq mm3, [rdi]", "movq mm3, mm4", "movd mm3, eax", "paddb mm3, mm4", "psllw mm3, 4", "psrlq mm3, mm4",
    "pinsrw mm3, eax, 1", "pshufw mm3, mm4, 0x1b", "packsswb mm3, [rdi]", "punpcklbw mm3, [rdi]", "cvtps2pi mm3, xmm0",
    "cvttpd2pi mm3, xmm0", "movdq2q mm3, xmm0", "psadbw mm3, mm4", "pshufb mm3, mm4", "pshufb mm3, [rdi]",
    "phaddw mm3, mm4", "phaddsw mm3, [rdi]", "phsubd mm3, mm3", "pmaddubsw mm3, mm4", "psignb mm3, mm4",
    "pabsd mm3, mm4", "pmulhrsw mm3, mm4", "palignr mm3, mm4, 3",
]  # fmt: skip


@contextmanager
def guest(code: str, **regs: int) -> Iterator[hv.VM]:
    """TOP is 5 and all registers are empty; each has a value of its own."""
    with bare(f"{code}; hlt", rdi=DATA, rax=0x12345678, **regs) as vm:
        vm.vcpu.cr4 |= OSFXSR
        vm.vcpu.cr0 |= NE
        vm.memory.write(DATA, OPERAND.to_bytes(8, "little"))
        vm.vcpu.registers.set_x87(control=0x37F, status=FIVE, tags=EMPTY)
        for n in range(8):
            vm.vcpu.registers.set_st(n, (0x4001 + n) << 64 | 0x8080808080808080 + n)
        vm.vcpu.registers.set_x87(control=0x37F, status=FIVE, tags=EMPTY)
        yield vm


def physical(vm: hv.VM, number: int) -> int:
    """A register by its number, with its upper bits."""
    return vm.vcpu.registers.st((number - (vm.vcpu.registers.x87.status >> 11)) % 8)


@pytest.mark.parametrize("code", [*READS, *WRITES])
def test_an_mmx_instruction_makes_all_registers_valid(code: str) -> None:
    with guest(code) as vm:
        before = [physical(vm, n) for n in range(8)]
        assert vm.run().reason is hv.Reason.HALTED
        image = vm.vcpu.registers.x87
        assert image.status == 0, "TOP"
        assert all(image.tags >> 2 * n & 3 != 3 for n in range(8)), "tags"
        after = [physical(vm, n) for n in range(8)]
        written = code in WRITES
        assert after[3] >> 64 == (ALL_ONES if written else before[3] >> 64)
        assert written or after == before
        assert [after[n] for n in range(8) if n != 3] == [before[n] for n in range(8) if n != 3]


@pytest.mark.parametrize("code", ["cvtpi2pd xmm0, [rdi]", "movq xmm0, [rdi]", "phaddw xmm0, xmm1", "movd xmm0, eax"])
def test_what_touches_no_mmx_register_leaves_the_x87(code: str) -> None:
    with guest(code) as vm:
        assert vm.run().reason is hv.Reason.HALTED
        assert vm.vcpu.registers.x87.status == FIVE
        assert vm.vcpu.registers.x87.tags == EMPTY


def test_emms_empties_the_registers_and_clears_top() -> None:
    with guest("emms") as vm:
        vm.vcpu.registers.set_x87(control=0x37F, status=FIVE, tags=0)
        assert vm.run().reason is hv.Reason.HALTED
        assert vm.vcpu.registers.x87.status == 0
        assert vm.vcpu.registers.x87.tags == EMPTY


@pytest.mark.parametrize("code", ["paddb mm3, [rdi]", "pshufb mm3, [rdi]", "movq [rdi], mm3", "pinsrw mm3, [rdi], 1"])
def test_a_fault_leaves_the_x87_as_it_was(code: str) -> None:
    with guest(code) as vm:
        vm.vcpu.rdi = 1 << 47  # not canonical
        vm.traps.exception(13, lambda vcpu, exit: hv.stop("#GP"))
        assert vm.run().message == "#GP"
        assert vm.vcpu.registers.x87.status == FIVE
        assert vm.vcpu.registers.x87.tags == EMPTY


@pytest.mark.parametrize("code", [*READS, *WRITES, "emms"])
def test_a_pending_exception_comes_first(code: str) -> None:
    """Before a page fault of the operand, too."""
    with guest(f"nop; {code}") as vm:
        vm.vcpu.rdi = 1 << 47 if "[rdi]" in code else DATA
        vm.vcpu.registers.set_x87(control=0x37E, status=FIVE | 1, tags=EMPTY)
        vm.traps.exception(16, lambda vcpu, exit: hv.stop(f"#MF at {vcpu.rip - CODE}"))
        vm.traps.exception(13, lambda vcpu, exit: hv.stop("#GP"))
        assert vm.run().message == "#MF at 1"
        assert vm.vcpu.registers.x87.status & 0x3F00 == FIVE


UNDEFINED = {
    "0f 38 0c c1": "no SSSE3", "0f 38 10 c1": "PBLENDVB without 66", "0f 3a 08 c1 00": "ROUNDPS without 66",
    "0f 6c c1": "PUNPCKLQDQ without 66", "66 0f 77": "EMMS with 66", "f3 0f 60 c1": "MMX with F3",
    "0f f7 07": "MASKMOVQ", "0f e7 c1": "MOVNTQ", "0f d7 07": "PMOVMSKB", "0f c5 07 01": "PEXTRW",
    "0f 71 c1 01": "/0", "0f 7c c1": "HADD", "0f 0f c1 9e": "3DNow!", "0f d6 c1": "MOVQ2DQ without F3",
    "66 0f 52 c1": "RSQRTPD", "66 0f 78 c1 01 02": "EXTRQ", "66 0f 12 c1": "MOVLPD", "66 0f 38 0c c1": "VPERMILPS",
    "f2 0f 38 00 c1": "PSHUFB with F2",
}  # fmt: skip
DEFINED = ("0f fc c1", "0f 38 01 c1", "0f 77", "0f e7 07", "66 0f 58 c1", "f3 0f e6 c1", "0f 2a c1", "66 0f 38 01 c1")
OFF = ("0f 2a c1", "66 0f 58 c1", "66 0f 38 01 c1", "0f 28 c1", "f2 0f d6 c1")
"""Of those, and others, what CR4.OSFXSR switches off."""


def outcome(code: str, cr0: int = 0, status: int = FIVE, osfxsr: bool = True) -> str:
    with guest("nop") as vm:
        vm.memory.write(CODE, bytes.fromhex(code) + b"\xf4")
        vm.vcpu.cr0 |= cr0
        if not osfxsr:
            vm.vcpu.cr4 &= ~OSFXSR
        vm.vcpu.registers.set_x87(control=0x37E, status=status, tags=EMPTY)
        for vector, name in ((6, "#UD"), (7, "#NM"), (16, "#MF")):
            vm.traps.exception(vector, lambda vcpu, exit, name=name: hv.stop(name))
        result = vm.run(timeout=5)
        return result.message if result.reason is hv.Reason.STOPPED else "end"


@pytest.mark.parametrize("code", UNDEFINED)
def test_no_instruction_is_undefined_whatever_else_there_is(code: str) -> None:
    for cr0 in (0, TS, EM, TS | EM):
        for status in (FIVE, FIVE | 1):
            assert outcome(code, cr0, status) == "#UD", (cr0, status)


@pytest.mark.parametrize("code", DEFINED)
def test_the_order_of_exceptions(code: str) -> None:
    """#UD by CR0.EM, #NM by CR0.TS, then #MF."""
    mmx = not code.startswith(("66", "f3"))
    for status in (FIVE, FIVE | 1):
        assert outcome(code, EM | TS, status) == "#UD"
        assert outcome(code, EM, status) == "#UD"
        assert outcome(code, TS, status) == "#NM"
    assert outcome(code, 0, FIVE | 1) == ("#MF" if mmx else "end")
    assert outcome(code) == "end"


@pytest.mark.parametrize("code", OFF)
def test_without_osfxsr(code: str) -> None:
    for cr0 in (0, TS):
        assert outcome(code, cr0, FIVE | 1, osfxsr=False) == "#UD"
    assert outcome("0f fc c1", TS, osfxsr=False) == "#NM"  # MMX does not need it
    assert outcome("0f 38 01 c1", 0, osfxsr=False) == "end"


def words(value: int, size: int, width: int) -> list[int]:
    """Signed elements from the lowest on."""
    half = 1 << width - 1
    return [((value >> at & (1 << width) - 1) ^ half) - half for at in range(0, 8 * size, width)]


def saturated(value: int) -> int:
    return max(-0x8000, min(0x7FFF, value))


HORIZONTAL: dict[str, tuple[int, int, Callable[[int, int], int]]] = {
    "phaddw": (1, 16, lambda a, b: a + b), "phaddd": (2, 32, lambda a, b: a + b),
    "phaddsw": (3, 16, lambda a, b: saturated(a + b)), "phsubw": (5, 16, lambda a, b: a - b),
    "phsubd": (6, 32, lambda a, b: a - b), "phsubsw": (7, 16, lambda a, b: saturated(a - b)),
}  # fmt: skip


def horizontal(name: str, size: int, first: int, second: int) -> int:
    """The manual's definition: neighbours of the destination, then those of the source."""
    _, width, operation = HORIZONTAL[name]
    both = words(first, size, width) + words(second, size, width)
    result = [operation(both[n], both[n + 1]) for n in range(0, len(both), 2)]
    return sum((value & (1 << width) - 1) << width * n for n, value in enumerate(result))


@pytest.mark.parametrize("kind", ["mm", "xmm"])
@pytest.mark.parametrize("name", HORIZONTAL)
def test_neighbours(name: str, kind: str) -> None:
    """With another register, with itself, with memory; REX.R and REX.B say nothing of MMX registers."""
    size = 8 if kind == "mm" else 16
    random = Random(f"{name} {kind}")
    opcode = (b"" if kind == "mm" else b"\x66") + b"\x0f\x38" + bytes((HORIZONTAL[name][0],))
    rex = opcode[:-3] + b"\x45" + opcode[-3:]
    load = "movq" if kind == "mm" else "movups"
    for form in (b"\xca", b"\xc9", b"\x0f"):  # of register 1 with 2, with itself, with memory
        first, second = (random.getrandbits(8 * size) | 0x8000 for _ in range(2))
        expected = horizontal(name, size, first, first if form == b"\xc9" else second)
        for encoding in (opcode, rex) if kind == "mm" and form != b"\x0f" else (opcode,):
            start = assemble(f"{load} {kind}1, [rdi]; {load} {kind}2, [rdi + 16]", origin=CODE, mode=64).code
            end = assemble(f"{load} [rdi + 32], {kind}1; hlt", origin=0, mode=64).code
            add = b"" if form != b"\x0f" else b"\x48\x83\xc7\x10"  # add rdi, 16
            back = b"" if form != b"\x0f" else b"\x48\x83\xef\x10"
            with guest("nop") as vm:
                vm.memory.write(CODE, start + add + encoding + form + back + end)
                vm.memory.write(DATA, first.to_bytes(16, "little") + second.to_bytes(16, "little"))
                assert vm.run().reason is hv.Reason.HALTED
                assert int.from_bytes(vm.memory.read(DATA + 32, size), "little") == expected, form
