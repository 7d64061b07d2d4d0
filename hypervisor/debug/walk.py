"""Why an address is or is not reachable: the page walk as the processor makes it, written down entry by entry.

APM volume 2, chapter 5: every paging mode of a PC, from tables described in `hypervisor.arch.paging`. This reads guest
memory only, and changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hypervisor.arch import flags
from hypervisor.arch import paging as p
from hypervisor.arch.vectors import GP, PF, PF_FETCH, PF_PRESENT, PF_RESERVED, PF_USER, PF_WRITE, title
from hypervisor.errors import ConfigError
from hypervisor.markup import table

ACCESSES = {"read": "from", "write": "to", "fetch": "from"}
"""Kinds of access, each with the preposition of its sentence."""

_COLUMNS = ("entry", "at", "value", "meaning")
_MASK64 = (1 << 64) - 1
_TABLES = {"PML4E": "PML4", "PDPE": "PDPT", "PDE": "PD", "PTE": "PT"}
_SIZES = {12: "4 KiB", 21: "2 MiB", 22: "4 MiB", 30: "1 GiB"}


@dataclass(frozen=True)
class Entry:
    """One page-table entry that a walk read: where it is, what it holds, and what it says in words."""

    table: str
    index: int
    gpa: int
    value: int
    says: str

    def __str__(self) -> str:
        return f"{self.table}[{self.index}] {self.says}"


@dataclass(frozen=True)
class Walk:
    """A page walk. ``gpa`` is where it leads, or None with the exception's ``vector`` and ``error`` code.

    ``reason`` is the last word: the entry that refused the access, or what the page allows. The text of a walk is
    ``write by ring 0 to 0x1a70: PML4[0] present, PDPT[0] not present``.
    """

    gva: int
    access: str
    who: str
    mode: str
    entries: tuple[Entry, ...]
    reason: str
    gpa: int | None = None
    page_size: int = 4096
    vector: int | None = None
    error: int = 0

    def _repr_html_(self) -> str:
        rows = [(f"{e.table}[{e.index}]", f"{e.gpa:#x}", f"{e.value:#018x}", e.says) for e in self.entries]
        end = "" if self.gpa is None else f"{self.gpa:#x}"
        rows.append(
            ("", end, "" if self.vector is None else f"{title(self.vector)}, error {self.error:#x}", self.reason)
        )
        return table(f"{self.access} by {self.who} {ACCESSES[self.access]} {self.gva:#x}", _COLUMNS, rows)

    def __str__(self) -> str:
        steps = ", ".join(part for part in (*map(str, self.entries), self.reason) if part)
        return f"{self.access} by {self.who} {ACCESSES[self.access]} {self.gva:#x}: {steps}"


def explain(vcpu: Any, gva: int, access: str = "read", user: bool = False) -> Walk:
    """The walk of an access by the guest to linear address ``gva``, with the vCPU's registers and tables as they are.

    ``access`` is "read", "write" or "fetch"; ``user`` says that ring 3 makes it. ``str()`` of the answer is a sentence.
    Raises `ConfigError` for another access or something that is no address.
    """
    if access not in ACCESSES:
        raise ConfigError(f"explain(access={access!r}): choose 'read', 'write' or 'fetch'.")
    if not isinstance(gva, int) or not -(1 << 63) <= gva <= _MASK64:
        raise ConfigError(f"explain({gva!r}): a linear address of at most 64 bits is needed.")
    return walk(vcpu, gva, access, user)


def walk(vcpu: Any, gva: int, access: str, user: bool, implicit: bool = False) -> Walk:
    """As `explain`; ``implicit`` marks what the processor reads by itself: descriptor tables and the TSS."""
    who = "the processor" if implicit else "ring 3" if user else "ring 0"
    user = user and not implicit
    gva &= _MASK64
    if not vcpu.cr0 & flags.CR0_PG:
        gva &= 0xFFFF_FFFF
        return Walk(gva, access, who, "paging off", (), "paging is off, the address is physical", gpa=gva)
    levels: Sequence[p.Level]
    if vcpu.efer & flags.EFER_LMA:
        mode, levels, table = "4-level paging", p.LONG_4LEVEL, vcpu.cr3 & p.CR3_LONG
        if gva >> 47 not in (0, 0x1FFFF):
            return Walk(gva, access, who, mode, (), "not canonical (bits 63 to 47 differ)", vector=GP)
    else:
        gva &= 0xFFFF_FFFF
        if vcpu.cr4 & flags.CR4_PAE:
            mode, levels, table = "PAE paging", p.PAE, vcpu.cr3 & p.CR3_PAE
        else:
            mode, levels, table = "32-bit paging", p.LEGACY_32, vcpu.cr3 & p.CR3_32
    return _Walker(vcpu, gva, access, user, implicit, who, mode).run(levels, table)


class _Walker:
    """One walk under way."""

    def __init__(self, vcpu: Any, gva: int, access: str, user: bool, implicit: bool, who: str, mode: str) -> None:
        self._vcpu, self._gva, self._access, self._user, self._implicit = vcpu, gva, access, user, implicit
        self._who, self._mode = who, mode
        self._nxe = bool(vcpu.efer & flags.EFER_NXE) and mode != "32-bit paging"
        self._entries: list[Entry] = []
        self._checked: list[int] = []  # which of them take part in permissions: not a PAE PDPTE

    def run(self, levels: Sequence[p.Level], table: int) -> Walk:
        for level in levels:
            index = self._gva >> level.shift & (1 << level.bits) - 1
            gpa = table + index * level.size
            value = int.from_bytes(read_physical(self._vcpu, gpa, level.size), "little")
            large = self._large(level, value)
            bad = reserved_bits(level, value, large, self._nxe)
            says = "present"
            if not value & p.P:
                says = "not present"
            elif bad:
                says = f"has reserved bit {bad.bit_length() - 1} set"
            elif large:
                says = f"a {_SIZES[level.shift]} page"
            elif value & p.PS and level.reserved_large is not None:
                says = "present (its PS bit is ignored: CR4.PSE is clear)"
            self._entries.append(Entry(_TABLES[level.name], index, gpa, value, says))
            if not value & p.P:
                return self._refused(present=False)
            if bad:
                return self._refused(reserved=True)
            if not (level.name == "PDPE" and self._mode == "PAE paging"):
                self._checked.append(len(self._entries) - 1)
            if large or level.shift == 12:
                return self._leaf(level.shift, value)
            table = value & (p.ADDRESS_32 if level.size == 4 else p.ADDRESS_64)
        raise AssertionError("the last level is a page")

    def _large(self, level: p.Level, value: int) -> bool:
        pse = self._mode != "32-bit paging" or self._vcpu.cr4 & flags.CR4_PSE
        return bool(level.reserved_large is not None and value & p.PS and pse)

    def _leaf(self, shift: int, value: int) -> Walk:
        """The walk has found a page: may this access use it? APM volume 2, 5.6; SMEP and SMAP as in the SDM, 4.6.1."""
        vcpu, user = self._vcpu, self._user
        read_only = self._first(lambda entry: not entry & p.RW)
        supervisor = self._first(lambda entry: not entry & p.US)
        no_execute = self._first(lambda entry: self._nxe and bool(entry & p.NX))
        user_page = supervisor is None
        smap = vcpu.cr4 & flags.CR4_SMAP and (self._implicit or not vcpu.rflags & flags.RFLAGS_AC)
        if user and supervisor is not None:
            return self._refused(supervisor, "belongs to ring 0")
        if self._access == "fetch":
            if no_execute is not None:
                return self._refused(no_execute, "is no-execute (NX)")
            if not user and user_page and vcpu.cr4 & flags.CR4_SMEP:
                return self._refused(reason="a user page, which CR4.SMEP keeps ring 0 from executing")
        elif not user and user_page and smap:
            return self._refused(reason="a user page, which CR4.SMAP keeps ring 0 from touching")
        elif self._access == "write" and read_only is not None and (user or vcpu.cr0 & flags.CR0_WP):
            return self._refused(read_only, "is read-only")
        offset = (1 << shift) - 1
        if self._mode == "32-bit paging":
            base = value & p.ADDRESS_32 & ~offset | (value >> 13 & 0xFF) << 32 if shift == 22 else value & p.ADDRESS_32
        else:
            base = value & p.ADDRESS_64 & ~offset
        gpa = base | self._gva & offset
        allows = [
            "read-only" if read_only is not None else "writable",
            "user" if user_page else "ring 0 only",
            *(["no-execute"] if no_execute is not None else []),
        ]
        reason = f"leads to {gpa:#x} ({', '.join(allows)})"
        return self._result(reason, gpa=gpa, page_size=1 << shift)

    def _first(self, test: Any) -> int | None:
        return next((index for index in self._checked if test(self._entries[index].value)), None)

    def _refused(
        self, culprit: int | None = None, says: str = "", reason: str = "", present: bool = True, reserved: bool = False
    ) -> Walk:
        """A page fault (error code: APM volume 2, 8.4.2), with the entry that caused it marked."""
        if culprit is not None:
            old = self._entries[culprit]
            self._entries[culprit] = Entry(old.table, old.index, old.gpa, old.value, says)
        error = PF_PRESENT if present else 0
        error |= PF_WRITE if self._access == "write" else 0
        error |= PF_USER if self._user else 0
        error |= PF_RESERVED if reserved else 0
        if self._access == "fetch" and (self._nxe or self._vcpu.cr4 & flags.CR4_SMEP):
            error |= PF_FETCH
        return self._result(reason, vector=PF, error=error)

    def _result(self, reason: str, **fields: Any) -> Walk:
        return Walk(self._gva, self._access, self._who, self._mode, tuple(self._entries), reason, **fields)


def reserved_bits(level: p.Level, value: int, large: bool, nxe: bool) -> int:
    """The bits of an entry that are set and must not be."""
    mask = (level.reserved_large or 0) if large else level.reserved
    if level.size == 8 and not nxe:
        mask |= p.NX
    return value & mask


def read_physical(vcpu: Any, gpa: int, size: int) -> bytes:
    """Guest-physical memory as the processor's walk reads it: through the A20 gate, ones where there is none."""
    data: bytes = vcpu.vm.memory.read(gpa & vcpu.vm.tables.a20, size)
    return data
