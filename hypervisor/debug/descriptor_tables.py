"""Descriptors and gates in words (APM volume 2, 4.7 and 4.8)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypervisor.arch import table_entries
from hypervisor.errors import GuestFault

_SYSTEM_NAMES = {
    1: "an available 16-bit TSS", 2: "an LDT", 3: "a busy 16-bit TSS", 4: "a 16-bit call gate", 5: "a task gate",
    6: "a 16-bit interrupt gate", 7: "a 16-bit trap gate", 9: "an available TSS", 11: "a busy TSS", 12: "a call gate",
    14: "an interrupt gate", 15: "a trap gate",
}  # fmt: skip
TASK_GATE = 5
LEGACY_GATES = (TASK_GATE, 6, 7, 14, 15)
LONG_GATES = (14, 15)


class Descriptor(table_entries.Descriptor):
    """A segment descriptor whose text says what it is."""

    def __str__(self) -> str:
        if self.raw == 0:
            return "an empty entry (all zeros)"
        kind = self.type
        if not kind & 0x10:
            words = _SYSTEM_NAMES.get(kind, f"a system entry of the undefined type {kind:#x}")
        elif self.is_code:
            words = f"a {64 if self.is_64_bit else 32 if self.raw >> 54 & 1 else 16}-bit code segment"
        else:
            words = "a writable data segment" if kind & 2 else "a read-only data segment"
        return f"{words} of ring {self.dpl}" + ("" if self.present else " that is not present")


@dataclass(frozen=True)
class Gate(table_entries.TableEntry):
    """An IDT entry: 8 bytes, or 16 in long mode."""

    long_mode: bool

    @property
    def selector(self) -> int:
        """The handler's code segment, or the TSS of a task gate."""
        return self.raw >> 16 & 0xFFFF

    @property
    def offset(self) -> int:
        """The handler's address in its segment."""
        offset = self.raw & 0xFFFF
        if self.long_mode:
            return offset | self.raw >> 32 & 0xFFFF_FFFF_FFFF_0000
        return offset | self.raw >> 32 & 0xFFFF_0000 if self.type & 8 else offset

    @property
    def ist(self) -> int:
        """Which stack of the TSS's interrupt stack table it asks for, 0 for none."""
        return self.raw >> 32 & 7 if self.long_mode else 0

    @property
    def usable(self) -> bool:
        """Whether its type is one that the mode knows."""
        return self.type in (LONG_GATES if self.long_mode else LEGACY_GATES)

    @property
    def wide(self) -> int:
        """Bytes of each item that it pushes."""
        return 8 if self.long_mode else 4 if self.type & 8 else 2

    def __str__(self) -> str:
        if self.raw == 0:
            return "empty (all zeros)"
        if self.type & 0x10 or self.type not in _SYSTEM_NAMES:
            return f"no gate (its type is {self.type:#x})"
        return _SYSTEM_NAMES[self.type]


def table_of(vcpu: Any, selector: int) -> tuple[str, int, int]:
    """Name, base and limit of the table that a selector names; the limit is -1 where there is no LDT."""
    if not selector & 4:
        return "GDT", vcpu.gdtr.base, vcpu.gdtr.limit
    return "LDT", vcpu.ldtr.base, vcpu.ldtr.limit if vcpu.ldtr.selector & 0xFFFC else -1


def beyond(vcpu: Any, selector: int) -> str:
    """Why a selector has no descriptor, as a part of a sentence; empty if it has one."""
    name, _, limit = table_of(vcpu, selector)
    if (selector & 0xFFF8) + 7 <= limit:
        return ""
    if limit < 0:
        return "lies in the LDT, and none is loaded"
    entries = (limit + 1) // 8
    return f"lies beyond the {name}: its limit {limit:#x} has room for {count(entries, 'entry', 'entries')}"


def descriptor(vcpu: Any, selector: int) -> Descriptor | None:
    """What a selector names; None where its table ends before it, or cannot be read."""
    if not selector & 0xFFFC or beyond(vcpu, selector):
        return None
    try:
        return Descriptor(int.from_bytes(vcpu.read(table_of(vcpu, selector)[1] + (selector & 0xFFF8), 8), "little"))
    except GuestFault:
        return None


def count(number: int, one: str, many: str) -> str:
    """``1 entry``, ``3 entries``, ``no entry``."""
    return f"{number} {many}" if number > 1 else f"{number or 'no'} {one}"
