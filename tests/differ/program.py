"""One random program: what it starts with, and its instructions."""

from __future__ import annotations

import random
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import capstone

from tests.differ import layout as at
from tests.differ.modes import Mode

Code = Callable[[int], bytes]
"""An instruction, or a few that belong together: bytes by the address behind them. The length never changes."""
END = b"\xcd\x81"


@dataclass(frozen=True)
class Instruction:
    """``text`` is its bytes, the mnemonic and the operands; a question mark where nobody knows them."""

    address: int
    size: int
    text: str


@dataclass(frozen=True)
class Program:
    """``offset`` is the code's in the pages. ``registers`` are 16 numbers; ``fields`` the other quadwords of the record
    (layout.IN) by name."""

    mode: Mode
    offset: int
    registers: tuple[int, ...]
    fields: dict[str, int]
    fx: bytes
    items: tuple[Code, ...] = field(repr=False)
    bases: tuple[int, int, int]

    @property
    def entry(self) -> int:
        """RIP at the start."""
        return self.mode.place.live + self.offset - self.mode.code_base

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

    def instructions(self) -> list[Instruction]:
        """All of them. Items are disassembled one by one; what capstone does not know is one instruction."""
        result = []
        address = self.entry
        for item in (*self.items, lambda _: END):
            code = item(address + len(item(0)))
            result += _disassembled(code, address, self.mode.bits)
            address += len(code)
        return result

    def readings(self) -> list[Instruction]:
        """The same, and what stands behind each far transfer as code of the other widths."""
        listing, code = self.instructions(), self.code()
        for one in tuple(listing):
            if _TRANSFER.search(one.text):
                behind = one.address + one.size
                for bits in {16, 32, 64} - {self.mode.bits}:
                    listing += _disassembled(code[behind - self.entry :], behind, bits)
        return listing

    def nopped(self, where: Callable[[str], bool]) -> Program:
        """With NOPs in place of some instructions, told by their texts; all others stay where they are."""
        code = bytearray(self.code())
        for one in self.readings():
            if one.text.partition(" ")[0] != END.hex() and where(one.text):
                start = one.address - self.entry
                code[start : start + one.size] = b"\x90" * one.size
        body = bytes(code[: -len(END)])
        return replace(self, items=(lambda _: body,))

    def record(self) -> bytes:
        """As the harness reads it."""
        data = bytearray(at.IN_SIZE)
        place, rsp, ss = self.mode.place, self.registers[4], self.mode.ss
        values = {"RIP": self.entry, "CS": self.mode.cs, "SS": ss, "RSP": rsp, "PLACE": at.ALIAS + self.offset}
        values |= {"CR3": place.cr3, "CLEAN": place.clean, "KIND": place.kind, **self.fields}
        for name, value in values.items():
            struct.pack_into("<Q", data, at.IN[name], value)
        idt, limit = {at.LONG_MODE: (at.IDT, 0xFFF), at.PROTECTED_MODE: (at.LEGACY_IDT, 0x7FF)}.get(
            place.kind, (at.REAL_IDT, 0x3FF)
        )
        struct.pack_into("<HQ", data, at.IN["GDTR"], at.GDT_LIMIT, place.live + at.GDT)
        struct.pack_into("<HQ", data, at.IN["IDTR"], limit, idt)
        struct.pack_into("<IH", data, at.IN["STACK"], rsp & 0xFFFF_FFFF, ss)
        struct.pack_into("<16Q", data, at.IN["REGS"], *self.registers)
        struct.pack_into("<3Q", data, at.IN["BASES"], *self.bases)
        data[at.IN["FX"] : at.IN["FX"] + 512] = self.fx
        code = self.code()
        assert len(code) <= at.CODE_SIZE
        data[at.IN["CODE"] : at.IN["CODE"] + at.CODE_SIZE] = code.ljust(at.CODE_SIZE, b"\xcc")
        return bytes(data)

    def __str__(self) -> str:
        lines = [f"{one.address:x}: {one.text}" for one in self.instructions()]
        values = " ".join(f"{name}={value:x}" for name, value in zip(at.REGISTERS, self.registers, strict=True))
        fields = " ".join(f"{name}={value:x}" for name, value in self.fields.items())
        return f"{self.mode.name} {fields}\n{values}\n" + "\n".join(lines)


_TRANSFER = re.compile(r" (?:lcall|ljmp|call ptr|jmp ptr|retf|iret|sysret)")


def _disassembled(code: bytes, address: int, bits: int) -> list[Instruction]:
    mode = {16: capstone.CS_MODE_16, 32: capstone.CS_MODE_32}.get(bits, capstone.CS_MODE_64)
    engine = capstone.Cs(capstone.CS_ARCH_X86, mode)
    result = []
    while code:
        known = next(engine.disasm(code, address, 1), None)
        size = known.size if known else len(code)
        text = f"{code[:size].hex()} " + (f"{known.mnemonic} {known.op_str}" if known else "?")
        result.append(Instruction(address, size, text))
        address += size
        code = code[size:]
    return result


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


def value(rng: random.Random, mode: Mode) -> int:
    """A register: a pointer into the pages, an edge, a small or any number."""
    kind = rng.random()
    if kind < 0.6:
        page = rng.choice((0, 1, 2, 3, at.DATA_2, at.DATA_3, at.READ_ONLY, at.SUPERVISOR, at.UNMAPPED, 0, 1, 2, 3))
        offset = rng.choice((rng.randrange(4096), rng.randrange(0, 4096, 16), 4096 - rng.randrange(1, 17)))
        return mode.pointer(page, offset)
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
    place = mode.place
    registers = [value(rng, mode) for _ in range(16)]
    registers[4] = mode.stack(0x800 + rng.choice((0, 0, 0, 8, rng.randrange(16))))
    registers[11] &= ~0x1A_0000  # SYSRET would set VIF, and QEMU keeps that for ever
    flags = 2 | (rng.getrandbits(12) & 0xCD5) | (rng.random() < 0.2) << 8 | (rng.random() < 0.1) << 18
    flags |= rng.choice((0, 0, 0, 3)) << 12 if mode.user else 0
    fields = {"RFLAGS": flags, "LDT": 0 if place.real else rng.choice((at.LDT_SELECTOR, at.LDT_SELECTOR, 0))}
    fields |= {name: rng.choice(mode.data) for name in ("DS", "ES", "FS", "GS")}
    if mode.bits == 64:
        bases = tuple(rng.choice((0, 0x1000, 0x2000, 1 << 40)) for _ in range(3))
    else:
        bases = (0xFFFF_FFFF, 0xFFFF_FFFF, rng.choice((0, 1 << 40)))
    fields["CR0"] = place.cr0 ^ (rng.choice((2, 4, 8, 10, 1 << 16)) if rng.random() < 0.15 else 0)
    smap = 0 if not place.long else 1 << 21
    fields["CR4"] = place.cr4 ^ (rng.choice((4, 0x400, 0x200, 1 << 16, smap)) if rng.random() < 0.15 else 0)
    offset = at.CODE * 4096 + rng.randrange(0x800)
    chosen = items(rng, mode, mode.user and flags >> 12 & 3 == 3)
    return Program(mode, offset, tuple(registers), fields, _fx(rng), tuple(chosen), (bases[0], bases[1], bases[2]))
