"""What a WRMSR stores, and when it raises #GP."""

from __future__ import annotations

import pytest

from hypervisor.arch import flags, msr

CANONICAL_HIGH, NON_CANONICAL = 0xFFFF_8000_0000_0000, 0x0000_8000_0000_0000


def test_numbers_are_unique_and_reset_values_are_writable_states() -> None:
    assert len(msr.MSRS) == len(msr._LIST)
    for register in msr.MSRS.values():
        assert register.checked(register.reset, register.reset) == register.reset, register.name


@pytest.mark.parametrize(
    "number", [msr.LSTAR, msr.CSTAR, msr.FS_BASE, msr.GS_BASE, msr.KERNEL_GS_BASE, msr.SYSENTER_EIP]
)
def test_linear_addresses_must_be_canonical(number: int) -> None:
    register = msr.MSRS[number]
    assert register.checked(0, CANONICAL_HIGH) == CANONICAL_HIGH
    assert register.checked(0, 0x7FFF_FFFF_FFFF) == 0x7FFF_FFFF_FFFF
    assert register.checked(0, NON_CANONICAL) is None


def test_pat_takes_defined_memory_types_only() -> None:
    pat = msr.MSRS[msr.PAT]
    assert pat.checked(0, 0x0706_0504_0100_0601) == 0x0706_0504_0100_0601
    for bad in (2, 3, 8):
        assert pat.checked(0, bad << 24) is None


def test_apic_base_keeps_its_bsp_bit_and_refuses_x2apic() -> None:
    base = msr.MSRS[msr.APIC_BASE]
    assert base.reset == 0xFEE0_0900
    assert base.checked(base.reset, 0xFEC0_0800) == 0xFEC0_0900
    assert base.checked(base.reset, base.reset | 1 << 10) is None
    assert base.checked(base.reset, base.reset | 1 << 40) is None


def test_short_registers_drop_the_upper_half() -> None:
    assert msr.MSRS[msr.SFMASK].checked(0, 0x1_0004_7700) == 0x0004_7700
    assert msr.MSRS[msr.TSC_AUX].checked(0, 0xFFFF_FFFF_0000_0003) == 3


def test_constants_forget_writes() -> None:
    assert msr.MSRS[msr.NB_CFG].checked(0, 1 << 46) == 0
    assert msr.MSRS[msr.HWCR].checked(1 << 24, 0) == 1 << 24


def test_efer_checks_reserved_bits_lme_under_paging_and_keeps_lma() -> None:
    running = flags.EFER_LME | flags.EFER_LMA | flags.EFER_NXE
    assert msr.efer_after(0, flags.EFER_LME | flags.EFER_LMA, paging=False) == flags.EFER_LME
    assert (
        msr.efer_after(running, flags.EFER_LME | flags.EFER_SCE, paging=True)
        == running & ~flags.EFER_NXE | flags.EFER_SCE
    )
    assert msr.efer_after(running, flags.EFER_NXE, paging=True) is None
    assert msr.efer_after(0, flags.EFER_SVME, paging=False) is None
    assert msr.efer_after(0, 1 << 63, paging=False) is None


def test_flags_have_words() -> None:
    assert flags.names(0x8001_0011, flags.CR0_NAMES) == "PE ET WP PG"
    assert flags.names(flags.EFER_OFFERED, flags.EFER_NAMES) == "SCE LME LMA NXE AIBRSE"
