"""Where programs run: the paging and tables around them, and the segments, rings and widths that they begin with."""

from __future__ import annotations

from enum import Enum

from tests.differ import layout as at

_PROTECTED_CR4 = at.HARNESS_CR4 & ~0x20


class Place(Enum):
    """What is around a program: kind of mode, linear address of its pages, CR0, CR4, CR3."""

    LONG = (at.LONG_MODE, at.LIVE, at.HARNESS_CR0, at.HARNESS_CR4, at.TOP_TABLE)
    PAE = (at.PROTECTED_MODE, at.LIVE, at.HARNESS_CR0, at.HARNESS_CR4, at.PAE_TABLE)
    TWO_LEVEL = (at.PROTECTED_MODE, at.LIVE, at.HARNESS_CR0, _PROTECTED_CR4, at.DIRECTORY)
    UNPAGED = (at.PROTECTED_MODE, at.PHYSICAL, at.HARNESS_CR0 & ~(1 << 31), _PROTECTED_CR4, 0)
    REAL = (at.REAL_MODE, at.PHYSICAL, at.HARNESS_CR0 & ~(1 << 31 | 1), _PROTECTED_CR4, 0)

    def __init__(self, kind: int, live: int, cr0: int, cr4: int, cr3: int) -> None:
        self.kind, self.live, self.cr0, self.cr4, self.cr3 = kind, live, cr0, cr4, cr3
        self.long = kind == at.LONG_MODE
        self.real = kind == at.REAL_MODE
        self.paging = bool(cr0 >> 31)
        self.contained = self.name in ("LONG", "PAE")
        """A branch to data faults, because pages may be not executable."""

    @property
    def data(self) -> int:
        """Base of the data segments that are not flat."""
        return self.live if self.paging else at.UNPAGED_DATA

    @property
    def stack(self) -> int:
        """Base of the stack segments of 16 bits."""
        return self.live if self.paging else at.UNPAGED_STACK

    @property
    def clean(self) -> int:
        """Where the pages are that programs begin with."""
        return at.CLEAN + list(Place).index(self) * at.LIVE_SIZE


class Mode(Enum):
    """Place, code segment, stack segment, width of the code, other segments."""

    KERNEL64 = (Place.LONG, 0x08, 0x10, 64, (0x23, 0, 0x10, 0xE3))
    USER64 = (Place.LONG, 0x2B, 0x23, 64, (0x23, 0, 0xE3))
    COMPATIBLE_KERNEL32 = (Place.LONG, 0x30, 0x10, 32, (0x10, 0x23, 0x10, 0x100))
    COMPATIBLE_USER32 = (Place.LONG, 0x1B, 0x23, 32, (0x23, 0x23, 0x23, 0xE3))
    COMPATIBLE_USER16 = (Place.LONG, 0x3B, 0xE3, 16, (0xE3,))
    PAE_KERNEL32 = (Place.PAE, 0x30, 0x10, 32, (0x10, 0x23, 0x10, 0x100))
    PAE_USER32 = (Place.PAE, 0x1B, 0x23, 32, (0x23, 0x23, 0x23, 0xE3))
    PAE_KERNEL16 = (Place.PAE, 0x118, 0x120, 16, (0xE3, 0x100))
    PAE_USER16 = (Place.PAE, 0x3B, 0x12B, 16, (0xE3,))
    PAGED_KERNEL32 = (Place.TWO_LEVEL, 0x30, 0x10, 32, (0x10, 0x23, 0x10, 0x100))
    PAGED_USER32 = (Place.TWO_LEVEL, 0x1B, 0x23, 32, (0x23, 0x23, 0x23, 0xE3))
    PAGED_KERNEL16 = (Place.TWO_LEVEL, 0x118, 0x120, 16, (0xE3, 0x100))
    PAGED_USER16 = (Place.TWO_LEVEL, 0x3B, 0x12B, 16, (0xE3,))
    UNPAGED_KERNEL32 = (Place.UNPAGED, 0x30, 0x120, 32, (0x100, 0x100, 0xE3, 0x10))
    UNPAGED_USER32 = (Place.UNPAGED, 0x1B, 0x12B, 32, (0xE3, 0xE3, 0x23))
    UNPAGED_KERNEL16 = (Place.UNPAGED, 0x118, 0x120, 16, (0x100, 0x100, 0xE3, 0x10))
    UNPAGED_USER16 = (Place.UNPAGED, 0x3B, 0x12B, 16, (0xE3, 0xE3, 0x23))
    REAL16 = (Place.REAL, at.PHYSICAL >> 4, at.UNPAGED_STACK >> 4, 16, (at.UNPAGED_DATA >> 4,) * 3 + (0, 0x7F1))

    def __init__(self, place: Place, cs: int, ss: int, bits: int, data: tuple[int, ...]) -> None:
        self.place, self.cs, self.ss, self.bits, self.data = place, cs, ss, bits, data
        self.user = not place.real and bool(cs & 3)
        self.near = bits == 16 or not place.paging
        """Addresses are of 16 bits, and segments have bases."""
        self.code_base = place.live if bits == 16 else 0

    def pointer(self, page: int, offset: int) -> int:
        """An address in a page of data, as programs use it."""
        if not self.place.paging:
            page %= 8
        linear = self.place.live + page * 4096 + offset
        return linear - self.place.data & 0xFFFF if self.near else linear

    def stack(self, offset: int) -> int:
        """An address in the page of the stack."""
        linear = self.place.live + at.DATA_3 * 4096 + offset
        return linear - self.place.stack if self.near else linear
