"""Encodings that look like instructions and are none: #UD at their own address (AMD64 APM volume 3, 1.2.5)."""

from __future__ import annotations

import struct

import pytest

import hypervisor as hv
from hypervisor.assembler import assemble
from tests.core.bare import CODE, DATA, bare

PDPT, DIRECTORY, TABLE, NEAR_THE_END = 0x3000, 0x7000, 0x8000, 0x91000

TAKES_LOCK = [
    *(f"{name} [rdi], {register}"
      for name in ("add", "or", "adc", "sbb", "and", "sub", "xor", "xchg", "xadd", "cmpxchg")
      for register in ("al", "cx", "edx", "r9")),
    *(f"{name} {size} ptr [rdi], 3" for name in ("add", "or", "adc", "sbb", "and", "sub", "xor")
      for size in ("byte", "word", "dword", "qword")),
    *(f"{name} {size} ptr [rdi]" for name in ("inc", "dec", "not", "neg") for size in ("byte", "dword", "qword")),
    *(f"{name} [rdi], {operand}" for name in ("bts", "btr", "btc") for operand in ("eax", "rax")),
    "bts dword ptr [rdi], 3", "btr qword ptr [rdi], 9", "btc word ptr [rdi], 1", "cmpxchg8b [rdi]", "cmpxchg16b [rdi]",
]  # fmt: skip

REFUSES_LOCK = [
    "nop", "mov eax, ebx", "mov [rdi], eax", "mov eax, [rdi]", "add eax, ebx", "add eax, [rdi]", "cmp [rdi], eax",
    "cmp dword ptr [rdi], 3", "test [rdi], eax", "bt [rdi], eax", "bt dword ptr [rdi], 3", "bts ecx, eax",
    "xadd ecx, eax", "cmpxchg ecx, eax", "xchg ecx, edx", "inc eax", "not eax", "mul dword ptr [rdi]",
    "test byte ptr [rdi], 1", "shl dword ptr [rdi], 1", "rcr byte ptr [rdi], cl", "push qword ptr [rdi]", "call [rdi]",
    "lea eax, [rdi]", "movsb", "stosd", "pushfq", "cpuid", "rdtsc", "in al, 0x80", "hlt", "int3", "syscall", "pause",
    "jmp CODE", "movups [rdi], xmm0", "fstp dword ptr [rdi]", "movnti [rdi], eax", "mov rax, cr0", "lgdt [rdi]",
    "prefetcht0 [rdi]", "shld [rdi], eax, 3", "setz byte ptr [rdi]", "rdrand eax", "imul eax, [rdi]", "vmmcall",
]  # fmt: skip


def outcome(code: bytes, before: str = "inc ebx; ") -> str:
    """ "end", or where #UD is raised, as it counts from the code; everything before must have happened once."""
    with bare(before, rdi=DATA, rsi=DATA, rcx=1) as vm:
        at = CODE + len(assemble(before, origin=CODE, mode=64).code)
        vm.memory.write(at, code + assemble("mov edx, 7; int 0x20", origin=0, mode=64).code)
        vm.traps.exception(6, lambda vcpu, exit: hv.stop(f"#UD at {vcpu.rip - at}"))
        vm.traps.int_n(0x20, lambda vcpu, exit: hv.stop("end"))
        result = vm.run(timeout=5)
        assert result.ebx == before.count("inc ebx")
        return result.message


def code_of(text: str) -> bytes:
    return assemble(text.replace("CODE", hex(CODE)), origin=CODE, mode=64).code


@pytest.mark.parametrize("text", TAKES_LOCK)
def test_lock_before_what_takes_it(text: str) -> None:
    assert outcome(b"\xf0" + code_of(text)) == "end"


@pytest.mark.parametrize("text", REFUSES_LOCK)
def test_lock_before_what_does_not_take_it(text: str) -> None:
    for prefixes in (b"\xf0", b"\xf0\x66", b"\x64\xf0", b"\xf0\x2e"):
        for before in ("inc ebx; ", "inc ebx; jmp next; next: ", "inc ebx; mov r8, [rdi]; "):
            assert outcome(prefixes + code_of(text), before) == "#UD at 0", (prefixes, before)


@pytest.mark.parametrize("split", [1, 2])
def test_where_the_bytes_that_decide_lie_on_the_next_page(split: int) -> None:
    """The page after it is there, or is not: then its fault comes first."""
    for present, expected in ((True, "#UD"), (False, "#PF")):
        with bare("", rdi=DATA) as vm:
            start = NEAR_THE_END - split
            vm.memory.write(PDPT + 8 * 4, struct.pack("<Q", DIRECTORY | 3))  # from 4 GiB on
            vm.memory.write(DIRECTORY, struct.pack("<Q", TABLE | 3))
            vm.memory.write(TABLE, struct.pack("<QQ", NEAR_THE_END - 0x1000 | 3, NEAR_THE_END | present | 2))
            vm.memory.write(start, b"\xf0\x8b\x07")  # LOCK MOV
            vm.vcpu.rip = (4 << 30) + 0x1000 - split
            vm.traps.exception(6, lambda vcpu, exit: hv.stop("#UD"))
            vm.traps.exception(14, lambda vcpu, exit: hv.stop("#PF"))
            assert vm.run(timeout=5).message == expected


def test_rdpid_is_none_of_ours() -> None:
    served = []
    for prefix, expected in ((b"", "end"), (b"\x66", "end"), (b"\xf3", "#UD at 0"), (b"\xf2", "#UD at 0")):
        served.append(outcome(prefix + b"\x0f\xc7\xf8"))  # RDSEED EAX, with F3 RDPID
        assert served[-1] == expected


@pytest.mark.parametrize(
    "code", ["45c707ff84cb51", "44c60705", "4ec707ff84cb51", "66 44 c7 07 34 12", "44 c7 c0 11223344"]
)
def test_rex_r_says_nothing_of_an_opcode_extension(code: str) -> None:
    """MOV of a constant."""
    with bare("nop", rdi=DATA, r15=DATA) as vm:
        vm.memory.write(CODE, bytes.fromhex(code) + b"\xf4")
        assert vm.run(timeout=5).reason is hv.Reason.HALTED
        assert vm.memory.read(DATA, 1)[0] or vm.vcpu.eax


@pytest.mark.parametrize("code", ["c6 f8 01", "c7 f8 00 00 00 00", "c6 0f 01", "c7 c9 00 00 00 00", "f0 c6 07 01"])
def test_what_lies_beside_mov(code: str) -> None:
    """XABORT and XBEGIN, which are not offered, and nothing."""
    assert outcome(bytes.fromhex(code)) == "#UD at 0"


NO_SUCH_OPERAND = {
    "0f 50 07": "MOVMSKPS", "66 0f 50 07": "MOVMSKPD", "0f c5 07 01": "PEXTRW", "66 0f c5 07 01": "PEXTRW",
    "0f d7 07": "PMOVMSKB", "66 0f d7 07": "PMOVMSKB", "0f f7 07": "MASKMOVQ", "66 0f f7 07": "MASKMOVDQU",
    "f2 0f d6 07": "MOVDQ2Q", "f3 0f d6 07": "MOVQ2DQ", "66 0f 12 c1": "MOVLPD", "66 0f 16 c1": "MOVHPD",
    "0f 13 c1": "MOVLPS", "0f 17 c1": "MOVHPS", "0f 2b c1": "MOVNTPS", "f3 0f 2b 07": "MOVNTSS",
    "f2 0f 2b 07": "MOVNTSD", "0f c3 c1": "MOVNTI", "0f e7 c1": "MOVNTQ", "66 0f e7 c1": "MOVNTDQ",
    "66 0f 73 17 01": "PSRLQ", "0f 71 17 01": "PSRLW", "0f 72 c1 01": "/0", "0f 73 d9 01": "PSRLDQ without 66",
    "66 0f 73 e1 01": "/4", "66 0f 71 f9 01": "/7", "0f 38 f0 c1": "MOVBE", "66 0f 38 f1 c1": "MOVBE of 16 bits",
    "48 0f 38 f0 c1": "MOVBE of 64 bits", "0f 38 f1 c1": "MOVBE to memory", "66 0f 38 2a c1": "MOVNTDQA",
    "f2 0f f0 c1": "LDDQU", "8d c1": "LEA", "0f b2 c1": "LSS", "0f ae c1": "FXSAVE", "0f 18 c1": "PREFETCHT0",
}  # fmt: skip
AS_THEY_ARE = (
    "0f 50 c1", "66 0f 50 c1", "0f c5 c1 01", "66 0f d7 c1", "f2 0f d6 c1", "f3 0f d6 c1", "66 0f d6 c1", "66 0f 12 07",
    "0f 12 c1", "f2 0f 12 c1", "f3 0f 12 c1", "66 f3 0f 12 c1", "0f 16 c1", "f3 0f 16 c1", "0f 13 07", "0f 2b 07",
    "66 0f 2b 07", "0f c3 07", "66 0f e7 07", "66 0f 73 d1 01", "66 0f 73 d9 01", "66 0f 73 f9 01", "0f 73 f1 01",
    "0f 71 d1 01", "66 0f 72 e1 01", "66 0f f7 c1", "0f 38 f0 07", "66 0f 38 f1 07", "f2 0f 38 f0 c1",
    "66 f2 0f 38 f1 c1", "f2 0f 38 f0 07", "66 0f 38 2a 07", "0f 38 00 c1", "66 0f 38 17 c1",
)  # fmt: skip


@pytest.mark.parametrize("code", [*NO_SUCH_OPERAND, *AS_THEY_ARE])
def test_operands_that_an_opcode_has_or_has_not(code: str) -> None:
    expected = "#UD at 0" if code in NO_SUCH_OPERAND else "end"
    assert outcome(bytes.fromhex(code)) == expected
