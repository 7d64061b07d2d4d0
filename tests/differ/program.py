"""One random program: what it starts with, and its instructions."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import Enum

import capstone

from tests.differ import layout as at

Code = Callable[[int], bytes]
"""An instruction, or a few that belong together: bytes by the address behind them. The length never changes."""
END = b"\xcd\x81"


class Mode(Enum):
    """Where a program runs: its code segment, stack segment, width of code."""

    KERNEL64 = (0x08, 0x10, 64)
    USER64 = (0x2B, 0x23, 64)
    KERNEL32 = (0x30, 0x10, 32)
    USER32 = (0x1B, 0x23, 32)
    USER16 = (0x3B, 0xE3, 16)

    @property
    def bits(self) -> int:
        """16, 32 or 64."""
        return self.value[2]

    @property
    def user(self) -> bool:
        """Ring 3."""
        return bool(self.value[0] & 3)


@dataclass(frozen=True)
class Program:
    """``registers`` are 16 numbers; ``fields`` the other quadwords of the record (layout.IN) by name."""

    mode: Mode
    place: int
    registers: tuple[int, ...]
    fields: dict[str, int]
    fx: bytes
    items: tuple[Code, ...] = field(repr=False)
    bases: tuple[int, int, int]

    @property
    def entry(self) -> int:
        """RIP at the start."""
        return self.place - at.LIVE if self.mode.bits == 16 else self.place

    def code(self) -> bytes:
        """The bytes of all instructions and of the end."""
        code = b""
        for item in self.items:
            behind = self.entry + len(code) + len(item(0))
            code += item(behind)
        return code + END

    def without(self, number: int) -> Program:
        """The program without one item."""
        return replace(self, items=self.items[:number] + self.items[number + 1 :])

    def record(self) -> bytes:
        """As the harness reads it."""
        data = bytearray(at.IN_SIZE)
        cs, ss, _ = self.mode.value
        values = {"RIP": self.entry, "CS": cs, "SS": ss, "RSP": self.registers[4], "PLACE": self.place} | self.fields
        for name, value in values.items():
            struct.pack_into("<Q", data, at.IN[name], value)
        struct.pack_into("<16Q", data, at.IN["REGS"], *self.registers)
        struct.pack_into("<3Q", data, at.IN["BASES"], *self.bases)
        data[at.IN["FX"] : at.IN["FX"] + 512] = self.fx
        code = self.code()
        assert len(code) <= at.CODE_SIZE
        data[at.IN["CODE"] : at.IN["CODE"] + at.CODE_SIZE] = code.ljust(at.CODE_SIZE, b"\xcc")
        return bytes(data)

    def __str__(self) -> str:
        width = {16: capstone.CS_MODE_16, 32: capstone.CS_MODE_32, 64: capstone.CS_MODE_64}[self.mode.bits]
        engine = capstone.Cs(capstone.CS_ARCH_X86, width)
        engine.skipdata = True
        lines = [
            f"{i.address:x}: {i.bytes.hex():22} {i.mnemonic} {i.op_str}" for i in engine.disasm(self.code(), self.entry)
        ]
        values = " ".join(f"{name}={value:x}" for name, value in zip(at.REGISTERS, self.registers, strict=True))
        fields = " ".join(f"{name}={value:x}" for name, value in self.fields.items())
        return f"{self.mode.name} {fields}\n{values}\n" + "\n".join(lines)


_EDGES = (
    0,
    1,
    2,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0x8000,
    0xFFFF,
    0x7FFF_FFFF,
    0x8000_0000,
    0xFFFF_FFFF,
    1 << 63,
    (1 << 64) - 1,
)


def value(rng: random.Random, bits: int) -> int:
    """A register: a pointer into the pages, an edge, a small or any number."""
    kind = rng.random()
    if kind < 0.6:
        page = rng.choice((0, 1, 2, 3, at.DATA_2, at.DATA_3, at.READ_ONLY, at.SUPERVISOR, at.UNMAPPED, 0, 1, 2, 3))
        offset = page * 4096 + rng.choice(
            (rng.randrange(4096), rng.randrange(0, 4096, 16), 4096 - rng.randrange(1, 17))
        )
        return offset if bits == 16 else at.LIVE + offset
    if kind < 0.8:
        return rng.choice(_EDGES)
    return rng.choice((rng.randrange(64), rng.getrandbits(64), rng.getrandbits(32)))


def _fx(rng: random.Random) -> bytes:
    data = bytearray(512)
    tags = rng.choice((0xFF, 0xFF, 0x7F, 0, rng.getrandbits(8)))
    struct.pack_into(
        "<HHB",
        data,
        0,
        rng.choice((0x37F, 0x37F, 0x27F, 0xF7F, 0x7F)),
        rng.choice((0, 0, rng.randrange(8))) << 11,
        tags,
    )
    struct.pack_into("<I", data, 24, rng.choice((0x1F80, 0x1F80, 0x3F80, 0x7F80, 0x9FC0)))
    for n in range(8):
        number = struct.pack("<QH", 1 << 63 | rng.getrandbits(63), rng.choice((0x3FFF, 0x4005, 0xBFFF, 0x4000, 0x403E)))
        data[32 + n * 16 : 42 + n * 16] = rng.choice((number, number, number, bytes(10), bytes(7) + b"\x80\xff\x7f"))
    for n in range(16):
        floats = struct.pack("<4f", *(rng.uniform(-1000, 1000) for _ in range(4)))
        doubles = struct.pack("<2d", *(rng.uniform(-1000, 1000) for _ in range(2)))
        data[160 + n * 16 : 176 + n * 16] = rng.choice((rng.randbytes(16), floats, doubles, bytes(16), b"\xff" * 16))
    return bytes(data)


def make(seed: int, number: int) -> Program:
    """Program ``number`` of a seed: the same on each host."""
    from tests.differ.templates import items

    rng = random.Random(f"{seed}/{number}")
    mode = rng.choice(list(Mode))
    registers = [value(rng, mode.bits) for _ in range(16)]
    stack = at.DATA_3 * 4096 + 0x800 + rng.choice((0, 0, 0, 8, rng.randrange(16)))
    registers[4] = stack if mode.bits == 16 else at.LIVE + stack
    registers[11] &= ~0x1A_0000  # SYSRET would set VIF, and QEMU keeps that for ever
    flags = 2 | (rng.getrandbits(12) & 0xCD5) | (rng.random() < 0.2) << 8 | (rng.random() < 0.1) << 18
    flags |= rng.choice((0, 0, 0, 3)) << 12 if mode.user else 0
    data = (0xE3,) if mode.bits == 16 else (0x23, 0x23, 0x23, 0xE3) if mode.bits == 32 else (0x23, 0, 0x10, 0xE3)
    if mode is Mode.KERNEL32:
        data = (0x10, 0x23, 0x10, 0x100)
    if mode is Mode.USER64:
        data = (0x23, 0, 0xE3)
    fields = {"RFLAGS": flags, "LDT": rng.choice((at.LDT_SELECTOR, at.LDT_SELECTOR, 0))}
    fields |= {name: rng.choice(data) for name in ("DS", "ES", "FS", "GS")}
    if mode.bits == 64:
        bases = tuple(rng.choice((0, 0x1000, 0x2000, 1 << 40)) for _ in range(3))
    else:
        bases = (0xFFFF_FFFF, 0xFFFF_FFFF, rng.choice((0, 1 << 40)))
    fields["CR0"] = at.HARNESS_CR0 ^ (rng.choice((2, 4, 8, 10, 1 << 16)) if rng.random() < 0.15 else 0)
    fields["CR4"] = at.HARNESS_CR4 ^ (rng.choice((4, 0x400, 0x200, 1 << 16, 1 << 21)) if rng.random() < 0.15 else 0)
    place = at.LIVE + at.CODE * 4096 + rng.randrange(0x800)
    chosen = items(rng, mode)
    return Program(mode, place, tuple(registers), fields, _fx(rng), tuple(chosen), (bases[0], bases[1], bases[2]))
