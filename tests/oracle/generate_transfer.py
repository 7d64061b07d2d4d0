"""Seeded random machines of `generate_event` with a far transfer or segment load to carry out."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from . import build
from .generate_event import random_event
from .random_tables import (
    ABSENT_CODE,
    ABSENT_DATA,
    CODE_SELECTORS,
    CONFORMING,
    CONFORMING3,
    DATA_SELECTORS,
    GOOD_CODE,
    GOOD_STACKS,
    LDT_SELECTOR,
    MEMORY_SIZE,
    NOISE,
    OTHER_CODE,
    PAGE_TABLES,
    READ_ONLY,
    TASK_SELECTOR,
    TSS_SELECTOR,
    WRONG_CODE,
)
from .state import CR4_PAE, MASK16, MASK32, MASK64, NT, RAX, RF, RSP, TF, VM, Segment, State
from .transfers import CALL_GATE, Transfer

TRANSFER_MODES = ("real", "v86", "protected16", "protected32", "compat", "long")
CODE, OPERAND = 0x18000, 0x18100
GATES, OTHER_SIZE = 0x110, 0x190
"""Selectors: eight call gates of 16 bytes; code of each ring that is not of the usual size, in long mode 32-bit."""
LOADED = ("es", "ss", "ds", "fs", "gs")
NUMBERS = {"es": 0, "ss": 2, "ds": 3, "fs": 4, "gs": 5}


@dataclass(frozen=True)
class TransferCase:
    """Carry out ``transfer``, whose bytes lie at CS:RIP of ``state``."""

    mode: str
    memory: bytes
    state: State
    transfer: Transfer


def random_transfer(seed: int, mode: str) -> TransferCase:
    """One case; the same ``seed`` and ``mode`` give the same one. Most succeed."""
    rng = random.Random(f"transfer {seed} {mode}")
    case = random_event(seed, mode)
    memory, state = bytearray(case.memory), case.state
    state.rflags &= ~(TF | RF)
    if rng.random() < 0.8:
        state.rflags &= ~NT
    if state.protected and not state.v86:
        _more_descriptors(rng, memory, state)
    what = "iret" if mode in ("real", "v86") else rng.choice(("jmp", "call", "ret", "iret", "load"))
    width = _place_code(memory, state)
    size = rng.choice((2, 4, 4)) if width != 8 or what in ("jmp", "call") else rng.choice((2, 4, 8, 8))
    transfer = Transfer(what, size, 0)
    if what == "load":
        transfer = replace(transfer, register=rng.choice(LOADED), selector=_data_selector(rng, state.cpl))
        state.regs[RAX] = transfer.selector
        for name in ("fs", "gs"):
            state.segs[name] = _to_be_nulled(rng, state)
    elif what in ("jmp", "call"):
        offset = _target(rng, state) & (1 << 8 * size) - 1
        transfer = replace(transfer, selector=_code_selector(rng, state.cpl), offset=offset)
    else:
        released = rng.choice((0, 0, 4, 8, rng.randrange(0x100), 0x8000)) if what == "ret" else 0
        transfer = replace(transfer, released=released)
        _frame(rng, memory, state, transfer)
        for name in ("es", "ds", "fs", "gs"):
            if rng.random() < 0.7 and not state.v86:
                state.segs[name] = _to_be_nulled(rng, state)
    code = encode(transfer, width, memory)
    memory[CODE : CODE + len(code)] = code
    return TransferCase(mode, bytes(memory), state, replace(transfer, length=len(code)))


def encode(transfer: Transfer, width: int, memory: bytearray) -> bytes:
    """The instruction for code of this width (2, 4 or 8 bytes); far pointers of 64-bit code go to `OPERAND`."""
    prefix = b"" if transfer.size == min(width, 4) else b"\x48" if transfer.size == 8 else b"\x66"
    if transfer.what == "load":
        return b"\x8e" + bytes([0xC0 | NUMBERS[transfer.register] << 3])
    if transfer.what == "ret":
        return prefix + (b"\xca" + transfer.released.to_bytes(2, "little") if transfer.released else b"\xcb")
    if transfer.what == "iret":
        return prefix + b"\xcf"
    pointer = transfer.offset.to_bytes(transfer.size, "little") + transfer.selector.to_bytes(2, "little")
    jump = transfer.what == "jmp"
    if width != 8:
        return prefix + (b"\xea" if jump else b"\x9a") + pointer
    memory[OPERAND : OPERAND + len(pointer)] = pointer
    code = prefix + (b"\xff\x2d" if jump else b"\xff\x1d")
    return code + (OPERAND - CODE - len(code) - 4).to_bytes(4, "little")


def _place_code(memory: bytearray, state: State) -> int:
    """Let CS:RIP be `CODE`, in a page that may be executed; the width of the code in bytes."""
    code = state.segs["cs"]
    width = 8 if state.long_mode and code.long else 4 if code.big and state.protected else 2
    if not state.protected or state.v86:
        state.segs["cs"], state.rip = replace(code, selector=CODE >> 4, base=CODE), 0
    elif state.long_mode:
        state.rip = CODE
    else:
        state.segs["cs"], state.rip = replace(code, base=CODE), 0
    if state.paging:
        wide = bool(state.cr4 & CR4_PAE)
        table = PAGE_TABLES + 0x1000 * (3 if state.long_mode else 2 if wide else 1)
        size = 8 if wide else 4
        entry = CODE | 0x63 | (4 if state.cpl == 3 else 0)
        at = table + (CODE >> 12) * size
        memory[at : at + size] = entry.to_bytes(size, "little")
    return width


def _more_descriptors(rng: random.Random, memory: bytearray, state: State) -> None:
    """Call gates, code of the other size, and accessed bits that are clear."""
    gdt = state.gdtr.base & MASK16
    other = build.CODE32 if state.long_mode else build.CODE16
    for ring in range(4):
        at = gdt + OTHER_SIZE + 8 * ring
        memory[at : at + 8] = build.descriptor(0, build.FLAT, build.with_dpl(other, ring))
    for n in range(8):
        at = gdt + GATES + 16 * n
        chance = rng.random()
        kind = CALL_GATE if chance < 0.7 else 4 if chance < 0.9 else rng.randrange(16)
        inner = [CODE_SELECTORS[ring] for ring in range(state.cpl + 1)] + [CONFORMING]
        selector = rng.choice(inner) if rng.random() < 0.8 else _code_selector(rng, state.cpl)
        offset = _target(rng, state)
        gate = bytearray(build.gate64(kind, selector, offset, rng.choice((3, 3, 3, state.cpl)), rng.random() < 0.95))
        gate[4] = rng.choice((0, 0, 1, 2, rng.randrange(32)))
        if rng.random() < 0.05:
            gate[13] = rng.randrange(32)
        memory[at : at + 16] = gate
    for selector in range(8, TSS_SELECTOR, 8):
        if rng.random() < 0.3 and memory[gdt + selector + 5] & 0x10:
            memory[gdt + selector + 5] &= ~1


def _code_selector(rng: random.Random, cpl: int) -> int:
    chance = rng.random()
    if chance < 0.35:
        return CODE_SELECTORS[cpl] | cpl
    if chance < 0.6:
        return GATES + 16 * rng.randrange(8) | rng.choice((0, cpl))
    if chance < 0.7:
        return OTHER_SIZE + 8 * cpl | cpl
    if chance < 0.9:
        return rng.choice((CONFORMING, CONFORMING3, *GOOD_CODE, TASK_SELECTOR)) | rng.choice((0, cpl))
    bad = (0, 3, ABSENT_CODE, OTHER_CODE, WRONG_CODE, NOISE, DATA_SELECTORS[0], TSS_SELECTOR, LDT_SELECTOR)
    return rng.choice((*bad, rng.getrandbits(16))) | rng.randrange(4)


def _return_selector(rng: random.Random, cpl: int) -> int:
    ring = rng.choice((cpl, rng.randrange(cpl, 4), 3, 3))
    chance = rng.random()
    if chance < 0.65:
        return CODE_SELECTORS[ring] | ring
    if chance < 0.85:
        return OTHER_SIZE + 8 * ring | ring
    return rng.choice((CONFORMING | ring, CONFORMING3 | ring, _code_selector(rng, cpl)))


def _data_selector(rng: random.Random, cpl: int) -> int:
    chance = rng.random()
    if chance < 0.4:
        return DATA_SELECTORS[cpl] | cpl
    if chance < 0.55:
        return rng.randrange(4)
    if chance < 0.75:
        return rng.choice(GOOD_STACKS) | cpl
    others = (READ_ONLY, ABSENT_DATA, CONFORMING, CONFORMING3, NOISE, TSS_SELECTOR, rng.getrandbits(16))
    return rng.choice((*others, *CODE_SELECTORS.values(), *DATA_SELECTORS.values())) | rng.randrange(4)


def _target(rng: random.Random, state: State) -> int:
    offset = rng.randrange(0x9800)
    chance = rng.random()
    if state.long_mode:
        offset |= rng.choice((0, 0, 0xFFFF_8000_0000_0000))
        return rng.getrandbits(64) if chance < 0.1 else offset
    return rng.getrandbits(32) if chance < 0.1 else offset


def _to_be_nulled(rng: random.Random, state: State) -> Segment:
    """A data segment of any privilege; in 64-bit mode FS and GS may have any base."""
    ring = rng.randrange(4)
    base = rng.getrandbits(47) if state.long_mode else 0
    kind = rng.choice((build.DATA32, build.DATA32, build.CODE32, build.CONFORMING32))
    selector = rng.choice((DATA_SELECTORS[ring] | ring, DATA_SELECTORS[ring] | ring, 0))
    return Segment(selector, base, build.FLAT, build.with_dpl(kind, ring))


def _frame(rng: random.Random, memory: bytearray, state: State, transfer: Transfer) -> None:
    """What a return pops, if the stack lies in memory."""
    size, cpl = transfer.size, state.cpl
    selector = rng.randrange(0x2000) if not state.protected or state.v86 else _return_selector(rng, cpl)
    rpl = selector & 3
    stack = DATA_SELECTORS[rpl] | rpl
    chance = rng.random()
    if chance < 0.2:
        stack = rng.choice((rpl, 0, 3))
    elif chance < 0.35:
        stack = rng.choice(GOOD_STACKS) | rpl
    elif chance < 0.45:
        stack = _data_selector(rng, rpl)
    flags = rng.getrandbits(22) & ~(VM if rng.random() < 0.7 else 0)
    values = [_target(rng, state), selector | rng.getrandbits(16) << 16, flags]
    values = values if transfer.what == "iret" else values[:2]
    values += [rng.getrandbits(48 if rng.random() < 0.3 else 16), stack, *(rng.getrandbits(16) for _ in range(4))]
    ss = state.segs["ss"]
    in_64_bit = state.long_mode and state.segs["cs"].long
    mask = MASK64 if in_64_bit else MASK32 if ss.big else MASK16
    for n, value in enumerate(values):
        gap = transfer.released if n > 1 and transfer.what == "ret" else 0
        offset = state.regs[RSP] + n * size + gap & mask
        at = offset if in_64_bit else ss.base + offset & MASK32
        if at + size <= CODE:
            memory[at : at + size] = (value & (1 << 8 * size) - 1).to_bytes(size, "little")


__all__ = ["MEMORY_SIZE", "TRANSFER_MODES", "TransferCase", "random_transfer"]
