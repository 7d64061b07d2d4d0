"""Hand-computed page walks, one rule each, straight from the manual."""

from __future__ import annotations

import pytest

from .paging import Access, Fault, Ok, PteWrite, commit, translate
from .state import (
    AC,
    CR0_PE,
    CR0_PG,
    CR0_WP,
    CR4_PAE,
    CR4_PSE,
    CR4_SMAP,
    CR4_SMEP,
    EFER_LMA,
    EFER_LME,
    EFER_NXE,
    Memory,
    State,
)

R, W, X = Access.READ, Access.WRITE, Access.EXECUTE
NX = 1 << 63
ALL = 0x67  # P RW US A D


def long_state(cpl: int = 0, nxe: bool = True, wp: bool = True, **more: int) -> State:
    efer = EFER_LME | EFER_LMA | (EFER_NXE if nxe else 0)
    cr0 = CR0_PE | CR0_PG | (CR0_WP if wp else 0)
    return State(
        cpl=cpl, cr0=cr0, cr3=0x1000, cr4=CR4_PAE | more.get("cr4", 0), efer=efer, rflags=more.get("rflags", 2)
    )


def legacy_state(cpl: int = 0, cr4: int = 0, wp: bool = True, rflags: int = 2, efer: int = 0) -> State:
    return State(cpl=cpl, cr0=CR0_PE | CR0_PG | (CR0_WP if wp else 0), cr3=0x1000, cr4=cr4, efer=efer, rflags=rflags)


def put(memory: Memory, gpa: int, value: int, size: int = 8) -> None:
    memory.write(gpa, value.to_bytes(size, "little"))


def get(memory: Memory, gpa: int, size: int = 8) -> int:
    return int.from_bytes(memory.read(gpa, size), "little")


def long_memory(pml4e: int = ALL, pdpe: int = ALL, pde: int = ALL, pte: int = ALL) -> Memory:
    """Linear 0x0000_0080_4060_3xxx (indices 1, 1, 3, 3) through tables at 1000, 2000, 3000, 4000 to page 5000."""
    memory = Memory(0x8000)
    put(memory, 0x1008, 0x2000 | pml4e)
    put(memory, 0x2008, 0x3000 | pdpe)
    put(memory, 0x3018, 0x4000 | pde)
    put(memory, 0x4018, 0x5000 | pte)
    return memory


VA = 1 << 39 | 1 << 30 | 3 << 21 | 3 << 12 | 0x123


def error(result: Ok | Fault) -> int:
    assert isinstance(result, Fault) and result.vector == 14
    return result.error


def test_paging_off_is_the_address_modulo_4_gib() -> None:
    assert translate(Memory(0), State(), 0x1_2345_6789, W) == Ok(0x2345_6789, 4096, True, True, True, ())


def test_four_levels_to_a_4k_page() -> None:
    assert translate(long_memory(), long_state(), VA, R) == Ok(0x5123, 4096, True, True, True, ())


def test_accessed_on_every_level_dirty_on_the_last() -> None:
    memory = long_memory(7, 7, 7, 7)
    result = translate(memory, long_state(), VA, R)
    assert isinstance(result, Ok)
    assert result.writes == (
        PteWrite(0x1008, 8, 0x2027),
        PteWrite(0x2008, 8, 0x3027),
        PteWrite(0x3018, 8, 0x4027),
        PteWrite(0x4018, 8, 0x5027),
    )
    assert get(memory, 0x1008) == 0x2007  # the walk itself writes nothing
    written = translate(memory, long_state(), VA, W)
    assert isinstance(written, Ok)
    commit(memory, written)
    assert [get(memory, at) for at in (0x1008, 0x2008, 0x3018, 0x4018)] == [0x2027, 0x3027, 0x4027, 0x5067]
    again = translate(memory, long_state(), VA, W)
    assert isinstance(again, Ok) and again.writes == ()


def test_a_refused_access_sets_no_bit() -> None:
    assert translate(long_memory(7, 7, 7, 5), long_state(), VA, W) == Fault(14, 0x3, VA)


def test_large_pages() -> None:
    two_mib = long_memory(pde=ALL | 0x80)
    put(two_mib, 0x3018, 0x12_3460_0000 | ALL | 0x80 | 1 << 12)  # PAT at bit 12 is no reserved bit
    assert translate(two_mib, long_state(), VA, R) == Ok(0x12_3460_3123, 1 << 21, True, True, True, ())
    one_gib = long_memory()
    put(one_gib, 0x2008, 0x40_4000_0000 | ALL | 0x80 | 1 << 12)
    assert translate(one_gib, long_state(), VA, R) == Ok(0x40_4060_3123, 1 << 30, True, True, True, ())


@pytest.mark.parametrize(
    ("level", "bit"),
    [
        (0, 7), (0, 8), (0, 40), (0, 51), (1, 8), (1, 40), (2, 45), (3, 51),
        (0, 63), (1, 63), (2, 63), (3, 63),
    ],
)  # fmt: skip
def test_reserved_bits_in_long_mode(level: int, bit: int) -> None:
    entries = [ALL] * 4
    entries[level] |= 1 << bit
    state = long_state(nxe=False)
    assert error(translate(long_memory(*entries), state, VA, R)) == 0x9
    assert error(translate(long_memory(*entries), state, VA, W)) == 0xB


@pytest.mark.parametrize(
    ("level", "bit"), [(0, 52), (0, 62), (1, 58), (2, 8), (2, 52), (3, 7), (3, 8), (3, 52), (0, 9), (0, 6)]
)
def test_ignored_bits_in_long_mode(level: int, bit: int) -> None:
    entries = [ALL] * 4
    entries[level] |= 1 << bit
    assert isinstance(translate(long_memory(*entries), long_state(), VA, R), Ok)


@pytest.mark.parametrize(("at", "bits"), [(0x2008, (13, 29)), (0x3018, (13, 20))])
def test_reserved_address_bits_of_large_pages(at: int, bits: tuple[int, int]) -> None:
    for bit in bits:
        memory = long_memory()
        put(memory, at, ALL | 0x80 | 1 << bit)
        assert error(translate(memory, long_state(), VA, R)) == 0x9
        put(memory, at, ALL | 0x80)
        assert isinstance(translate(memory, long_state(), VA, R), Ok)


def test_a_reserved_bit_beats_an_absent_lower_level_and_absent_beats_reserved() -> None:
    assert error(translate(long_memory(pdpe=ALL | 1 << 40, pte=0), long_state(), VA, R)) == 0x9
    assert error(translate(long_memory(pdpe=(ALL | 1 << 40) & ~1), long_state(), VA, R)) == 0x0


@pytest.mark.parametrize("level", range(4))
def test_not_present_at_each_level(level: int) -> None:
    entries = [ALL] * 4
    entries[level] = ALL & ~1
    memory = long_memory(*entries)
    assert error(translate(memory, long_state(0), VA, R)) == 0x00
    assert error(translate(memory, long_state(0), VA, W)) == 0x02
    assert error(translate(memory, long_state(3), VA, W)) == 0x06
    assert error(translate(memory, long_state(3), VA, X)) == 0x14
    assert error(translate(memory, long_state(3, nxe=False), VA, X)) == 0x04
    assert error(translate(memory, long_state(3, nxe=False, cr4=CR4_SMEP), VA, X)) == 0x14


@pytest.mark.parametrize("level", range(4))
def test_one_level_restricts(level: int) -> None:
    read_only, supervisor, no_execute = ([ALL] * 4 for _ in range(3))
    read_only[level] &= ~2
    supervisor[level] &= ~4
    no_execute[level] |= NX
    assert error(translate(long_memory(*read_only), long_state(3), VA, W)) == 0x7
    assert error(translate(long_memory(*read_only), long_state(0), VA, W)) == 0x3
    assert isinstance(translate(long_memory(*read_only), long_state(0, wp=False), VA, W), Ok)
    assert error(translate(long_memory(*read_only), long_state(3, wp=False), VA, W)) == 0x7
    assert error(translate(long_memory(*supervisor), long_state(3), VA, R)) == 0x5
    assert error(translate(long_memory(*supervisor), long_state(3), VA, X)) == 0x15
    assert isinstance(translate(long_memory(*supervisor), long_state(3), VA, R, implicit=True), Ok)
    assert error(translate(long_memory(*no_execute), long_state(3), VA, X)) == 0x15
    assert error(translate(long_memory(*no_execute), long_state(0), VA, X)) == 0x11
    assert isinstance(translate(long_memory(*no_execute), long_state(0), VA, W), Ok)


def test_write_protection_off_still_sets_dirty() -> None:
    result = translate(long_memory(pte=0x5), long_state(0, wp=False), VA, W)
    assert isinstance(result, Ok) and result.writes == (PteWrite(0x4018, 8, 0x5065),) and not result.writable


def test_smep() -> None:
    state = long_state(0, nxe=False, cr4=CR4_SMEP)
    assert error(translate(long_memory(), state, VA, X)) == 0x11
    assert isinstance(translate(long_memory(pde=ALL & ~4), state, VA, X), Ok)
    assert isinstance(translate(long_memory(), long_state(3, cr4=CR4_SMEP), VA, X), Ok)


def test_smap() -> None:
    plain, with_ac = (long_state(0, cr4=CR4_SMAP, rflags=flags) for flags in (2, 2 | AC))
    assert error(translate(long_memory(), plain, VA, R)) == 0x1
    assert error(translate(long_memory(), plain, VA, W)) == 0x3
    assert isinstance(translate(long_memory(), plain, VA, X), Ok)
    assert isinstance(translate(long_memory(pml4e=ALL & ~4), plain, VA, W), Ok)
    assert isinstance(translate(long_memory(), with_ac, VA, W), Ok)
    assert error(translate(long_memory(), with_ac, VA, R, implicit=True)) == 0x1
    at_3 = long_state(3, cr4=CR4_SMAP, rflags=2 | AC)
    assert isinstance(translate(long_memory(), at_3, VA, W), Ok)
    assert error(translate(long_memory(), at_3, VA, R, implicit=True)) == 0x1


@pytest.mark.parametrize("va", [0x0000_8000_0000_0000, 0xFFFF_7FFF_FFFF_FFFF, 1 << 63])
def test_non_canonical(va: int) -> None:
    assert translate(long_memory(), long_state(3), va, W) == Fault(13, 0)
    assert translate(long_memory(), long_state(3), va, W, stack=True) == Fault(12, 0)


def test_recursive_entry_gets_both_bits_once() -> None:
    memory = Memory(0x2000)
    put(memory, 0x1000 + 511 * 8, 0x1003)  # every level is this one entry
    result = translate(memory, long_state(), 0xFFFF_FFFF_FFFF_F000, W)
    assert isinstance(result, Ok) and result.gpa == 0x1000
    assert result.writes == (PteWrite(0x1FF8, 8, 0x1063),)


def test_tables_outside_memory_read_as_ones() -> None:
    memory = long_memory()
    put(memory, 0x2008, 0x70_0000_0000 | ALL)
    assert error(translate(memory, long_state(), VA, R)) == 0x9


def two_level(pde: int, pte: int) -> Memory:
    memory = Memory(0x4000)
    put(memory, 0x1004, pde, 4)
    put(memory, 0x200C, pte, 4)
    return memory


VA32 = 1 << 22 | 3 << 12 | 0x456


def test_two_levels() -> None:
    assert translate(two_level(0x2067, 0xABCD_E067), legacy_state(), VA32, W) == Ok(
        0xABCD_E456, 4096, True, True, True, ()
    )
    assert translate(two_level(0x2007, 0x3007), legacy_state(), 0xF_0000_0000 | VA32, W) == Ok(
        0x3456, 4096, True, True, True, (PteWrite(0x1004, 4, 0x2027), PteWrite(0x200C, 4, 0x3067))
    )
    assert translate(two_level(0x2067, 0x66), legacy_state(), 0xF_0000_0000 | VA32, W) == Fault(14, 2, VA32)


def test_two_levels_combine_and_never_report_fetches_without_smep() -> None:
    state = legacy_state(3, efer=EFER_NXE)
    assert error(translate(two_level(0x2063, 0x3067), state, VA32, X)) == 0x5
    assert error(translate(two_level(0x2067, 0x3065), state, VA32, W)) == 0x7
    smep = legacy_state(0, cr4=CR4_SMEP)
    assert error(translate(two_level(0x2067, 0x3067), smep, VA32, X)) == 0x11


def test_pse_off_ignores_ps() -> None:
    assert translate(two_level(0x20E7, 0x3067), legacy_state(), VA32, R) == Ok(0x3456, 4096, True, True, True, ())


def test_pse_36_reaches_40_bits() -> None:
    pde = 0x5540_0000 | 0xAB << 13 | 1 << 12 | 0xE7
    expected = Ok(0xAB_5540_3456, 1 << 22, True, True, True, ())
    assert translate(two_level(pde, 0), legacy_state(cr4=CR4_PSE), VA32, W) == expected
    assert error(translate(two_level(pde | 1 << 21, 0), legacy_state(cr4=CR4_PSE), VA32, W)) == 0xB
    clean = translate(two_level(0x87, 0), legacy_state(cr4=CR4_PSE), VA32, W)
    assert isinstance(clean, Ok) and clean.writes == (PteWrite(0x1004, 4, 0xE7),)


def pae(pdpte: int = 0x2001, pde: int = 0x3067, pte: int = 0x4067) -> Memory:
    """CR3 = 0x1020 is 32-byte aligned; linear 0xC060_3789 has indices 3, 3, 3."""
    memory = Memory(0x6000)
    put(memory, 0x1020 + 24, pdpte)
    put(memory, 0x2018, pde)
    put(memory, 0x3018, pte)
    return memory


def pae_state(cpl: int = 0, nxe: bool = True) -> State:
    state = legacy_state(cpl, CR4_PAE, efer=EFER_NXE if nxe else 0)
    state.cr3 = 0x1020
    return state


VAP = 0xC060_3789


def test_pae_walk_ignores_the_pdpte_for_permissions() -> None:
    memory = pae(pde=0x3007, pte=0x4007)
    result = translate(memory, pae_state(3), VAP, W)
    assert result == Ok(0x4789, 4096, True, True, True, (PteWrite(0x2018, 8, 0x3027), PteWrite(0x3018, 8, 0x4067)))


def test_pae_large_page_and_high_addresses() -> None:
    result = translate(pae(pde=0xFF_0020_10E7), pae_state(), VAP, W)
    assert result == Ok(0xFF_0020_3789, 1 << 21, True, True, True, ())


@pytest.mark.parametrize("bit", [1, 2, 5, 6, 7, 8, 40, 51, 52, 62, 63])
def test_pae_pdpte_reserved(bit: int) -> None:
    assert error(translate(pae(pdpte=0x2001 | 1 << bit), pae_state(), VAP, R)) == 0x9


@pytest.mark.parametrize("bit", [3, 4, 9, 10, 11])
def test_pae_pdpte_allowed(bit: int) -> None:
    assert isinstance(translate(pae(pdpte=0x2001 | 1 << bit), pae_state(), VAP, R), Ok)


@pytest.mark.parametrize("bit", [40, 51, 52, 62])
def test_pae_entries_reserved(bit: int) -> None:
    assert error(translate(pae(pde=0x3067 | 1 << bit), pae_state(), VAP, R)) == 0x9
    assert error(translate(pae(pte=0x4067 | 1 << bit), pae_state(), VAP, R)) == 0x9


def test_pae_no_execute() -> None:
    assert error(translate(pae(pte=0x4067 | NX), pae_state(), VAP, X)) == 0x11
    assert error(translate(pae(pte=0x4067 | NX), pae_state(3), VAP, X)) == 0x15
    assert error(translate(pae(pte=0x4067 | NX), pae_state(nxe=False), VAP, R)) == 0x9
    assert error(translate(pae(pte=0x4067 | NX), pae_state(nxe=False), VAP, X)) == 0x9
    assert isinstance(translate(pae(pte=0x4067 | NX), pae_state(), VAP, R), Ok)
