from __future__ import annotations

import pytest

from hypervisor.errors import ImageError
from hypervisor.loaders.memory_map import Placement, default_memory_map, lower_kib, upper_kib
from hypervisor.units import GIB, MIB


def usable(size: int) -> int:
    return sum(length for _, length, kind in default_memory_map(size) if kind == 1)


@pytest.mark.parametrize(("size", "lower", "upper"), [(64 << 10, 64, 0), (MIB, 639, 0), (64 * MIB, 639, 63 << 10)])
def test_the_default_map(size: int, lower: int, upper: int) -> None:
    ranges = default_memory_map(size)
    assert (lower_kib(ranges), upper_kib(ranges)) == (lower, upper)


def test_memory_above_3_gib_continues_at_4_gib() -> None:
    ranges = [entry for entry in default_memory_map(5 * GIB) if entry[2] == 1]
    assert ranges[-2:] == [(MIB, 3 * GIB - MIB, 1), (4 * GIB, 2 * GIB, 1)]
    assert usable(5 * GIB) == 5 * GIB - (MIB - 0x9FC00)


@pytest.mark.parametrize("size", [MIB, 64 * MIB, 5 * GIB])
def test_the_firmware_below_4_gib_is_reserved(size: int) -> None:
    """ACPI 6.4, section 15.2. A kernel that maps what the map reaches to has the APICs mapped by that."""
    ranges = default_memory_map(size)
    assert [base + length for base, length, kind in ranges if kind == 2 and base >= MIB] == [4 * GIB]
    assert ranges == sorted(ranges)


def test_claims_may_touch_but_not_overlap() -> None:
    placement = Placement("k", default_memory_map(4 * MIB))
    placement.claim(MIB, 4096, "a")
    placement.claim(MIB + 4096, 4096, "b")
    with pytest.raises(ImageError, match="k: c at 0x101fff-0x101fff overlaps b at 0x101000-0x101fff"):
        placement.claim(MIB + 8191, 1, "c")


def test_adjacent_ranges_are_one() -> None:
    Placement("k", [(0, 4096, 1), (4096, 4096, 1)]).claim(4000, 200, "x")


def test_find_takes_the_lowest_gap_and_find_high_the_highest() -> None:
    placement = Placement("k", default_memory_map(4 * MIB))
    placement.claim(2 * MIB, 4096, "hole")
    assert placement.find(MIB, "a", low=MIB + 1) == 2 * MIB + 4096
    assert placement.find(4096, "b") == 4096
    assert placement.find_high(4096, "c") == 4 * MIB - 4096
    assert placement.find_high(4096, "d") == 4 * MIB - 8192
    with pytest.raises(ImageError, match="no room for e"):
        placement.find(2 * MIB, "e")


def test_page_0_is_never_handed_out() -> None:
    placement = Placement("k", [(0, 8192, 1)])
    assert placement.find(4096, "a", low=0) == 4096
    with pytest.raises(ImageError):
        placement.find(1, "b", low=0)
