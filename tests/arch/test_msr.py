"""What a WRMSR stores, and when it raises #GP."""

from __future__ import annotations

import pytest

from hypervisor.arch import flags, msr

CANONICAL_HIGH, NON_CANONICAL = 0xFFFF_8000_0000_0000, 0x0000_8000_0000_0000


def test_numbers_are_unique_and_reset_values_are_writable_states() -> None:
    assert len(msr.MSRS) == len(msr._LIST)
    for register in msr.MSRS.values():
        stays = None if register.number == msr.MTRR_CAP else register.reset
        assert register.checked(register.reset, register.reset) == stays, register.name


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


def test_memory_type_ranges_are_those_that_are_announced_and_describe_the_board() -> None:
    capabilities = msr.MSRS[msr.MTRR_CAP].reset
    pairs = range(capabilities & 0xFF)
    assert {msr.MTRR_BASE0 + 2 * n for n in pairs} | {msr.MTRR_MASK0 + 2 * n for n in pairs} == {
        number for number in msr.MSRS if msr.MTRR_BASE0 <= number < 0x250
    }
    kinds = b"".join(msr.MSRS[n].reset.to_bytes(8, "little") for n in msr.MTRR_FIX64K + msr.MTRR_FIX16K)
    assert kinds == b"\x06" * 16 + b"\x00" * 8  # memory up to 640 KiB, then the display's window
    hole, mask = msr.MSRS[msr.MTRR_BASE0].reset, msr.MSRS[msr.MTRR_MASK0].reset
    covered = [
        address for address in (0xBFFF_F000, 0xC000_0000, 0xFFFF_F000, 1 << 32) if address & mask & ~0xFFF == hole
    ]
    assert covered == [0xC000_0000, 0xFFFF_F000] and mask & msr.MTRR_VALID
    assert msr.MSRS[msr.MTRR_DEF_TYPE].reset == 0xC06


def test_memory_type_ranges_take_memory_types_that_exist_below_the_highest_address() -> None:
    base, mask = msr.MSRS[msr.MTRR_BASE0 + 6], msr.MSRS[msr.MTRR_MASK0 + 6]
    assert base.checked(0, 0xFF_FFFF_F001) == 0xFF_FFFF_F001 and mask.checked(0, 0xFF_FFFF_F800) == 0xFF_FFFF_F800
    for bad in (0x2, 0x7, 0x100, 1 << 40):
        assert base.checked(0, bad) is None
    assert mask.checked(0, 0x801) is None
    fixed = msr.MSRS[msr.MTRR_FIX4K[0]]
    assert fixed.checked(0, 0x0605_0401_0006_0606) == 0x0605_0401_0006_0606
    assert fixed.checked(0, 0x07 << 56) is None
    default = msr.MSRS[msr.MTRR_DEF_TYPE]
    assert default.checked(0xC06, 0) == 0 and default.checked(0, 0x1006) is None and default.checked(0, 0xC02) is None


def test_apic_base_keeps_its_bsp_bit() -> None:
    base = msr.MSRS[msr.APIC_BASE]
    assert base.reset == 0xFEE0_0900
    assert base.checked(base.reset, 0xFEC0_0800) == 0xFEC0_0900
    assert base.checked(base.reset, base.reset | 1 << 9) is None
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
