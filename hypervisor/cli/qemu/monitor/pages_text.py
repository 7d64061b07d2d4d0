"""``info tlb`` and ``info mem``: what the guest's page tables map, page by page and as ranges.

Sources: QEMU 7.2, ``target/i386/monitor.c``; the formats of `hypervisor.arch.paging`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from hypervisor.arch import flags, paging
from hypervisor.debug.walk import read_physical

MOST_TABLES, MOST_PAGES = 4096, 1 << 16
"""Tables that are read, and pages that are shown, at most: tables that contain themselves have no end."""
_G, _D, _A, _PCD, _PWT = 1 << 8, 1 << 6, 1 << 5, 1 << 4, 1 << 3
_NO_PAGING = "PG disabled"
_LETTERS = ((paging.NX, "X"), (_G, "G"), (paging.PS, "P"), (_D, "D"), (_A, "A"), (_PCD, "C"), (_PWT, "T"))


class Page(NamedTuple):
    """A page: where it is shown, its entry, and what all levels together allow (bits P, R/W and U/S)."""

    gva: int
    size: int
    entry: int
    allowed: int
    large: bool


class _Tables:
    """A walk through all tables of a vCPU."""

    def __init__(self, vcpu: Any) -> None:
        self._vcpu, self._left = vcpu, MOST_TABLES
        self.cut = False
        self._long = bool(vcpu.efer & flags.EFER_LMA)
        self._levels: Sequence[paging.Level]
        if self._long:
            self._levels, self._root = paging.LONG_4LEVEL, vcpu.cr3 & paging.CR3_LONG
        elif vcpu.cr4 & flags.CR4_PAE:
            self._levels, self._root = paging.PAE, vcpu.cr3 & paging.CR3_PAE
        else:
            self._levels, self._root = paging.LEGACY_32, vcpu.cr3 & paging.CR3_32

    def pages(self) -> Iterator[Page]:
        return self._below(0, self._root, 0, paging.P | paging.RW | paging.US)

    def _below(self, depth: int, table: int, base: int, allowed: int) -> Iterator[Page]:
        if not self._left:
            self.cut = True
            return
        self._left -= 1
        level = self._levels[depth]
        data = read_physical(self._vcpu, table, level.size << level.bits)
        for index in range(1 << level.bits):
            entry = int.from_bytes(data[index * level.size : (index + 1) * level.size], "little")
            if not entry & paging.P:
                continue
            gva = base | index << level.shift
            if self._long and depth == 0 and index >= 1 << level.bits - 1:
                gva |= 0xFFFF << 48
            pdpte = level.name == "PDPE" and not self._long  # which allows everything
            here = allowed if pdpte else allowed & entry
            large = level.shift > 12 and bool(entry & paging.PS) and level.reserved_large is not None and self._may
            if large or level.shift == 12:
                yield Page(gva, 1 << level.shift, entry, here, large)
            else:
                mask = paging.ADDRESS_32 if level.size == 4 else paging.ADDRESS_64
                yield from self._below(depth + 1, entry & mask, gva, here)

    @property
    def _may(self) -> bool:
        """Whether pages may be large: in 32-bit paging CR4.PSE says so."""
        return self._levels is not paging.LEGACY_32 or bool(self._vcpu.cr4 & flags.CR4_PSE)


def tlb(vcpu: Any) -> str:
    """All pages, with their physical addresses and the bits of their entries."""
    if not vcpu.cr0 & flags.CR0_PG:
        return _NO_PAGING
    tables, lines = _Tables(vcpu), list[str]()
    for page in tables.pages():
        if len(lines) >= MOST_PAGES:
            tables.cut = True
            break
        entry = page.entry
        letters = "".join(
            letter if entry & bit and (bit != paging.PS or page.large) else "-" for bit, letter in _LETTERS
        )
        letters += ("U" if entry & paging.US else "-") + ("W" if entry & paging.RW else "-")
        address = entry & 0x000F_FFFF_FFFF_F000 & -page.size
        lines.append(f"{page.gva:016x}: {address:016x} {letters}")
    return "\n".join([*lines, "... and more"] if tables.cut else lines)


def mem(vcpu: Any) -> str:
    """Ranges that are mapped with the same rights."""
    if not vcpu.cr0 & flags.CR0_PG:
        return _NO_PAGING
    tables = _Tables(vcpu)
    lines, start, end, rights = list[str](), 0, 0, 0
    pages = 0
    for page in tables.pages():
        pages += 1
        if pages > MOST_PAGES:
            tables.cut = True
            break
        if page.gva != end or page.allowed != rights:
            lines += _range(start, end, rights)
            start, rights = page.gva, page.allowed
        end = page.gva + page.size
    lines += _range(start, end, rights)
    return "\n".join([*lines, "... and more"] if tables.cut else lines)


def _range(start: int, end: int, rights: int) -> list[str]:
    if not rights:
        return []
    letters = ("u" if rights & paging.US else "-") + "r" + ("w" if rights & paging.RW else "-")
    return [f"{start:016x}-{end:016x} {end - start:016x} {letters}"]
