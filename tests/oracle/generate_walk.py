"""Seeded random page tables with one access to translate."""

from __future__ import annotations

import random
from dataclasses import dataclass

from .paging import NX, PDPTE_RESERVED, Access
from .state import (
    AC,
    CR0_PE,
    CR0_PG,
    CR0_WP,
    CR4_PAE,
    CR4_PSE,
    CR4_SMAP,
    CR4_SMEP,
    EFER_LMA,
    EFER_LME,
    EFER_NXE,
    State,
)

WALK_MODES = ("off", "32-bit", "pse", "pae", "long")
MEMORY_SIZE = 0x40000
FRAMES = MEMORY_SIZE >> 12


@dataclass(frozen=True)
class WalkCase:
    """Translate ``va`` for ``access`` in ``state`` over ``memory`` (starting at guest-physical 0)."""

    mode: str
    memory: bytes
    state: State
    va: int
    access: Access
    implicit: bool


def random_walk(seed: int, mode: str | None = None) -> WalkCase:
    """One case; the same ``seed`` and ``mode`` (one of `WALK_MODES`, None for any) give the same case.

    About two thirds translate; the others meet absent, reserved and forbidden entries, tables outside memory, tables
    of noise and recursive tables, at any level.
    """
    rng = random.Random(f"walk {seed} {mode}")
    mode = mode or rng.choice(WALK_MODES)
    state = _state(rng, mode)
    memory = bytearray(MEMORY_SIZE)
    noise = rng.randrange(FRAMES)
    memory[noise << 12 : noise + 1 << 12] = rng.randbytes(4096)
    va = rng.getrandbits(48) if mode == "long" else rng.getrandbits(32)
    if rng.random() < 0.2:
        va |= (1 << (48 if mode == "long" else 32)) - (1 << rng.choice((12, 21, 30)))  # the last entries of a table
    if mode == "long":
        if va >> 47:
            va |= 0xFFFF << 48
        if rng.random() < 0.05:
            va ^= 1 << rng.randrange(47, 64)
    if mode in ("32-bit", "pse"):
        _fill(rng, memory, state, va, [(22, 10), (12, 10)], 4, noise)
    elif mode == "pae":
        _fill(rng, memory, state, va, [(30, 2), (21, 9), (12, 9)], 8, noise)
    elif mode == "long":
        _fill(rng, memory, state, va, [(39, 9), (30, 9), (21, 9), (12, 9)], 8, noise)
    return WalkCase(mode, bytes(memory), state, va, rng.choice(list(Access)), rng.random() < 0.15)


def _state(rng: random.Random, mode: str) -> State:
    state = State(cpl=rng.choice((0, 0, 1, 2, 3, 3, 3)), rflags=2 | (AC if rng.random() < 0.5 else 0))
    state.cr0 = CR0_PE | (CR0_WP if rng.random() < 0.7 else 0) | (CR0_PG if mode != "off" else 0)
    state.cr4 = rng.choice((0, CR4_SMEP, CR4_SMAP, CR4_SMEP | CR4_SMAP))
    if mode == "pse" or (mode != "32-bit" and rng.random() < 0.5):
        state.cr4 |= CR4_PSE
    if mode in ("pae", "long"):
        state.cr4 |= CR4_PAE
    state.efer = EFER_NXE if rng.random() < 0.8 else 0
    if mode == "long":
        state.efer |= EFER_LME | EFER_LMA
    state.cr3 = rng.randrange(FRAMES) << 12 | rng.choice((0, 0, 0x8, 0x10, 0x18))
    if mode == "pae":
        state.cr3 |= rng.randrange(128) << 5
    return state


def _fill(
    rng: random.Random,
    memory: bytearray,
    state: State,
    va: int,
    levels: list[tuple[int, int]],
    size: int,
    noise: int,
) -> None:
    """Write the entries on ``va``'s path, top to bottom, with neighbours in the same tables."""
    table = state.cr3 & (~0x1F if levels[0] == (30, 2) else ~0xFFF)
    for depth, (shift, bits) in enumerate(levels):
        last = depth == len(levels) - 1
        pdpte = (shift, bits) == (30, 2)
        may_be_large = not last and not pdpte and shift != 39
        large = may_be_large and rng.random() < (0.25 if state.cr4 & CR4_PSE or size == 8 else 0.1)
        for neighbour in range(3):
            index = va >> shift & (1 << bits) - 1 if neighbour == 2 else rng.randrange(1 << bits)
            target = _target(rng, table, last or large, shift if large else 12, noise, size)
            entry = _entry(rng, target, size, last, large, pdpte, shift, bool(state.efer & EFER_LMA))
            at = table + index * size
            if at + size <= len(memory):
                memory[at : at + size] = entry.to_bytes(size, "little")
        if large:
            return
        table = target


def _target(rng: random.Random, table: int, leaf: bool, shift: int, noise: int, size: int) -> int:
    """Where an entry points: a frame in memory, or for a few anywhere, the table itself or a frame of noise."""
    address_bits = 40 if size == 8 or (leaf and shift == 22) else 32
    anywhere = rng.getrandbits(address_bits) >> shift << shift
    if leaf:
        return anywhere if shift > 12 and rng.random() < 0.5 else _choose(rng, anywhere, table, noise) >> shift << shift
    return _choose(rng, anywhere, table, noise)


def _choose(rng: random.Random, anywhere: int, table: int, noise: int) -> int:
    chance = rng.random()
    if chance < 0.02:
        return anywhere
    if chance < 0.04:
        return table & ~0xFFF
    if chance < 0.05:
        return noise << 12
    return rng.randrange(FRAMES) << 12


def _entry(
    rng: random.Random, target: int, size: int, last: bool, large: bool, pdpte: bool, shift: int, long: bool
) -> int:
    """An entry's bits: usually valid, now and then absent, restricted, or with one reserved bit."""
    if size == 4 and large:
        target = target & 0xFFC0_0000 | (target >> 32 & 0xFF) << 13
        target |= (rng.random() < 0.1) << 21
    value = target | 1 | rng.choice((0, 0, 8, 0x10, 0x18)) | rng.randrange(8) << 9
    if rng.random() < 0.03:
        value &= ~1
    if rng.random() < 0.02 and size == 8:
        value |= 1 << rng.choice((7, 8, 13, 20, 29, 40, 45, 51, 52, 62, 63, rng.randrange(64)))
    if rng.random() < 0.04 and size == 4:
        value |= 1 << rng.randrange(32)
    if pdpte:
        return value & ~PDPTE_RESERVED if rng.random() < 0.98 else value
    for bit, chance in ((1, 0.85), (2, 0.8), (5, 0.5), (6, 0.5)):
        value |= (rng.random() < chance) << bit
    if large:
        value |= 0x80 | rng.getrandbits(1) << 12 | rng.getrandbits(1) << 8
    elif last:
        value |= rng.getrandbits(1) << 7 | rng.getrandbits(1) << 8
    elif shift <= 22:
        value |= rng.getrandbits(1) << 8
    if size == 8 and rng.random() < 0.06:
        value |= NX
    if long:
        value |= rng.getrandbits(7) << 52
    return value
