"""Why an instruction raised its exception: the sentence says what was wrong with the value, not only that it was."""

from __future__ import annotations

import pytest

import hypervisor as hv

EFER = "mov ecx, 0xc0000080; rdmsr"
CAUSES = {
    "mov ecx, 0x5000; rdmsr": "rdmsr: there is no MSR 0x5000",
    f"{EFER}; or eax, 0x6; wrmsr": "wrmsr: EFER (MSR 0xc0000080) refuses 0xd07: bits 1 and 2 are reserved",
    f"{EFER}; and eax, 0xfffffeff; wrmsr": "refuses 0xc01: LME cannot change while paging is on (CR0.PG)",
    "mov ecx, 0xc0000082; mov edx, 0x800000; xor eax, eax; wrmsr": "LSTAR (MSR 0xc0000082) refuses "
    "0x80000000000000: it holds an address, and this one is not canonical",
    "mov ecx, 0x277; mov eax, 2; xor edx, edx; wrmsr": "PAT (MSR 0x277) refuses 0x2: the value is not one that it can",
    "mov rax, cr4; btr rax, 5; mov cr4, rax": "mov cr4, rax: CR4 refuses 0x600: PAE cannot be switched off",
    "mov rax, cr4; bts rax, 12; mov cr4, rax": "CR4 refuses 0x1620: bit 12 is reserved, or of a feature that",
    "mov rax, cr0; btr rax, 31; mov cr0, rax": "paging cannot be switched off in 64-bit code",
    "mov rax, cr0; btr rax, 0; mov cr0, rax": "paging (PG) needs protected mode (PE)",
    "mov rax, cr0; bts rax, 29; mov cr0, rax": "NW needs CD",
    "mov rax, cr0; bts rax, 40; mov cr0, rax": "bits 63 to 32 must be 0",
    "mov eax, 16; mov cr8, rax": "CR8 refuses 0x10: the task priority has four bits",
    "mov rax, 0x100000000; mov dr7, rax": "DR7 refuses 0x100000000: bits 63 to 32 must be 0",
    f"{EFER}; and eax, 0xfffffffe; wrmsr; syscall": "syscall needs EFER.SCE, which is clear",
    "mov eax, 0x80008; fxsave [rax]": "fxsave [rax] needs an address that 16 divides, and 0x80008 is not",
    "mov rax, 0x800000000000; jmp rax": "jmp rax goes to 0x800000000000, which is not canonical (bits 63 to 47 must be",
    "mov rax, 0x800000000000; mov [0x80000], rax; call [0x80000]": "goes to 0x800000000000, which is not canonical",
    "mov rax, 0x8000000000000000; push rax; ret": "ret goes to 0x8000000000000000, which is not canonical",
}


@pytest.mark.parametrize("code", CAUSES)
def test_the_cause_names_the_value_and_the_reason(code: str) -> None:
    crash = hv.run_asm(code, mode=64, regs={"rsp": 0x80000}).crash
    assert crash is not None
    assert CAUSES[code] in crash.chain[0].cause


@pytest.mark.parametrize(
    ("setup", "code", "said"),
    [
        (
            "mov eax, cr4; btr eax, 9; mov cr4, eax",
            "movaps xmm0, xmm1",
            "is an SSE instruction, and CR4.OSFXSR is clear",
        ),
        ("mov eax, cr0; bts eax, 2; mov cr0, eax", "fninit", "fninit needs the FPU, and CR0.EM is set"),
        ("mov eax, cr0; bts eax, 3; mov cr0, eax", "fninit", "fninit needs the FPU, and CR0.TS is set"),
    ],
)
def test_floating_point_that_is_switched_off(setup: str, code: str, said: str) -> None:
    crash = hv.run_asm(f"{setup}; {code}", mode=32).crash
    assert crash is not None and said in crash.chain[0].cause


def test_long_mode_needs_pae() -> None:
    crash = hv.run_asm(f"{EFER}; or eax, 0x100; wrmsr; mov eax, cr0; bts eax, 31; mov cr0, eax", mode=32).crash
    assert crash is not None
    assert crash.chain[0].cause.endswith(
        "EFER.LME is set, so PG enters long mode, and that needs CR4.PAE, which is clear"
    )


def test_an_interrupt_is_not_called_an_exception() -> None:
    crash = hv.run_asm("int 0x10", mode=32).crash
    assert crash is not None and "(int 0x10, #GP" in crash.message and crash.chain[0].name == "INT 0x10"

    def setup(vm: hv.VM) -> None:
        vm.vcpu.nmi()

    crash = hv.run_asm("nop; nop", mode=64, setup=setup).crash
    assert crash is not None and "(NMI, #GP" in crash.message and crash.chain[0].name.startswith("NMI")


@pytest.mark.parametrize(("there", "said"), [(b"", True), (b"\xff\xff", True), (b"\xeb\xfe", False)])
def test_a_processor_that_was_started_where_no_code_is(there: bytes, said: bool) -> None:
    with hv.boot(b"\xfa\xf4", memory="1M", format="flat", at=0x1000, mode=16, cpus=2) as vm:
        vm.memory.write(0x8000, there)
        vm.vcpus[1].startup(0x08)
        hint = vm.run(virtual_timeout=0.01).hint
    assert hint.startswith("The startup IPI sent vCPU 1 to 0x8000, where no code was (bytes ") == said
