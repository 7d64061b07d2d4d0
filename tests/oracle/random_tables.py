"""Random descriptor tables, TSS and page tables that mostly make sense, for `generate_event`."""

from __future__ import annotations

import random
from itertools import pairwise

from . import build
from .segments import INTERRUPT16, INTERRUPT32, TASK_GATE, TRAP16, TRAP32
from .state import CR4_PAE, CR4_SMAP, EFER_LMA, State

# Two pages per ring, all below 64 KiB so that a 16-bit stack pointer reaches them.
STACKS = {0: 0x0000, 1: 0x2000, 2: 0x4000, 3: 0x6000}
# Two pages each; a table may begin anywhere in the first.
GDT_AREA, LDT_AREA, IDT_AREA, TSS_AREA = 0x8000, 0xA000, 0xC000, 0xE000
IST_STACKS = 0x10000
TASK_AREA = 0x15000
PAGE_TABLES = 0x20000
MEMORY_SIZE = 0x40000

CODE_SELECTORS = {ring: 0x08 + 0x10 * ring for ring in range(4)}
DATA_SELECTORS = {ring: 0x10 + 0x10 * ring for ring in range(4)}
TSS_SELECTOR, LDT_SELECTOR = 0x80, 0x90
CONFORMING, CONFORMING3, ABSENT_CODE, ABSENT_DATA, SMALL_CODE, OTHER_CODE = 0x50, 0x58, 0x60, 0x68, 0x70, 0x78
READ_ONLY, EXPAND_DOWN, STACK16, UNTOUCHED_CODE, UNTOUCHED_DATA = 0xA0, 0xA8, 0xB0, 0xB8, 0xC0
WRONG_CODE, SMALL_STACK, NOISE, BASED_STACK = 0xC8, 0xD0, 0xE0, 0xF0
TASK_SELECTOR = 0x100
LDT_CODE, LDT_DATA = 0x04, 0x0C

GOOD_STACKS = (EXPAND_DOWN, STACK16, UNTOUCHED_DATA, SMALL_STACK, BASED_STACK, LDT_DATA)
GOOD_CODE = (SMALL_CODE, UNTOUCHED_CODE, CONFORMING, CONFORMING3, LDT_CODE)


def fill_gdt(rng: random.Random, memory: bytearray, gdt: int, ldt: int, tss: int, long_mode: bool) -> None:
    """Every kind of descriptor at its fixed selector, and some noise."""
    code = build.CODE64 if long_mode else build.CODE32
    conforming = build.CONFORMING64 if long_mode else build.CONFORMING32
    for ring in range(4):
        _put(memory, gdt + CODE_SELECTORS[ring], 0, build.FLAT, build.with_dpl(code, ring))
        _put(memory, gdt + DATA_SELECTORS[ring], 0, build.FLAT, build.with_dpl(build.DATA32, ring))
    _put(memory, gdt + CONFORMING, 0, build.FLAT, conforming)
    _put(memory, gdt + CONFORMING3, 0, build.FLAT, build.with_dpl(conforming, 3))
    _put(memory, gdt + ABSENT_CODE, 0, build.FLAT, code & ~0x80)
    _put(memory, gdt + ABSENT_DATA, 0, build.FLAT, build.DATA32 & ~0x80)
    _put(memory, gdt + SMALL_CODE, 0x1000, 0x8FFF, code & ~0x800)
    _put(memory, gdt + OTHER_CODE, 0, 0xFFFF, build.CODE16)
    memory[gdt + TSS_SELECTOR : gdt + TSS_SELECTOR + 16] = build.descriptor16(tss, 0x67, build.TSS32)
    memory[gdt + LDT_SELECTOR : gdt + LDT_SELECTOR + 16] = build.descriptor16(ldt, 0x3F, build.LDT)
    _put(memory, gdt + READ_ONLY, 0, build.FLAT, build.DATA32 & ~2)
    _put(memory, gdt + EXPAND_DOWN, 0, rng.choice((0, 0, 0x1FFF)), build.DATA32 & ~0x800 | build.EXPAND_DOWN)
    _put(memory, gdt + STACK16, 0, 0xFFFF, build.DATA16)
    _put(memory, gdt + UNTOUCHED_CODE, 0, build.FLAT, code & ~1)
    _put(memory, gdt + UNTOUCHED_DATA, 0, build.FLAT, build.DATA32 & ~1)
    _put(memory, gdt + WRONG_CODE, 0, build.FLAT, code | 0x600 if long_mode else code & ~8)
    _put(memory, gdt + SMALL_STACK, 0, rng.randrange(0x1000, 0x2000), build.DATA32 & ~0x800)
    memory[gdt + NOISE : gdt + NOISE + 16] = rng.randbytes(16)
    _put(memory, gdt + BASED_STACK, 0xFFFF_F000, build.FLAT, build.DATA32)


def fill_ldt(rng: random.Random, memory: bytearray, ldt: int, long_mode: bool) -> None:
    """Ring 0 code and data, then noise."""
    memory[ldt : ldt + 0x40] = rng.randbytes(0x40)
    _put(memory, ldt, 0, build.FLAT, build.CODE64 if long_mode else build.CODE32)
    _put(memory, ldt + 8, 0, build.FLAT, build.DATA32)


def fill_idt(rng: random.Random, memory: bytearray, idt: int, long_mode: bool, narrow: bool, vector: int) -> None:
    """Gates of the exceptions and of ``vector``, few of them bad; the others stay absent, which saves time."""
    size = 16 if long_mode else 8
    bad_share = rng.choice((0, 0.05, 0.05, 0.3))
    for number in {*range(32), vector}:
        at = idt + size * number
        memory[at : at + size] = _gate(rng, long_mode, narrow, rng.random() < bad_share)


def _gate(rng: random.Random, long_mode: bool, narrow: bool, bad: bool) -> bytes:
    size = 16 if long_mode else 8
    kinds = [INTERRUPT32, TRAP32]
    if not long_mode and rng.random() < (0.8 if narrow else 0.2):
        kinds = [INTERRUPT16, TRAP16]
    kind = rng.choice(kinds)
    chance = rng.random()
    selector = CODE_SELECTORS[0] if chance < 0.7 else CODE_SELECTORS[3] if chance < 0.8 else rng.choice(GOOD_CODE)
    present = True
    if bad:
        flaw = rng.randrange(6)
        if flaw == 0:
            return rng.randbytes(size)
        if flaw == 1:
            present = False
        elif flaw == 2:
            kind = rng.choice((TASK_GATE, TASK_GATE, rng.randrange(16)))
            if kind == TASK_GATE and rng.random() < 0.8:
                selector = TASK_SELECTOR
        elif flaw == 3:
            selector = rng.choice((0, 3, ABSENT_CODE, OTHER_CODE, WRONG_CODE, NOISE, DATA_SELECTORS[0], TSS_SELECTOR))
        else:
            selector = rng.getrandbits(9 if flaw == 4 else 16)
    selector |= rng.choice((0, 0, 0, rng.randrange(4)))
    dpl = rng.choice((0, 3, 3, rng.randrange(4)))
    offset = rng.randrange(0x9800)
    if long_mode:
        offset |= rng.choice((0, 0xFFFF_8000_0000_0000, 0xFFFF_FFFF_8000_0000))
        if bad and rng.random() < 0.1:
            offset = rng.getrandbits(64)
        ist = rng.choice((0, 0, 0, rng.randrange(8)))
        return build.gate64(kind, selector, offset, dpl, present, ist)
    return build.gate(kind, selector, offset, dpl, present)


def fill_tss(rng: random.Random, memory: bytearray, tss: int, long_mode: bool, tss16: bool) -> None:
    """A stack for rings 0 to 2 (and the IST), some of them bad."""
    for ring in range(3):
        selector, pointer = _stack(rng, ring)
        if long_mode:
            _store(memory, tss + 4 + 8 * ring, _wild(rng, pointer), 8)
        elif tss16:
            _store(memory, tss + 2 + 4 * ring, pointer & 0xFFFF, 2)
            _store(memory, tss + 4 + 4 * ring, selector, 2)
        else:
            high = rng.getrandbits(16) << 16 if selector & ~7 == STACK16 else 0
            _store(memory, tss + 4 + 8 * ring, pointer | high, 4)
            _store(memory, tss + 8 + 8 * ring, selector, 2)
    if long_mode:
        for ist in range(1, 8):
            pointer = IST_STACKS + ist * 0x800 + rng.choice((0, 0, rng.randrange(0x800)))
            _store(memory, tss + 0x1C + 8 * ist, _wild(rng, pointer), 8)


def fill_task(rng: random.Random, memory: bytearray, gdt: int) -> None:
    """A second, available 32-bit TSS for task gates, with a selector out of place now and then."""
    tss = TASK_AREA + rng.choice((0, 0, rng.randrange(0xF00), 0xFC0))
    _put(memory, gdt + TASK_SELECTOR, tss, 0x67, build.TSS32 & ~2)
    ring = rng.choice((0, 0, 0, 3))
    fields = [
        PAGE_TABLES,
        rng.randrange(0x9800),
        rng.choice((0x2, 0x202, 0x10202)),
        *(rng.getrandbits(32) for _ in range(8)),
    ]
    fields[3 + 4] = STACKS[ring] + 0x1000 + rng.randrange(0x1000)
    data, code = DATA_SELECTORS[ring] | ring, CODE_SELECTORS[ring] | ring
    fields += [rng.choice((data, data, 0)), code, data, data, 0, rng.choice((data, 0)), rng.choice((LDT_SELECTOR, 0))]
    if rng.random() < 0.15:
        fields[11 + rng.randrange(7)] = rng.choice((0, ABSENT_CODE, ABSENT_DATA, READ_ONLY, rng.getrandbits(16)))
    for n, value in enumerate(fields):
        _store(memory, tss + 0x1C + 4 * n, value, 4)


def _stack(rng: random.Random, ring: int) -> tuple[int, int]:
    selector = DATA_SELECTORS[ring] | ring
    pointer = STACKS[ring] + 0x1000 + rng.choice((0, 0, rng.randrange(0x1000), rng.randrange(0x40)))
    chance = rng.random()
    if chance < 0.2 and ring == 0:
        selector = rng.choice(GOOD_STACKS)
        if selector == BASED_STACK:
            pointer += 0x1000
    elif chance < 0.25:
        selector = rng.choice(
            (0, 3, ABSENT_DATA, ABSENT_DATA, READ_ONLY, CODE_SELECTORS[0], NOISE, rng.getrandbits(16))
        )
    elif chance < 0.29:
        pointer = rng.choice((rng.randrange(32), rng.randrange(32), rng.getrandbits(32)))
    return selector, pointer


def _wild(rng: random.Random, pointer: int) -> int:
    chance = rng.random()
    if chance < 0.3:
        return pointer | 0xFFFF_8000_0000_0000
    return rng.getrandbits(64) if chance < 0.32 else pointer


def identity_map(rng: random.Random, memory: bytearray, state: State, bad: set[int]) -> None:
    """Map the whole memory onto itself with 4 KiB pages (in long mode at FFFF8000_00000000 too), spoiling ``bad``."""
    wide = bool(state.cr4 & CR4_PAE)
    size = 8 if wide else 4
    tables = [PAGE_TABLES + 0x1000 * n for n in range(4 if state.efer & EFER_LMA else 3 if wide else 2)]
    for depth, (table, below) in enumerate(pairwise(tables)):
        pdpte = wide and len(tables) == 3 and depth == 0
        _store(memory, table, below | (1 if pdpte else 7 | rng.getrandbits(1) << 5), size)
    if len(tables) == 4:
        _store(memory, tables[0] + 256 * 8, tables[1] | 7, 8)
    all_user = rng.random() < (0.05 if state.cr4 & CR4_SMAP else 0.4)
    for page in range(MEMORY_SIZE >> 12):
        user = all_user or page << 12 in (STACKS[3], STACKS[3] + 0x1000)
        entry = page << 12 | 3 | user << 2 | rng.getrandbits(2) << 5
        if page in bad:
            entry ^= rng.choice((1, 2, 2, 4, 4, 6, 1 << 41 if wide else 2))
        _store(memory, tables[-1] + page * size, entry, size)


def _put(memory: bytearray, at: int, base: int, limit: int, attributes: int) -> None:
    memory[at : at + 8] = build.descriptor(base, limit, attributes)


def _store(memory: bytearray, at: int, value: int, size: int) -> None:
    memory[at : at + size] = value.to_bytes(size, "little")
