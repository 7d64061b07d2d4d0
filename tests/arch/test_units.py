"""Sizes as users write them, and ranges page by page."""

from __future__ import annotations

import random

import pytest

from hypervisor.errors import ConfigError
from hypervisor.units import FOREVER_NS, by_pages, nanoseconds, page_up, parse_size


@pytest.mark.parametrize(
    ("text", "size"), [("64M", 64 << 20), ("1g", 1 << 30), ("512 KiB", 512 << 10), ("4096B", 4096), (7, 7)]
)
def test_sizes(text: str | int, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "M", "-1", "1.5G", "0", "64", "4096", 0, -4096, None])
def test_what_is_no_size(text: object) -> None:
    with pytest.raises(ConfigError, match="is not a size"):
        parse_size(text)  # type: ignore[arg-type]  # what users give is not checked before


def test_whole_pages() -> None:
    assert [page_up(size) for size in (0, 1, 4096, 4097)] == [0, 4096, 4096, 8192]


def test_nanoseconds_come_back_from_seconds() -> None:
    rng = random.Random(0)
    some = [*range(1000), *(rng.randrange(1 << rng.randrange(1, 51)) for _ in range(10_000))]  # 13 days
    assert [nanoseconds(ns / 1e9) for ns in some] == some
    assert [nanoseconds(s) for s in (0.7e-9, 1e300, float("inf"))] == [1, FOREVER_NS, FOREVER_NS]


@pytest.mark.parametrize(
    ("address", "size", "mask", "parts"),
    [
        (0x1000, 0, 0xFFFFFFFF, []),
        (0x1FFF, 1, 0xFFFFFFFF, [(0x1FFF, 1)]),
        (0x1FFF, 0x1002, 0xFFFFFFFF, [(0x1FFF, 1), (0x2000, 0x1000), (0x3000, 1)]),
        (0xFFFFFFFE, 4, 0xFFFFFFFF, [(0xFFFFFFFE, 2), (0, 2)]),
        (0xFFFFFFFE, 4, (1 << 64) - 1, [(0xFFFFFFFE, 2), (0x100000000, 2)]),
    ],
)
def test_a_range_page_by_page(address: int, size: int, mask: int, parts: list[tuple[int, int]]) -> None:
    assert list(by_pages(address, size, mask)) == parts
