"""The CPU states that boot protocols ask for: real mode, flat protected mode, and long mode with identity paging.

The GDT and the page tables that these states need are written to guest memory, in the loader's area
(`hypervisor.loaders.memory_map.LOADER_AREA`): GDT one page, identity page tables six pages, a stack of 16 KiB where the
protocol promises one.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import replace

from hypervisor.arch.flags import CR0_ET, CR0_PE, CR0_PG, CR4_PAE, EFER_LMA, EFER_LME, RFLAGS_FIXED, RFLAGS_IF
from hypervisor.arch.segments import BUSY_TSS, CODE16, CODE32, CODE64, DATA16, DATA32, LDT, Segment, Table
from hypervisor.loaders.entry import Entry, GuestMemory
from hypervisor.loaders.memory_map import Placement
from hypervisor.units import GIB, MIB, PAGE_SIZE

FLAT_LIMIT = 0xFFFFFFFF
STACK_SIZE = 16 << 10
IDENTITY_MAPPED = 4 * GIB
"""How much the loader's page tables map one to one, in bytes, from address 0, writable, supervisor, in 2 MiB pages."""

_SYSTEM = {"tr": Segment(0, 0, 0xFFFF, BUSY_TSS), "ldtr": Segment(0, 0, 0xFFFF, LDT)}


def real_mode(kind: str, start: int, regs: Mapping[str, int], *, stack: int = 0x7C00) -> Entry:
    """Real mode at linear address ``start`` (below 1 MiB): CS:IP has the smallest selector that is a multiple of 1000h.

    DS, ES, SS, FS and GS are 0, SP is ``stack``, interrupts are on, the IDT is the vector table at 0.
    """
    selector = (start >> 4) & 0xF000
    data = Segment(0, 0, 0xFFFF, DATA16)
    return Entry(
        mode=16,
        kind=kind,
        regs={"rsp": stack, **regs, "rip": start - (selector << 4), "rflags": RFLAGS_FIXED | RFLAGS_IF},
        segments={
            **dict.fromkeys(("ds", "es", "ss", "fs", "gs"), data),
            "cs": Segment(selector, selector << 4, 0xFFFF, CODE16),
            **_SYSTEM,
        },
        gdtr=Table(0, 0xFFFF),
        idtr=Table(0, 0x3FF),
        cr0=CR0_ET,
    )


def protected_mode(
    kind: str,
    start: int,
    regs: Mapping[str, int],
    memory: GuestMemory,
    placement: Placement,
    *,
    code_selector: int = 0x08,
    code: int = CODE32,
    symbols: Mapping[str, int] | None = None,
) -> Entry:
    """32-bit protected mode at ``start``: flat 4 GiB segments, paging and interrupts off, no IDT.

    ``code_selector`` is CS; the data segments have the next selector.
    """
    data_selector = code_selector + 8
    gdt = struct.pack("<Q", 0) * (code_selector // 8) + _descriptor(code) + _descriptor(DATA32)
    base = placement.loader_area(PAGE_SIZE, "the loader's GDT")
    memory.write(base, gdt)
    data = Segment(data_selector, 0, FLAT_LIMIT, DATA32)
    return Entry(
        mode=32,
        kind=kind,
        regs={**regs, "rip": start, "rflags": RFLAGS_FIXED},
        segments={
            **dict.fromkeys(("ds", "es", "ss", "fs", "gs"), data),
            "cs": Segment(code_selector, 0, FLAT_LIMIT, code),
            **_SYSTEM,
        },
        gdtr=Table(base, len(gdt) - 1),
        idtr=Table(0, 0),
        cr0=CR0_PE | CR0_ET,
        symbols={} if symbols is None else symbols,  # `or` would read them all to see whether there are any
        notes=tuple(placement.notes),
    )


def long_mode(
    kind: str,
    start: int,
    regs: Mapping[str, int],
    memory: GuestMemory,
    placement: Placement,
    *,
    code_selector: int = 0x08,
    symbols: Mapping[str, int] | None = None,
) -> Entry:
    """64-bit mode at ``start``: as `protected_mode`, with 4-level paging that maps the first 4 GiB one to one."""
    flat = protected_mode(
        kind, start, regs, memory, placement, code_selector=code_selector, code=CODE64, symbols=symbols
    )
    return replace(
        flat,
        mode=64,
        cr0=CR0_PE | CR0_ET | CR0_PG,
        cr3=identity_page_tables(memory, placement),
        cr4=CR4_PAE,
        efer=EFER_LME | EFER_LMA,
    )


def identity_page_tables(memory: GuestMemory, placement: Placement) -> int:
    """Write page tables that map `IDENTITY_MAPPED` one to one; returns the guest-physical address of the PML4.

    PML4, PDPT and one page directory a GiB, in this order (AMD APM volume 2, section 5.3).
    """
    present_writable, large = 0x3, 0x80
    directories = IDENTITY_MAPPED // GIB
    pml4 = placement.loader_area((2 + directories) * PAGE_SIZE, "the loader's page tables")
    pdpt, first = pml4 + PAGE_SIZE, pml4 + 2 * PAGE_SIZE
    memory.write(pml4, struct.pack("<Q", pdpt | present_writable).ljust(PAGE_SIZE, b"\0"))
    entries = [first + i * PAGE_SIZE | present_writable for i in range(directories)]
    memory.write(pdpt, struct.pack(f"<{directories}Q", *entries).ljust(PAGE_SIZE, b"\0"))
    pages = IDENTITY_MAPPED // (2 * MIB)
    memory.write(first, struct.pack(f"<{pages}Q", *(i * 2 * MIB | present_writable | large for i in range(pages))))
    return pml4


def stack_top(placement: Placement) -> int:
    """A fresh stack of `STACK_SIZE` bytes in the loader's area; returns its upper end, 16-byte aligned."""
    return placement.loader_area(STACK_SIZE, "the initial stack") + STACK_SIZE


def _descriptor(attributes: int) -> bytes:
    """A flat segment's descriptor (AMD APM volume 2, section 4.7)."""
    high = 0x000F0000 | (attributes & 0xFF) << 8 | (attributes & 0xF00) << 12
    return struct.pack("<II", 0x0000FFFF, high)
