"""Seeded random machines with one event to deliver."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from . import build
from .event import Kind
from .random_tables import (
    CODE_SELECTORS,
    DATA_SELECTORS,
    GDT_AREA,
    IDT_AREA,
    LDT_AREA,
    LDT_SELECTOR,
    MEMORY_SIZE,
    PAGE_TABLES,
    STACKS,
    TSS_AREA,
    TSS_SELECTOR,
    fill_gdt,
    fill_idt,
    fill_ldt,
    fill_task,
    fill_tss,
    identity_map,
)
from .state import (
    AC,
    CR0_PE,
    CR0_PG,
    CR0_WP,
    CR4_PAE,
    CR4_SMAP,
    CR4_SMEP,
    EFER_LMA,
    EFER_LME,
    EFER_NXE,
    IF,
    NT,
    RF,
    RSP,
    SEGMENT_NAMES,
    TF,
    VM,
    Segment,
    State,
    Table,
)

EVENT_MODES = ("real", "v86", "protected16", "protected32", "compat", "long")
CODES_WITH_ERROR = (8, 10, 11, 12, 13, 14, 17)


@dataclass(frozen=True)
class EventCase:
    """Deliver ``vector`` in ``state`` over ``memory`` (starting at guest-physical 0)."""

    mode: str
    memory: bytes
    state: State
    vector: int
    error: int | None
    kind: Kind
    length: int


def random_event(seed: int, mode: str | None = None) -> EventCase:
    """One case; the same ``seed`` and ``mode`` (one of `EVENT_MODES`, None for any) give the same case.

    Most reach the handler at once. The others have a short table, a bad gate, selector, descriptor, stack or page, or
    a few flipped bits in the tables, and meet nested faults, double faults, task gates and shutdown.
    """
    rng = random.Random(f"event {seed} {mode}")
    mode = mode or rng.choice(EVENT_MODES)
    memory = bytearray(MEMORY_SIZE)
    kind, vector, error, length = _request(rng)
    state = _real(rng, memory) if mode == "real" else _protected(rng, memory, mode, vector)
    state.rflags = _flags(rng, mode)
    state.cr2 = rng.getrandbits(32)
    state.regs = [value if n == RSP else rng.getrandbits(32) for n, value in enumerate(state.regs)]
    return EventCase(mode, bytes(memory), state, vector, error, kind, length)


def _request(rng: random.Random) -> tuple[Kind, int, int | None, int]:
    kind = rng.choice(list(Kind))
    if kind is Kind.EXCEPTION:
        vector = rng.choice((0, 1, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13, 13, 14, 14, 14, 16, 17, 18, 19))
        error = None
        if vector in CODES_WITH_ERROR:
            error = {8: 0, 17: 0, 14: rng.randrange(32)}.get(vector, rng.getrandbits(16))
        return kind, vector, error, 0
    if kind is Kind.SOFTWARE_INT:
        return kind, rng.randrange(256), None, 2
    if kind is Kind.SOFTWARE_EXCEPTION:
        return kind, rng.choice((3, 4)), None, 1
    return kind, rng.choice((2, rng.randrange(256), rng.randrange(32, 256))), None, 0


def _flags(rng: random.Random, mode: str) -> int:
    flags = 2 | rng.getrandbits(12) & 0x8D5  # the arithmetic flags
    for flag, chance in ((TF, 0.1), (IF, 0.7), (NT, 0.1), (RF, 0.1), (AC, 0.2)):
        flags |= flag if rng.random() < chance else 0
    iopl = rng.choice((0, 3, 3)) if mode == "v86" else rng.randrange(4)
    return flags | iopl << 12 | (VM if mode == "v86" else 0)


def _real(rng: random.Random, memory: bytearray) -> State:
    state = State(rip=rng.randrange(0xFF00))
    base = 0 if rng.random() < 0.8 else rng.randrange(0, 0x8000, 4)
    memory[base : base + 1024] = rng.randbytes(1024)
    state.idtr = Table(base, 0x3FF if rng.random() < 0.85 else rng.randrange(0x400))
    for name in SEGMENT_NAMES:
        selector = rng.randrange(0x2000)
        state.segs[name] = Segment(selector, selector << 4, 0xFFFF, 0x9B if name == "cs" else 0x93)
    if rng.random() < 0.05:  # unreal mode: the hidden parts stay from protected mode
        state.segs["ss"] = replace(state.segs["ss"], limit=build.FLAT, attributes=build.DATA32)
    if rng.random() < 0.05:
        state.segs["ss"] = replace(state.segs["ss"], limit=rng.randrange(0x10000))
    state.regs[RSP] = rng.choice((rng.randrange(16), rng.randrange(0x10000), rng.randrange(0x10000)))
    return state


def _protected(rng: random.Random, memory: bytearray, mode: str, vector: int) -> State:
    long_mode = mode in ("compat", "long")
    cpl = 3 if mode == "v86" else rng.choice((0, 0, 3, 3, 3, 3, 1, 2))
    state = State(cpl=cpl, cr0=CR0_PE)
    gdt, ldt, idt, tss = (_place(rng, area) for area in (GDT_AREA, LDT_AREA, IDT_AREA, TSS_AREA))
    fill_gdt(rng, memory, gdt, ldt, tss, long_mode)
    fill_ldt(rng, memory, ldt, long_mode)
    fill_idt(rng, memory, idt, long_mode, mode == "protected16", vector)
    if not long_mode:
        fill_task(rng, memory, gdt)
    tss16 = not long_mode and rng.random() < (0.6 if mode == "protected16" else 0.15)
    fill_tss(rng, memory, tss, long_mode, tss16)

    high = 0xFFFF_8000_0000_0000 if long_mode and rng.random() < 0.5 else 0
    full_idt = 0xFFF if long_mode else 0x7FF
    state.gdtr = Table(high + gdt, 0x1FF if rng.random() < 0.96 else rng.randrange(0x100))
    state.idtr = Table(high + idt, full_idt if rng.random() < 0.9 else rng.randrange(full_idt))
    tss_limit = 0x67 if rng.random() < 0.96 else rng.randrange(0x30)
    state.tr = Segment(TSS_SELECTOR, high + tss, tss_limit, build.TSS16 if tss16 else build.TSS32)
    state.ldtr = Segment(LDT_SELECTOR, high + ldt, 0x3F, build.LDT)
    if rng.random() < 0.1:
        state.ldtr = Segment(0, 0, 0, 0)
    _load_segments(rng, state, mode)
    _page(rng, memory, state, long_mode, [gdt, idt, tss, state.regs[RSP]])
    if rng.random() < 0.15:
        _flip(rng, memory, [(gdt, 0x100), (idt, full_idt), (tss, 0x68)])
    return state


def _place(rng: random.Random, area: int) -> int:
    """Where in its two pages a table begins: aligned, across the page boundary, or anywhere."""
    return area + rng.choice((0, 0, 8 * rng.randrange(0x100), 0xFF0 + rng.randrange(16), rng.randrange(0xF00)))


def _load_segments(rng: random.Random, state: State, mode: str) -> None:
    state.rip = rng.randrange(0x1000, 0x10000 - 16)
    if mode == "v86":
        for name in SEGMENT_NAMES:
            selector = rng.randrange(0x3000)
            state.segs[name] = Segment(selector, selector << 4, 0xFFFF, 0xF3)
        state.regs[RSP] = rng.randrange(0x10000)
        return
    cpl = state.cpl
    attributes = {"protected16": build.CODE16, "long": build.CODE64}.get(mode, build.CODE32)
    limit = build.FLAT if attributes & 0x800 else 0xFFFF
    state.segs["cs"] = Segment(CODE_SELECTORS[cpl] | cpl, 0, limit, build.with_dpl(attributes, cpl))
    narrow = mode == "protected16" and rng.random() < 0.7
    limit, data = (0xFFFF, build.DATA16) if narrow else (build.FLAT, build.DATA32)
    base = rng.choice((0, 0, 0, 0x1000)) if mode in ("protected16", "protected32") else 0
    segment = Segment(DATA_SELECTORS[cpl] | cpl, base, limit, build.with_dpl(data, cpl))
    for name in SEGMENT_NAMES:
        if name != "cs":
            state.segs[name] = segment if name == "ss" or rng.random() < 0.8 else Segment()
    if mode == "long":
        state.rip |= rng.choice((0, 0xFFFF_8000_0000_0000))
        if rng.random() < 0.1:
            state.segs["ss"] = Segment(cpl if cpl < 3 else DATA_SELECTORS[3] | 3, 0, 0, cpl << 5)
    pointer = STACKS[cpl] + 0x1000 + rng.choice((0, 0, 8, 0x10, rng.randrange(0x1000), -rng.randrange(0x80)))
    if rng.random() < 0.05:
        pointer = rng.choice((base + rng.randrange(16), rng.getrandbits(16 if narrow else 32)))
    if mode == "long" and rng.random() < 0.03:
        pointer |= rng.getrandbits(16) << 48
    high = rng.getrandbits(16) << 16 if narrow and rng.random() < 0.3 else 0
    state.regs[RSP] = pointer - base & 0xFFFF_FFFF_FFFF_FFFF if mode == "long" else pointer - base & 0xFFFF_FFFF | high


def _page(rng: random.Random, memory: bytearray, state: State, long_mode: bool, interesting: list[int]) -> None:
    """Turn paging on (always in long mode) over an identity map with a few bad pages."""
    if not long_mode and rng.random() < 0.4:
        return
    pae = long_mode or rng.random() < 0.5
    state.cr0 |= CR0_PG | (CR0_WP if rng.random() < 0.7 else 0)
    state.cr4 = rng.choice((0, 0, CR4_SMEP, CR4_SMAP, CR4_SMEP | CR4_SMAP)) | (CR4_PAE if pae else 0)
    state.efer = EFER_NXE if pae and rng.random() < 0.8 else 0
    if long_mode:
        state.efer |= EFER_LME | EFER_LMA
    state.cr3 = PAGE_TABLES
    bad: set[int] = set()
    if rng.random() < 0.2:
        bad = {(at >> 12) + rng.randrange(2) & 0x3F for at in rng.sample(interesting, rng.choice((1, 1, 2)))}
        bad.add(rng.choice(list(STACKS.values())) >> 12)
    identity_map(rng, memory, state, bad)


def _flip(rng: random.Random, memory: bytearray, ranges: list[tuple[int, int]]) -> None:
    for _ in range(rng.choice((1, 2, 4, 16))):
        start, size = rng.choice(ranges)
        memory[start + rng.randrange(size)] ^= 1 << rng.randrange(8)
