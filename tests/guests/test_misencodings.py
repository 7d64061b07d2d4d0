"""System code that Keystone 0.9.2 encodes wrongly or refuses, what we make of it, and that our check would see it."""

from __future__ import annotations

import dataclasses

import pytest

from hypervisor.assembler import AssemblyError, assemble
from hypervisor.debug.verify import differences

ADDRESS = 0x1000

# mode, our source, Keystone's text if it differs, Keystone's bytes (empty: refused), the right bytes
TABLE = [
    (16, "ret", "", "66c3", "c3"),
    (16, "ret 4", "", "66c20400", "c20400"),
    (16, "retf", "", "66cb", "cb"),
    (16, "call 0x1010", "", "66e80a000000", "e80d00"),
    (16, "jmp 0x2000", "", "66e9fa0f0000", "e9fd0f"),
    (16, "je 0x2000", "", "660f84f90f0000", "0f84fc0f"),
    (16, "push 5", "", "666a05", "6a05"),
    (16, "push 0x1234", "", "666834120000", "683412"),
    (16, "push fs", "", "660fa0", "0fa0"),
    (32, "push ds", "", "661e", "1e"),
    (16, "push dword 5", "push dword ptr 5", "6a05", "666a05"),
    (32, "push dword 5", "push dword ptr 5", "666a05", "6a05"),
    (32, "lgdt [0x1234]", "", "660f011534120000", "0f011534120000"),
    (32, "lidt [0x1234]", "", "660f011d34120000", "0f011d34120000"),
    (32, "sgdt [ebx]", "", "660f0103", "0f0103"),
    (32, "sidt [esp + 4]", "", "660f014c2404", "0f014c2404"),
    (16, "o32 lgdt [0x1234]", "", "", "660f01163412"),
    (32, "jmp 8:0x12345678", "ljmp 8:0x12345678", "66ea78560800", "ea785634120800"),
    (16, "jmp dword 8:0x12345678", "ljmp 8:0x12345678", "ea78560800", "66ea785634120800"),
    (16, "jmp 8:0x1234", "", "", "ea34120800"),
    (16, "jmp far [0x1234]", "", "", "ff2e3412"),
    (16, "o32 jmp far [0x1234]", "", "", "66ff2e3412"),
    (64, "o64 jmp far [rbx]", "", "", "48ff2b"),
    (32, "pushf", "", "669c", "9c"),
    (64, "pushf", "", "669c", "9c"),
    (32, "popf", "", "669d", "9d"),
    (32, "iret", "", "66cf", "cf"),
    (16, "iretw", "", "", "cf"),
    (64, "sysret", "", "480f07", "0f07"),
    (64, "sysretq", "", "", "480f07"),
    (64, "sysexit", "", "480f35", "0f35"),
    (32, "rep movsd", "", "", "f3a5"),
    (64, "vmrun", "", "", "0f01d8"),
    (64, "mov gs:[8], rsp", "", "6548892500f0ffff", "654889242508000000"),
    (64, "mov rsp, gs:[8]", "", "65488b2508000000", "65488b242508000000"),
    (64, "mov rbx, fs:[0]", "", "64488b1d00000000", "64488b1c2500000000"),
    (16, "mov eax, [ebx + eax*4 + 0x1000]", "mov eax, [eax*4 + 0x1000]", "668b060010", "67668b848300100000"),
]

# What Keystone lets through and a processor does not do, or does otherwise: refused with a sentence.
REFUSED = [
    (64, "jmp 8:0x1234", "does not exist in 64-bit code"),
    (64, "into", "does not exist in 64-bit code"),
    (64, "pushad", "does not exist in 64-bit code"),
    (32, "cqo", "64-bit operand size does not exist in 32-bit code"),
    (32, "movsq", "64-bit operand size does not exist in 32-bit code"),
    (32, "swapgs", "exists in 64-bit code only"),
    (64, "iret", "write iretq"),
    (64, "push 0xffffffff", "does not fit into a 64-bit push"),
    (16, "mov al, 0x1234", "does not fit into the 8-bit constant of mov"),
    (32, "add ax, 0x12345", "does not fit into the 16-bit constant of add"),
    (64, "mov eax, 0x123456789", "does not fit into the 32-bit constant of mov"),
    (64, "mov byte ptr [rbx], 0x1ff", "does not fit into the 8-bit constant of mov"),
    (16, "mov eax, [0xb8000]", "does not fit into a 16-bit address"),
    (64, "mov ebx, [0xfee00000]", "out of a 64-bit instruction's reach"),
    (64, "mov ebx, [rbx + 0xfee00000]", "does not fit into a 32-bit signed displacement"),
    (16, "mov eax, [eax*4 + 0x1000]", "needs a base register in 16-bit code"),
    (32, "mov cs, ax", "CS cannot be loaded by mov"),
]


@pytest.mark.parametrize(("mode", "source", "text", "wrong", "right"), TABLE)
def test_we_encode_what_keystone_gets_wrong(mode: int, source: str, text: str, wrong: str, right: str) -> None:
    image = assemble(source, mode=mode, origin=ADDRESS)
    assert image.code.hex() == right
    assert differences(image) == []


@pytest.mark.parametrize(("mode", "source", "text", "wrong", "right"), TABLE)
def test_keystone_still_gets_it_wrong(mode: int, source: str, text: str, wrong: str, right: str) -> None:
    """When this fails, Keystone has changed: a fix of ours may have become needless."""
    import keystone

    modes = {16: keystone.KS_MODE_16, 32: keystone.KS_MODE_32, 64: keystone.KS_MODE_64}
    try:
        code, _ = keystone.Ks(keystone.KS_ARCH_X86, modes[mode]).asm(text or source, ADDRESS, as_bytes=True)
    except keystone.KsError:
        code = None
    assert (code or b"").hex() == wrong


@pytest.mark.parametrize(("mode", "source", "text", "wrong", "right"), [row for row in TABLE if row[3]])
def test_the_check_sees_keystones_encoding(mode: int, source: str, text: str, wrong: str, right: str) -> None:
    good = assemble(source, mode=mode, origin=ADDRESS)
    bad = dataclasses.replace(good, listing=[good.listing[0]._replace(code=bytes.fromhex(wrong))])
    assert differences(bad)


@pytest.mark.parametrize(("mode", "source", "sentence"), REFUSED)
def test_what_cannot_be_is_refused_with_a_sentence(mode: int, source: str, sentence: str) -> None:
    with pytest.raises(AssemblyError) as caught:
        assemble(source, mode=mode, origin=ADDRESS)
    assert str(caught.value).startswith(f"<asm>:1: {source}: ")
    assert sentence in str(caught.value)


COMMON = """
mov ax, 5; mov al, bl; mov [0x1234], ax; mov ax, [0x1234]; add ax, 0x80; sub ax, -2; cmp byte ptr [0x1234], 'A'
xor ax, ax; test al, al; xchg ax, bx; inc word ptr [0x1234]; shl ax, 1; shl ax, 4; shr ax, cl; mov es, [0x1234]
movzx ax, byte ptr [0x1234]; in al, dx; in ax, dx; in eax, dx; out dx, al; out dx, eax; in al, 0x20; out 0x20, al
insb; rep outsw; cpuid; rdmsr; wrmsr; hlt; pause; monitor; mwait; invd; wbinvd; invlpg [0x1234]; rdtsc; rdtscp; rdpmc
int 0x80; int3; int1; ud2; clts; lmsw ax; smsw ax; smsw [0x1234]; sldt ax; lldt ax; str ax; ltr ax; lgdt [0x1234]
sidt [0x1234]; vmcall; vmmcall; stgi; clgi; vmrun; vmload; vmsave; skinit; invlpga; xgetbv; xsetbv; sysenter; syscall
rdrand eax; rdseed ax; mov ds, ax; mov ax, ds; mov [0x1234], es; push fs; pop gs; push ax; pop bx; pushf; popf; retf 8
ret; loop $; jmp $ + 300; je $ - 200; cbw; cwde; cwd; cdq; leave; enter 16, 0; lock xadd [0x1234], eax; fninit
cmpxchg8b [0x1234]; fnstsw ax; bt eax, 3; imul eax, ebx, 100; setz al; cmovnz eax, ebx; bswap eax; xlatb; rep stosd
repne scasb; fxsave [0x1234]; jecxz $; wait
"""
ONLY = {
    16: """
mov ax, [bx + si + 4]; mov [bp - 2], ax; mov eax, cr0; mov cr0, eax; jmp dword 8:0x10000; lea ax, [bx + 2]; pusha; into
""",
    32: """
mov eax, [ebx + ecx*4 - 8]; mov eax, cr4; mov dr7, eax; push dword ptr [eax]; call 8:0x1234; popad; bound eax, [ebx]
""",
    64: """
mov rax, cr8; mov dr7, rax; mov rax, [rel $]; lea rbx, [0x1234]; mov r15, [r14 + r13*8 + 1]; mov rax, 0x123456789abc
push 0x7fffffff; push -1; call far [rbx]; iretq; retfq; sysretq; swapgs; cqo; cdqe; movsq; mov eax, [0xfee00000]
mov qword ptr [0x1234], -1; and rax, 0xfffffffffffff000; jrcxz $; mov rax, gs:[0]; bts qword ptr [rel $], 3
""",
}


@pytest.mark.parametrize("mode", [16, 32, 64])
def test_system_code_of_every_mode_passes_the_check(mode: int) -> None:
    image = assemble(COMMON + ONLY[mode], mode=mode, origin=ADDRESS)
    assert differences(image) == []
    assert len(image.listing) > 100
