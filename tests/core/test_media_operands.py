"""What SSE and MMX instructions take: which prefix counts, predicates, sizes and alignment of memory operands.

AMD64 APM volume 3, 1.2.1 and 1.2.6 (of 66h, F2h and F3h), volume 4 (sizes, alignment) and Intel SDM volume 2, CMPPS.
"""

from __future__ import annotations

import struct

import pytest

import hypervisor as hv
from hypervisor.assembler import assemble
from tests.core.bare import CODE, DATA, bare

OSFXSR = 0x200
PDPT, DIRECTORY, TABLE, LAST_PAGE = 0x3000, 0x7000, 0x8000, 0x90000
QNAN, ONE, TWO = 0x7FC00000, 0x3F800000, 0x40000000


def run(code: bytes, vm_setup: dict[str, int] | None = None, at: int = DATA) -> tuple[str, int]:
    """What ended it, and XMM1; XMM1 is (2.0, 1.0, QNaN, 2.0) and XMM2, and memory, (1.0, 1.0, 1.0, QNaN)."""
    with bare("nop", rdi=at, rax=at, rbx=at, rbp=at, **(vm_setup or {})) as vm:
        vm.vcpu.cr4 |= OSFXSR
        vm.memory.write(CODE, code + b"\xf4")
        vm.vcpu.xmm1 = int.from_bytes(struct.pack("<4I", TWO, ONE, QNAN, TWO), "little")
        second = struct.pack("<4I", ONE, ONE, ONE, QNAN)
        vm.vcpu.xmm2 = int.from_bytes(second, "little")
        for where in range(0, 64, 16):
            vm.memory.write(DATA + where, second)
        for vector in (6, 13, 14):
            vm.traps.exception(vector, lambda vcpu, exit, vector=vector: hv.stop(f"#{vector} at {vcpu.rip - CODE}"))
        result = vm.run(timeout=5)
        return result.message if result.reason is hv.Reason.STOPPED else "end", vm.vcpu.xmm1


PREDICATES = [
    lambda a, b, u: not u and a == b, lambda a, b, u: not u and a < b, lambda a, b, u: not u and a <= b,
    lambda a, b, u: u, lambda a, b, u: u or a != b, lambda a, b, u: u or a >= b, lambda a, b, u: u or a > b,
    lambda a, b, u: not u,
]  # fmt: skip
FIRST, SECOND = (2.0, 1.0, None, 2.0), (1.0, 1.0, 1.0, None)
FORMS = ("ca", "0f", "4f 10", "8f 10 00 00 00", "0c 25 10 00 08 00", "4c 08 10", "0d 08 00 07 00")
"""ModRM of XMM1 with XMM2, and with memory at RDI and in all forms of addresses (RAX + RCX*1; RIP)."""


@pytest.mark.parametrize("immediate", [0, 1, 5, 7, 8, 0x0A, 0x0F, 0x14, 0x1F, 0x3B, 0x80, 0xFE])
def test_three_bits_of_a_predicate_count(immediate: int) -> None:
    masks = [PREDICATES[immediate & 7](a, b, a is None or b is None) for a, b in zip(FIRST, SECOND, strict=True)]
    packed = sum(0xFFFFFFFF << 32 * n for n, mask in enumerate(masks) if mask)
    for form in FORMS:
        code = b"\x0f\xc2" + bytes.fromhex(form) + bytes((immediate,))
        assert run(code) == ("end", packed), form
    scalar = run(b"\xf3\x0f\xc2\xca" + bytes((immediate,)))
    assert scalar[1] & 0xFFFFFFFF == (0xFFFFFFFF if masks[0] else 0)
    assert scalar[1] >> 32 == (TWO << 64 | QNAN << 32 | ONE)
    assert run(b"\x67\x0f\xc2\x4f\x10" + bytes((immediate,))) == ("end", packed)


@pytest.mark.parametrize("code", ["0fc24f101d", "670fc2051d", "0fc28f100000001d"])
def test_predicates_in_32_bit_code(code: str) -> None:
    """An address of 16 bits has other bytes behind ModRM."""
    with bare("nop", mode=32, edi=DATA) as vm:
        vm.vcpu.cr4 |= OSFXSR
        vm.memory.write(CODE, bytes.fromhex(code) + b"\xf4")
        vm.memory.write(DATA, bytes(64))
        assert vm.run().reason is hv.Reason.HALTED
        assert vm.vcpu.eip == CODE + len(code) // 2 + 1


@pytest.mark.parametrize("prefixes", ["66f3", "f366", "f2f3", "66f2f3", "f366f2f3", "666666f3", "2e66f3", "66f340"])
def test_the_last_of_f2_and_f3_counts_and_goes_before_66(prefixes: str) -> None:
    """As ADDSS, whatever else there is."""
    expected = run(b"\xf3\x0f\x58\xca")
    assert expected == ("end", TWO << 96 | QNAN << 64 | ONE << 32 | 0x40400000)
    assert run(bytes.fromhex(prefixes) + b"\x0f\x58\xca") == expected
    assert run(bytes.fromhex(prefixes) + b"\x0f\x28\xca")[0] == "#6 at 0"  # there is none with F3


ALIGNED = [
    "movaps xmm1, [rdi]", "movapd xmm1, [rdi]", "movdqa xmm1, [rdi]", "movaps [rdi], xmm1", "movapd [rdi], xmm1",
    "movdqa [rdi], xmm1", "movntps [rdi], xmm1", "movntpd [rdi], xmm1", "movntdq [rdi], xmm1", "movntdqa xmm1, [rdi]",
    "addps xmm1, [rdi]", "mulpd xmm1, [rdi]", "paddb xmm1, [rdi]", "pshufd xmm1, [rdi], 3", "pshufb xmm1, [rdi]",
    "cvtdq2ps xmm1, [rdi]", "cvtpd2ps xmm1, [rdi]", "movsldup xmm1, [rdi]", "movshdup xmm1, [rdi]",
    "shufps xmm1, [rdi], 1", "cmpps xmm1, [rdi], 1", "psllw xmm1, [rdi]", "unpcklps xmm1, [rdi]", "ptest xmm1, [rdi]",
    "roundps xmm1, [rdi], 1", "palignr xmm1, [rdi], 3", "phminposuw xmm1, [rdi]", "aesenc xmm1, [rdi]",
    "pclmulqdq xmm1, [rdi], 0", "haddps xmm1, [rdi]", "cvtpd2pi mm1, [rdi]", "andps xmm1, [rdi]",
    "mpsadbw xmm1, [rdi], 1",
    "sqrtps xmm1, [rdi]", "rcpps xmm1, [rdi]", "cvttpd2dq xmm1, [rdi]", "fxsave [rdi]",
]  # fmt: skip
UNALIGNED = [
    "movups xmm1, [rdi]", "movupd xmm1, [rdi]", "movdqu xmm1, [rdi]", "lddqu xmm1, [rdi]", "movups [rdi], xmm1",
    "movdqu [rdi], xmm1", "addss xmm1, [rdi]", "addsd xmm1, [rdi]", "movlps xmm1, [rdi]", "movhpd xmm1, [rdi]",
    "movddup xmm1, [rdi]", "pmovzxbw xmm1, [rdi]", "cvtps2pd xmm1, [rdi]", "cvtdq2pd xmm1, [rdi]",
    "cvtps2pi mm1, [rdi]", "pcmpistri xmm1, [rdi], 0", "pcmpestrm xmm1, [rdi], 0", "roundss xmm1, [rdi], 1",
    "pinsrd xmm1, [rdi], 1", "movq xmm1, [rdi]", "movd xmm1, [rdi]", "movq mm1, [rdi]", "pshufb mm1, [rdi]",
    "paddb mm1, [rdi]", "insertps xmm1, [rdi], 1", "comisd xmm1, [rdi]", "movnti [rdi], eax", "movntq [rdi], mm1",
    "extractps [rdi], xmm1, 1",
]  # fmt: skip


def code_of(text: str) -> bytes:
    return assemble(text, origin=CODE, mode=64).code


@pytest.mark.parametrize("text", ALIGNED)
def test_an_operand_that_must_be_aligned(text: str) -> None:
    code = code_of(text)
    assert run(code)[0] == "end"
    for offset in (1, 4, 8, 15):
        for before in (b"", b"\x8a\x07"):  # mov al, [rdi]: the page is in the TLB
            assert run(before + code, at=DATA + offset)[0] == f"#13 at {len(before)}", offset


@pytest.mark.parametrize("text", UNALIGNED)
def test_an_operand_that_need_not_be_aligned(text: str) -> None:
    for offset in (0, 1, 7, 8, 9):
        assert run(code_of(text), at=DATA + offset)[0] == "end"


def test_fxrstor_must_be_aligned() -> None:
    assert run(code_of("fxsave [rdi + 512]; fxrstor [rdi + 512]"))[0] == "end"
    assert run(code_of("fxrstor [rdi]"), at=DATA + 8)[0] == "#13 at 0"


def test_alignment_goes_before_the_page_and_looks_at_the_linear_address() -> None:
    assert run(code_of("movaps xmm1, [rdi]"), at=(4 << 30) + 8)[0] == "#13 at 0"
    assert run(code_of("movaps xmm1, [rdi]"), at=4 << 30)[0] == "#14 at 0"
    assert run(code_of("mov eax, 8; movaps xmm1, [rdi + rax]"), at=DATA + 8)[0] == "end"


SIZES = {
    "cvtps2pd xmm1, [rdi]": 8, "cvtdq2pd xmm1, [rdi]": 8, "cvtps2pi mm1, [rdi]": 8, "cvttps2pi mm1, [rdi]": 8,
    "roundsd xmm1, [rdi], 1": 8, "roundss xmm1, [rdi], 1": 4, "punpcklbw mm1, [rdi]": 4, "punpcklwd mm1, [rdi]": 4,
    "punpckldq mm1, [rdi]": 4, "addss xmm1, [rdi]": 4, "pmovsxbq xmm1, [rdi]": 2, "movhps xmm1, [rdi]": 8,
    "cvtpi2ps xmm1, [rdi]": 8, "punpckhbw mm1, [rdi]": 8, "insertps xmm1, [rdi], 1": 4, "movsd xmm1, [rdi]": 8,
}  # fmt: skip


@pytest.mark.parametrize("text", SIZES)
def test_nothing_is_read_behind_the_operand(text: str) -> None:
    """It ends where its page does, and there is none behind."""
    for missing, expected in ((0, "end"), (1, "#PF")):
        with bare(f"{text}; hlt") as vm:
            vm.vcpu.cr4 |= OSFXSR
            vm.memory.write(PDPT + 8 * 4, struct.pack("<Q", DIRECTORY | 3))  # from 4 GiB on
            vm.memory.write(DIRECTORY, struct.pack("<Q", TABLE | 3))
            vm.memory.write(TABLE, struct.pack("<Q", LAST_PAGE | 3))
            vm.vcpu.rdi = (4 << 30) + 0x1000 - SIZES[text] + missing
            vm.traps.exception(14, lambda vcpu, exit: hv.stop("#PF"))
            result = vm.run(timeout=5)
            assert (result.message if result.reason is hv.Reason.STOPPED else "end") == expected


def test_an_operand_of_four_or_eight_bytes_is_read_whole() -> None:
    value = struct.pack("<4I", 0x3FC00000, 0x40200000, 0x11111111, 0x22222222)  # 1.5, 2.5
    for text, expected in (
        ("cvtps2pd xmm1, [rdi]", struct.unpack("<2Q", struct.pack("<2d", 1.5, 2.5))),
        ("cvtdq2pd xmm1, [rdi]", struct.unpack("<2Q", struct.pack("<2d", 0x3FC00000, 0x40200000))),
        ("roundss xmm1, [rdi], 2", (0x40000000, 0)),
    ):
        with bare(f"xorps xmm1, xmm1; {text}; hlt", rdi=DATA) as vm:
            vm.vcpu.cr4 |= OSFXSR
            vm.memory.write(DATA, value)
            assert vm.run().reason is hv.Reason.HALTED
            assert (vm.vcpu.xmm1 & (1 << 64) - 1, vm.vcpu.xmm1 >> 64) == expected, text
    with bare("movq mm1, [rdi]; punpcklbw mm1, [rdi + 8]; movq [rdi + 16], mm1; hlt", rdi=DATA) as vm:
        vm.memory.write(DATA, bytes(range(16)))
        assert vm.run().reason is hv.Reason.HALTED
        assert vm.memory.read(DATA + 16, 8) == bytes((0, 8, 1, 9, 2, 10, 3, 11))
