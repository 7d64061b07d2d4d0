"""Address kinds and sizes.

Three kinds of address meet in a hypervisor, and mixing them up is its classic bug. A guest's are plain integers, as
registers are, and their names say which: ``gva`` is guest-virtual, what an instruction uses (after segmentation; the
manual says *linear*), ``gpa`` guest-physical, what page tables produce and devices see.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NewType

from hypervisor.errors import ConfigError

Hpa = NewType("Hpa", int)
"""Host-physical address: a byte of the emulated host's memory. A type of its own for the type checker, so that no
guest's address passes for one.
"""

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30

PAGE_SHIFT = 12
PAGE_SIZE = 1 << PAGE_SHIFT
PAGE_MASK = PAGE_SIZE - 1

NS_PER_S = 1_000_000_000
FOREVER_NS = 1 << 62
"""A virtual time that does not come."""


def nanoseconds(seconds: float) -> int:
    """``seconds`` as the nearest nanoseconds, since few numbers of them are a float exactly; times beyond `FOREVER_NS`,
    infinity included, are that.
    """
    return round(min(seconds * NS_PER_S, FOREVER_NS))


_SUFFIX = {"": 1, "K": KIB, "M": MIB, "G": GIB}


def parse_size(text: str | int) -> int:
    """Bytes from ``"64M"``, ``"1G"``, ``"512K"`` (binary suffixes, as QEMU's ``-m`` takes them) or a number.

    Raises `ConfigError` when the text is not a positive size, or has no unit: QEMU takes that for MiB.
    """
    if isinstance(text, int):
        size = text
    elif not isinstance(text, str):
        raise ConfigError(f"{text!r} is not a size; give bytes as a whole number, or text such as '64M'.")
    else:
        match = re.fullmatch(r"([0-9]{1,20})\s*([KMG]?)(I?B)?", text.strip().upper())
        if match is None:
            raise ConfigError(f"{text!r} is not a size; write a number with K, M or G, for example 64M.")
        size = int(match[1]) * _SUFFIX[match[2]]
        if size and not match[2] and not match[3]:
            raise ConfigError(f"{text!r} is not a size: it has no unit. {match[1]}M are MiB, and a number is in bytes.")
    if size <= 0:
        raise ConfigError(f"{text!r} is not a size; it must be greater than zero.")
    return size


def by_pages(address: int, size: int, mask: int = (1 << 64) - 1) -> Iterator[tuple[int, int]]:
    """The parts of a range that lie in one page each: address and bytes. ``mask`` says where addresses wrap."""
    while size > 0:
        address &= mask
        length = min(size, PAGE_SIZE - (address & PAGE_MASK))
        yield address, length
        address += length
        size -= length


def page_up(size: int) -> int:
    """``size`` rounded up to whole pages, in bytes."""
    return (size + PAGE_MASK) & ~PAGE_MASK
