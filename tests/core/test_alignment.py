"""Operands that must be aligned: those of 128 bits (#GP, AMD64 APM volume 1, 4.5.5, and the instructions' pages in
volume 4), and all at CPL 3 while CR0.AM and RFLAGS.AC are set (#AC, APM volume 2, 8.2.18). Instructions read no more
than their operand.
"""

from __future__ import annotations

import pytest

import hypervisor as hv
from hypervisor.arch import segments
from tests.core.bare import DATA, bare

AM, AC, AC_VECTOR, GP_VECTOR = 1 << 18, 1 << 18, 17, 13

ALIGNED = """
    movaps movapd movdqa movntdqa unpcklps unpckhpd sqrtps sqrtpd rsqrtps rcpps andps andnpd orps xorpd addps
    addpd mulps subpd minps divpd maxps cvtdq2ps cvtps2dq cvttps2dq cvtpd2ps punpcklbw punpckhwd punpcklqdq
    punpckhqdq packuswb pcmpgtb pcmpeqd haddps haddpd hsubps addsubps addsubpd movsldup movshdup cvttpd2dq
    cvtpd2dq psrlw psubb pand paddq pmullw psadbw pmaddwd pxor por pshufb phaddw pabsd pblendvb blendvps ptest
    pmuldq pcmpeqq packusdw pminsb pmulld phminposuw pcmpgtq aesenc aesimc
""".split()
WITH_CONSTANT = """
    pshufd pshufhw pshuflw shufps shufpd cmpps cmppd roundps roundpd blendps blendpd pblendw palignr dpps dppd mpsadbw
    pclmulqdq aeskeygenassist
""".split()
STORES = ["movaps", "movapd", "movdqa", "movntps", "movntpd", "movntdq"]
TO_MMX = ["cvtpd2pi", "cvttpd2pi"]

ANY_ADDRESS: dict[str, int] = {
    "movups xmm1, [rbx]": 16, "movupd xmm1, [rbx]": 16, "movdqu xmm1, [rbx]": 16, "lddqu xmm1, [rbx]": 16,
    "pcmpistri xmm1, [rbx], 8": 16, "pcmpestrm xmm1, [rbx], 8": 16,
    "movups [rbx], xmm1": 16, "movdqu [rbx], xmm1": 16,
    "movq xmm1, qword ptr [rbx]": 8, "movq qword ptr [rbx], xmm1": 8, "movd xmm1, dword ptr [rbx]": 4,
    "movlps xmm1, [rbx]": 8, "movhpd xmm1, [rbx]": 8, "movhps [rbx], xmm1": 8, "movddup xmm1, qword ptr [rbx]": 8,
    "movss xmm1, dword ptr [rbx]": 4, "movsd xmm1, qword ptr [rbx]": 8, "addss xmm1, dword ptr [rbx]": 4,
    "mulsd xmm1, qword ptr [rbx]": 8, "ucomiss xmm1, dword ptr [rbx]": 4, "comisd xmm1, qword ptr [rbx]": 8,
    "cmpss xmm1, dword ptr [rbx], 1": 4, "cvtss2sd xmm1, dword ptr [rbx]": 4, "cvtsd2si eax, qword ptr [rbx]": 8,
    "cvtsi2sd xmm1, dword ptr [rbx]": 4, "pinsrw xmm1, word ptr [rbx], 1": 2, "pinsrq xmm1, qword ptr [rbx], 1": 8,
    "insertps xmm1, dword ptr [rbx], 0": 4, "pmovzxbw xmm1, qword ptr [rbx]": 8, "pmovsxbd xmm1, dword ptr [rbx]": 4,
    "pmovzxbq xmm1, word ptr [rbx]": 2, "pextrd dword ptr [rbx], xmm1, 1": 4,
    "paddb mm1, qword ptr [rbx]": 8, "movntq [rbx], mm1": 8, "pshufb mm1, [rbx]": 8,
    "cvtps2pd xmm1, qword ptr [rbx]": 8, "cvtdq2pd xmm1, qword ptr [rbx]": 8, "cvtpi2ps xmm1, qword ptr [rbx]": 8,
    "cvtps2pi mm1, qword ptr [rbx]": 8, "cvttps2pi mm1, qword ptr [rbx]": 8,
    "roundss xmm1, dword ptr [rbx], 0": 4, "roundsd xmm1, qword ptr [rbx], 0": 8,
    # (the assembler wants these called 8 bytes)
    "punpcklbw mm1, qword ptr [rbx]": 4, "punpcklwd mm1, qword ptr [rbx]": 4, "punpckldq mm1, qword ptr [rbx]": 4,
}  # fmt: skip
"""Operands at any address, and their bytes."""

CHECKED = (
    [f"{name} xmm1, [rbx]" for name in ALIGNED]
    + [f"{name} xmm1, [rbx], 0" for name in WITH_CONSTANT]
    + [f"{name} [rbx], xmm1" for name in STORES]
    + [f"{name} mm1, [rbx]" for name in TO_MMX]
)


def ends_with(code: str, *, address: int, cpl: int = 0, cr0: int = 0, flags: int = 0) -> tuple[str, int]:
    """How one instruction ends: "" or the vector of an exception; and RIP then, from the code's beginning."""
    with bare(f"{code}; vmmcall", rbx=address, rsp=address + 0x100, rsi=address, rdi=DATA + 0x400) as vm:
        vm.vcpu.cr0 |= cr0
        vm.vcpu.rflags |= flags
        if cpl == 3:
            vm.vcpu.cs = hv.Segment(0x1B, 0, 0xFFFFFFFF, segments.CODE64 | 0x60)
            vm.vcpu.ss = hv.Segment(0x23, 0, 0xFFFFFFFF, segments.DATA32 | 0x60)

        @vm.traps.exception()
        def exception(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
            return hv.stop(f"{exit.vector}, {exit.error_code}")

        vm.traps.hypercall(lambda vcpu, exit: hv.stop(""))
        result = vm.run(timeout=20)
        return result.message or "", vm.vcpu.rip - 0x10000


@pytest.mark.parametrize("code", CHECKED)
def test_an_operand_of_128_bits_is_aligned(code: str) -> None:
    assert ends_with(code, address=DATA)[0] == ""
    assert [ends_with(code, address=DATA + n) for n in (1, 4, 8, 0xFF8)] == [("13, 0", 0)] * 4


@pytest.mark.parametrize("mode", [16, 32])
@pytest.mark.parametrize(("code", "refused"), [
    ("movaps xmm1, [{}]", True), ("movdqa [{}], xmm1", True), ("paddb xmm1, [{}]", True), ("pabsd xmm1, [{}]", True),
    ("pshufd xmm1, [{}], 0", True), ("movups xmm1, [{}]", False), ("movsd xmm1, qword ptr [{}]", False),
])  # fmt: skip
def test_so_it_is_in_other_modes(code: str, refused: bool, mode: int) -> None:
    with bare(f"{code.format('bx' if mode == 16 else 'ebx')}; vmmcall", mode, rbx=0x6008) as vm:
        vm.vcpu.cr4 |= 0x600
        vm.traps.exception(lambda vcpu, exit: hv.stop(str(exit.vector)))
        vm.traps.hypercall(lambda vcpu, exit: hv.stop("done"))
        assert vm.run(timeout=20).message == (str(GP_VECTOR) if refused else "done")


@pytest.mark.parametrize("code", ANY_ADDRESS)
def test_others_lie_where_they_like_and_no_more_of_them_is_accessed(code: str) -> None:
    """At the end of a watched range, and at each place of a unit of 16 bytes."""
    size = ANY_ADDRESS[code]
    seen: list[tuple[int, int]] = []
    with bare(f"{code}; vmmcall", rbx=DATA) as vm:
        vm.traps.memory(
            range(DATA - 16, DATA + 48), lambda vcpu, exit: seen.append((exit.gpa, exit.size)), mode="observe",
            access="rw",
        )  # fmt: skip
        vm.traps.hypercall(lambda vcpu, exit: hv.stop("done"))
        for at in range(DATA, DATA + 17):
            vm.vcpu.rip, vm.vcpu.rbx = 0x10000, at
            assert vm.run(timeout=20).message == "done"
            assert sorted({byte for gpa, n in seen for byte in range(gpa, gpa + n)}) == list(range(at, at + size))
            assert sum(n for _, n in seen) == size
            seen.clear()


NATURAL: dict[str, tuple[int, ...]] = {
    "mov al, [rbx]": (), "mov ax, [rbx]": (1,), "mov eax, [rbx]": (1, 2, 3), "mov [rbx], rax": (1, 2, 4, 7),
    "add [rbx], ecx": (1, 2, 3), "lock xadd [rbx], rcx": (1, 4), "xchg [rbx], ax": (1,),
    "movzx eax, word ptr [rbx]": (1,), "fild word ptr [rbx]": (1,),
    "push rax": (1, 2, 4), "pop rax": (1, 4), "call next; next: nop": (1, 4), "push qword ptr [rbx]": (4,),
    "movsd": (1, 2), "lodsq": (4,), "bt dword ptr [rbx], 1": (2,), "cmpxchg8b [rbx]": (1, 2, 4),
    "movups xmm1, [rbx]": (1, 2, 4), "movss xmm1, [rbx]": (1, 2), "movq mm1, [rbx]": (4,), "ldmxcsr [rbx]": (2,),
    "fld dword ptr [rbx]": (2,), "fld qword ptr [rbx]": (4,), "fld tbyte ptr [rbx]": (1, 2, 4),
    "fstp tbyte ptr [rbx]": (1, 2, 4), "fnstenv [rbx]": (1, 2), "fnstcw [rbx]": (1,), "enter 16, 0": (4,),
    "movbe eax, [rbx]": (1, 2), "cvtps2pd xmm1, [rbx]": (4,), "roundss xmm1, dword ptr [rbx], 0": (2,),
    "retfq": (1, 4), "iretq": (1, 4),
}  # fmt: skip
"""At which distances from an address that is aligned an instruction's operands are not."""


@pytest.mark.parametrize("code", NATURAL)
def test_alignment_checks(code: str) -> None:
    """All three conditions must hold; then it is #AC(0) of the instruction itself."""
    for n in NATURAL[code]:
        at = DATA + 0x20 + n
        assert ends_with(code, address=at, cpl=3, cr0=AM, flags=AC) == (f"{AC_VECTOR}, 0", 0), n
        for cpl, cr0, flags in ((0, AM, AC), (3, 0, AC), (3, AM, 0)):
            assert ends_with(code, address=at, cpl=cpl, cr0=cr0, flags=flags)[0] != f"{AC_VECTOR}, 0"
    assert ends_with(code, address=DATA + 0x20, cpl=3, cr0=AM, flags=AC)[0] != f"{AC_VECTOR}, 0"


def test_an_operand_of_128_bits_is_a_general_protection_fault_first() -> None:
    assert ends_with("movaps xmm1, [rbx]", address=DATA + 4, cpl=3, cr0=AM, flags=AC) == (f"{GP_VECTOR}, 0", 0)


def test_a_program_switches_alignment_checks_by_its_flags() -> None:
    """The same code, before POPF and behind it."""
    code = "again: mov eax, [rbx]; pushfq; btc qword ptr [rsp], 18; popfq; inc ecx; jmp again"
    with bare(code, rbx=DATA + 1, rsp=DATA + 0x800) as vm:
        vm.vcpu.cr0 |= AM
        vm.vcpu.cs = hv.Segment(0x1B, 0, 0xFFFFFFFF, segments.CODE64 | 0x60)
        vm.vcpu.ss = hv.Segment(0x23, 0, 0xFFFFFFFF, segments.DATA32 | 0x60)
        seen: list[int] = []

        @vm.traps.exception(AC_VECTOR)
        def check(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
            seen.append(vcpu.ecx)
            if len(seen) == 5:
                return hv.stop("enough")
            vcpu.rflags &= ~AC
            return hv.RETRY

        assert vm.run(timeout=20).message == "enough"
    assert seen == [1, 2, 3, 4, 5]
