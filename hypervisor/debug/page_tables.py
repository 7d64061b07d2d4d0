"""All that a guest's page tables map, in ranges: what `hypervisor.debug.walk` says of one address, for every one.

APM volume 2, chapter 5. This reads guest memory only, and changes nothing.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from hypervisor.arch import flags
from hypervisor.arch import paging as p
from hypervisor.debug.walk import read_physical, reserved_bits
from hypervisor.vcpu.mapped_ranges import MappedRange, PageTables

MOST_RANGES, MOST_TABLES = 4096, 4096
"""Ranges that are told, and tables that are read: a table that points to itself is read again and again."""


class _Rights(NamedTuple):
    writable: bool
    user: bool
    executable: bool


class _Spent(Exception):
    """There is more than is told."""


def page_tables(vcpu: Any) -> PageTables:
    """What the page tables of a vCPU map now."""
    if not vcpu.cr0 & flags.CR0_PG:
        return PageTables("paging is off: linear addresses are physical", ())
    levels: Sequence[p.Level]
    if vcpu.efer & flags.EFER_LMA:
        mode, levels, root = "4-level paging", p.LONG_4LEVEL, vcpu.cr3 & p.CR3_LONG
    elif vcpu.cr4 & flags.CR4_PAE:
        mode, levels, root = "PAE paging", p.PAE, vcpu.cr3 & p.CR3_PAE
    else:
        mode, levels, root = "32-bit paging", p.LEGACY_32, vcpu.cr3 & p.CR3_32
    reader, found, complete = _Reader(vcpu, levels), list[MappedRange](), True
    try:
        for one in reader.pages(0, root, 0, _Rights(True, True, True)):
            if found and (longer := _together(found[-1], one)) is not None:
                found[-1] = longer
            elif len(found) == MOST_RANGES:
                raise _Spent
            else:
                found.append(one)
    except _Spent:
        complete = False
    return PageTables(f"{mode}, CR3 {vcpu.cr3:#x}", tuple(found), complete)


class _Reader:
    """The tables of one vCPU, level by level."""

    def __init__(self, vcpu: Any, levels: Sequence[p.Level]) -> None:
        self._vcpu, self._levels, self._read = vcpu, levels, 0
        self._legacy, self._pae = levels is p.LEGACY_32, levels is p.PAE
        self._nxe = bool(vcpu.efer & flags.EFER_NXE) and not self._legacy
        self._large_pages = not self._legacy or bool(vcpu.cr4 & flags.CR4_PSE)

    def pages(self, depth: int, at: int, gva: int, rights: _Rights) -> Iterator[MappedRange]:
        """The pages below the table at a guest-physical address, which begins at a linear one."""
        self._read += 1
        if self._read > MOST_TABLES:
            raise _Spent
        level = self._levels[depth]
        count = 1 << level.bits
        content = read_physical(self._vcpu, at, count * level.size)
        for index, entry in enumerate(struct.unpack(f"<{count}{'I' if level.size == 4 else 'Q'}", content)):
            large = level.reserved_large is not None and bool(entry & p.PS) and self._large_pages
            if not entry & p.P or reserved_bits(level, entry, large, self._nxe):
                continue
            place = gva + (index << level.shift)
            if depth == 0 and level.shift == 39 and index >= 256:  # canonical: bits 63:48 are as bit 47
                place |= 0xFFFF << 48
            allowed = rights if self._pae and depth == 0 else self._narrowed(rights, entry)
            if large or level.shift == 12:
                yield MappedRange(place, 1 << level.shift, self._leads_to(level.shift, entry), *allowed)
            else:
                yield from self.pages(depth + 1, entry & self._addresses, place, allowed)

    @property
    def _addresses(self) -> int:
        return p.ADDRESS_32 if self._legacy else p.ADDRESS_64

    def _narrowed(self, rights: _Rights, entry: int) -> _Rights:
        executable = rights.executable and not (self._nxe and entry & p.NX)
        return _Rights(rights.writable and bool(entry & p.RW), rights.user and bool(entry & p.US), executable)

    def _leads_to(self, shift: int, entry: int) -> int:
        high = (entry >> 13 & 0xFF) << 32 if self._legacy and shift == 22 else 0
        return entry & self._addresses & -(1 << shift) | high


def _together(first: MappedRange, second: MappedRange) -> MappedRange | None:
    """Two ranges as one, if the one goes on where the other ends."""
    if (first.gva + first.size, first.gpa + first.size, first.rights) != (second.gva, second.gpa, second.rights):
        return None
    return MappedRange(first.gva, first.size + second.size, first.gpa, first.writable, first.user, first.executable)


__all__ = ["page_tables"]
