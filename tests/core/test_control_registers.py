"""What control registers take, keep and refuse (AMD64 APM volume 2, 3.1)."""

from __future__ import annotations

import pytest

import hypervisor as hv

TAKEN = {
    "smsw ebx; mov eax, ebx; and eax, 0xfffffff0; lmsw ax; smsw ebx": (32, 0x11),  # PE stays, as ET does
    "mov eax, 0xf; lmsw ax; smsw ebx": (32, 0x1F),
    "mov eax, 0x60000009; mov cr0, eax; clts; mov ebx, cr0": (32, 0x60000011),
    "mov eax, 0x1ffa0011; mov cr0, eax; mov ebx, cr0": (32, 0x11),  # bits that are not defined
    "mov ebx, 9; mov cr8, rbx; xor ebx, ebx; mov rbx, cr8": (64, 9),
}
GOOD_LTR = (
    "sub rsp, 16; mov word ptr [rsp], 0x3f; mov qword ptr [rsp + 2], 0x1000; lgdt [rsp]; mov rbx, 0x1020; "
    "mov dword ptr [rbx], 0x67; mov dword ptr [rbx + 4], 0x8900; mov qword ptr [rbx + 8], 0; mov ax, 0x20; ltr ax; "
)
REFUSED = {
    "xor eax, eax; ltr ax": 64,
    GOOD_LTR + "xor eax, eax; ltr ax": 64,  # the first is executed natively, with its intercept off for a step
    "mov eax, 3; ltr ax": 64,
    "mov eax, 0x80000000; mov cr0, eax": 32,
    "mov eax, 0x20000011; mov cr0, eax": 32,
    "mov rax, cr0; bts rax, 33; mov cr0, rax": 64,
    "mov rax, cr4; bts rax, 17; mov cr4, rax": 64,
    "mov rax, cr4; btr rax, 5; mov cr4, rax": 64,
    "mov eax, 16; mov cr8, rax": 64,
}


@pytest.mark.parametrize("code", TAKEN)
def test_what_is_taken(code: str) -> None:
    mode, expected = TAKEN[code]
    result = hv.run_asm(f"{code}; hlt", mode=mode)
    assert result.reason is hv.Reason.HALTED, result.message
    assert result.ebx == expected


@pytest.mark.parametrize("code", REFUSED)
def test_what_is_refused(code: str) -> None:
    crash = hv.run_asm(f"{code}; hlt", mode=REFUSED[code]).crash
    assert crash is not None
    assert (crash.chain[0].vector, crash.chain[0].error) == (13, 0)


def test_sysenter_cs_has_32_bits() -> None:
    result = hv.run_asm("mov ecx, 0x174; mov eax, 0x12345678; wrmsr; xor eax, eax; rdmsr; hlt", timeout=5)
    assert (result.reason, result.rax) == (hv.Reason.HALTED, 0x12345678)


def test_pushf_shows_rf_clear() -> None:
    """APM volume 3, PUSHF: RF is clear in the image, though IRET has just loaded it for this instruction."""
    frame = "mov rcx, rsp; push 0x10; push rcx; push 0x10246; push 8; push 0x10040; iretq"
    result = hv.run_asm(f"{frame}; .org 0x10040; pushfq; pop rbx; hlt", regs={"rsp": 0x80000})
    assert result.rbx == 0x246
