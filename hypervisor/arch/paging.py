"""Page-table formats of each paging mode, as data: APM volume 2, 5.2 (legacy) and 5.3 (long mode).

Bit names are those of the manual. Reserved masks are for a 40-bit physical address space and an AMD processor.
"""

from __future__ import annotations

from typing import NamedTuple

MAXPHYADDR = 40

P = 1 << 0
RW = 1 << 1
US = 1 << 2
PWT = 1 << 3
PCD = 1 << 4
A = 1 << 5
D = 1 << 6
PS = 1 << 7
PAT_4K = 1 << 7
G = 1 << 8
PAT_LARGE = 1 << 12
NX = 1 << 63

ADDRESS_32 = 0xFFFF_F000
ADDRESS_64 = 0xFF_FFFF_F000
CR3_32 = 0xFFFF_F000
CR3_PAE = 0xFFFF_FFE0
CR3_LONG = ADDRESS_64


class Level(NamedTuple):
    """One level of a table.

    ``shift`` and ``bits`` select the index in the linear address, ``size`` is an entry's size in bytes.
    ``reserved`` are the bits that must be zero when the entry points to a table (or, on the last level, to a 4 KiB
    page), ``reserved_large`` when its PS bit makes it a page of ``1 << shift`` bytes (None: it has no PS bit).
    NX is reserved too while EFER.NXE is clear, and is not repeated here.
    """

    name: str
    shift: int
    bits: int
    size: int
    reserved: int
    reserved_large: int | None


_HIGH = 0x000F_FF00_0000_0000  # bits 51:40
_PAE_HIGH = _HIGH | 0x7FF0_0000_0000_0000  # and 62:52

LEGACY_32 = (
    # With CR4.PSE: bits 20:13 of a large page are address bits 39:32, bit 21 is reserved, bit 12 is PAT.
    Level("PDE", 22, 10, 4, 0, 1 << 21),
    Level("PTE", 12, 10, 4, 0, None),
)
PAE = (
    # No R/W, U/S, A, NX: bits 2:1, 8:5 and 63:52 must be zero.
    Level("PDPE", 30, 2, 8, _HIGH | 0xFFF0_0000_0000_01E6, None),
    Level("PDE", 21, 9, 8, _PAE_HIGH, _PAE_HIGH | 0x1F_E000),
    Level("PTE", 12, 9, 8, _PAE_HIGH, None),
)
LONG_4LEVEL = (
    # Bit 8 of entries that point to the two upper tables must be zero on AMD (Intel ignores it).
    Level("PML4E", 39, 9, 8, _HIGH | PS | G, None),
    Level("PDPE", 30, 9, 8, _HIGH | G, _HIGH | 0x3FFF_E000),
    Level("PDE", 21, 9, 8, _HIGH, _HIGH | 0x1F_E000),
    Level("PTE", 12, 9, 8, _HIGH, None),
)
