"""CPUID: the packing, and that every offered feature runs on the engine's processor model."""

from __future__ import annotations

import pytest

from hypervisor.arch import cpuid


def text(*words: int) -> str:
    return b"".join(word.to_bytes(4, "little") for word in words).decode().rstrip("\0")


def test_the_strings_read_back_in_the_manuals_order() -> None:
    table = cpuid.leaves()
    first, extended, hyper = table[0, 0], table[0x8000_0000, 0], table[0x4000_0000, 0]
    assert text(first.ebx, first.edx, first.ecx) == "AuthenticAMD" == text(extended.ebx, extended.edx, extended.ecx)
    assert text(*hyper[1:]) == cpuid.HYPERVISOR_SIGNATURE and len(cpuid.HYPERVISOR_SIGNATURE) == 12
    assert text(*table[0x8000_0002, 0], *table[0x8000_0003, 0], *table[0x8000_0004, 0]) == cpuid.BRAND
    assert len(cpuid.BRAND) < 48


def test_the_maxima_are_the_highest_leaves_and_every_answer_is_four_32_bit_words() -> None:
    table = cpuid.leaves(vcpus=255)
    assert table[0, 0].eax == max(leaf for leaf, _ in table if leaf < 0x4000_0000)
    assert table[0x4000_0000, 0].eax == max(leaf for leaf, _ in table if leaf < 0x8000_0000)
    assert table[0x8000_0000, 0].eax == max(leaf for leaf, _ in table)
    assert all(0 <= word < 1 << 32 for answer in table.values() for word in answer)


def test_the_signature_is_family_17h_model_31h_stepping_0() -> None:
    assert cpuid.leaves()[1, 0].eax == 0x0083_0F10 == cpuid.leaves()[0x8000_0001, 0].eax


def test_what_changes_at_run_time_is_zero_in_the_table() -> None:
    assert cpuid.leaves(vcpus=4)[1, 0].ecx & cpuid.OSXSAVE == 0


def test_cores_are_counted_only_when_there_are_several() -> None:
    one, four = cpuid.leaves(), cpuid.leaves(vcpus=4)
    assert one[1, 0].edx >> 28 & 1 == 0 and one[1, 0].ebx >> 16 == 0 and one[0x8000_0008, 0].ecx == 0
    assert four[1, 0].edx >> 28 & 1 == 1 and four[1, 0].ebx >> 16 & 0xFF == 4
    assert four[0x8000_0008, 0].ecx == 2 << 12 | 3 and four[0x8000_0001, 0].ecx >> 1 & 1 == 1
    with pytest.raises(ValueError, match="256 vCPUs cannot be described"):
        cpuid.leaves(vcpus=256)


def test_a_board_without_a_local_apic_does_not_offer_one() -> None:
    assert cpuid.leaves()[1, 0].edx >> 9 & 1 == 1 == cpuid.leaves()[0x8000_0001, 0].edx >> 9 & 1
    without = cpuid.leaves(apic=False)
    assert without[1, 0].edx >> 9 & 1 == 0 == without[0x8000_0001, 0].edx >> 9 & 1
    assert without[0x4000_0010, 0].ebx == 0
    assert cpuid.leaves()[1, 0].ecx >> 21 & 1 == 1 and without[1, 0].ecx >> 21 & 1 == 0
    assert cpuid.answer(without, 0xB, 0) == cpuid.ZERO


def test_unknown_leaves_are_zero_and_only_some_leaves_look_at_the_subleaf() -> None:
    table = cpuid.leaves()
    assert cpuid.answer(table, 0x1234, 0) == cpuid.ZERO == cpuid.answer(table, 7, 1)
    assert cpuid.answer(table, 1, 77) == table[1, 0]
    assert cpuid.answer(table, 0xD, 1) == table[0xD, 1]


def test_nothing_is_both_offered_and_refused() -> None:
    tables = (cpuid.LEAF_1_EDX, cpuid.LEAF_1_ECX, cpuid.LEAF_7_EBX, cpuid.LEAF_80000001_EDX, cpuid.LEAF_80000001_ECX)
    offered = {name for table in tables for name in table}
    refused = {name for names in cpuid.NOT_OFFERED for name in names.split(", ")}
    assert not offered & refused


# One instruction of each feature, in 64-bit mode; RDI points at memory.
INSTRUCTIONS = {
    "cx8": "0fc70f",
    "cmov": "0f44c1",
    "clflush": "0fae3f",
    "mmx": "0ffcc1",
    "fxsr": "0fae07",
    "sse": "0f58c1",
    "sse2": "660f58c1",
    "sse3": "f20fd0c1",
    "pclmulqdq": "660f3a44c100",
    "ssse3": "660f3800c1",
    "cx16": "480fc70f",
    "sse4_1": "660f3a0dc101",
    "sse4_2": "f20f38f0c1",
    "movbe": "0f38f007",
    "popcnt": "f30fb8c1",
    "aes": "660f38dcc1",
    "xsave": "0fae27",
    "fsgsbase": "f30faec0",
    "bmi1": "c4e270f2c1",
    "bmi2": "c4e271f7c1",
    "adx": "660f38f6c1",
    "clflushopt": "660fae3f",
    "xsaveopt": "0fae37",
    "xgetbv1": "0f01d0",
    "mmxext": "0f70c100",
    "rdtscp": "0f01f9",
    "lahf_lm": "9f",
    "abm": "f30fbdc1",
    "3dnowprefetch": "0f0d0f",
    "smap": "0f01cb",
}
# Not instructions, or not translated but emulated by us.
ELSEWHERE = {
    "fpu", "de", "pse", "tsc", "msr", "pae", "apic", "sep", "mtrr", "mce", "mca", "pge", "pat", "pse36", "htt",
    "osxsave", "rdrand", "rdseed", "hypervisor", "smep", "syscall", "nx", "tsc_adjust", "pdpe1gb", "lm", "cmp_legacy",
    "x2apic",
}  # fmt: skip


def test_each_offered_feature_has_its_evidence() -> None:
    tables = (
        cpuid.LEAF_1_EDX, cpuid.LEAF_1_ECX, cpuid.LEAF_7_EBX, cpuid.LEAF_D1_EAX, cpuid.LEAF_80000001_EDX,
        cpuid.LEAF_80000001_ECX,
    )  # fmt: skip
    assert {name for table in tables for name in table} == INSTRUCTIONS.keys() | ELSEWHERE


@pytest.mark.parametrize("feature", INSTRUCTIONS)
def test_an_offered_instruction_runs_on_the_engines_processor(feature: str) -> None:
    unicorn = pytest.importorskip(
        "unicorn"
    )  # a dependency of the package: absent only where the engine cannot run at all
    x86 = unicorn.x86_const
    uc = unicorn.Uc(unicorn.UC_ARCH_X86, unicorn.UC_MODE_64)
    uc.ctl_set_cpu_model(x86.UC_CPU_X86_EPYC)
    uc.mem_map(0x1000, 0x3000)
    code = bytes.fromhex(INSTRUCTIONS[feature])
    uc.mem_write(0x1000, code)
    uc.reg_write(x86.UC_X86_REG_CR4, 0x35_0620)  # PAE, OSFXSR, OSXMMEXCPT, FSGSBASE, OSXSAVE, SMEP, SMAP
    uc.reg_write(x86.UC_X86_REG_RDI, 0x2000)
    uc.reg_write(x86.UC_X86_REG_RAX, 3)
    uc.reg_write(x86.UC_X86_REG_RCX, 1 if feature == "xgetbv1" else 0)
    uc.emu_start(0x1000, 0x1000 + len(code))
    assert uc.reg_read(x86.UC_X86_REG_RIP) == 0x1000 + len(code)
