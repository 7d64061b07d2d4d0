"""Random instructions: system instructions with random operands, memory traffic, arithmetic of every kind on integers,
floating point and vectors, and plain noise. No instruction is left out.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

_MODRM = (
    "0f00 0f01 0f01 0f01 0f02 0f03 0f20 0f20 0f21 0f22 0f22 0f23 0fae 0fc7 0fb2 0fb4 0fb5 8e 8e 8c c4 c5 ff ff 8b "
    "89 87 f7 d3 "
    "0fb0 0fb1 0fc0 0fc1 0fa3 0fab 0fb3 0fbb 0fba 01 11 29 31 39 62 63 8d 8f fe d8 d9 da db dc dd de df 0f10 0f11 0f12 "
    "0f16 0f28 0f29 0f2b 0f38 0f3a 0f50 0f6f 0f7f 0fc2 0fc6 0fd6 0fe7 0ff0 0ff7 0f0d 0f18 0f1f 0f0f 0f78 0f79"
).split()
_PLAIN = (
    "0f06 0f30 0f32 0f30 0f32 0fa2 0f31 0f33 0f08 0f09 0f05 0f05 0f07 0f34 0f35 0fa0 0fa1 0fa8 0fa9 0f0b 0f77 "
    "0faa 9c 9d 9d "
    "fa fb fb f4 cc ce cf cf cb f1 ec ed ee ef 6c 6d 6e 6f a4 a5 a6 a7 aa ab ac ad ae af 06 07 0e 16 17 1e 1f 60 "
    "61 c9 98 99 "
    "d7 27 2f 37 3f 9b 9e 9f d6 f390 0f01c1 0f01d9 0f01c8 0f01c9 0f01d0 0f01d1 0f01d8 0f01da 0f01db 0f01dc 0f01dd "
    "0f01de "
    "0f01df 0f01f8 0f01f9 0f01fa 0f01fb 0f01fc 0f01ca 0f01cb 0f01ee 0f01ef 0f01d5 0f01d6 50 54 58 5c 90 c3 48cf "
    "4f 48 0fc8"
).split()
_WITH_BYTE = "cd cd e4 e5 e6 e7 eb 70 75 e2 e3 6a d4 d5 c8 b0 04 0c 24".split()
_ARITHMETIC = bytes(
    (*(row | column for row in range(0, 0x40, 8) for column in range(6)), *range(0x40, 0x50), 0x69, 0x6B,
     *range(0x80, 0x88), 0xC0, 0xC1, *range(0xD0, 0xD4), *range(0xD8, 0xE0), 0xF6, 0xF7, 0xF6, 0xF7, 0xFE)
)  # fmt: skip
_MAPS = (b"\x0f", b"\x0f", b"\x0f\x38", b"\x0f\x3a", b"\x0f\x3a")
_STRING_COMPARES = range(0x60, 0x64)
EXTREMES = (
    *range(-17, 18), 0x7F, 0x80, 0x8000, 0x7FFFFFFF, 0x80000000, 0x80000001, 0xFFFFFFFF, 0x100000000, 1 << 63,
    (1 << 63) - 1,
)  # fmt: skip
"""Lengths, counts, divisors and dividends at which arithmetic turns over."""
_TURNS = (0, 0, 1, -1, -1, 0x7FFFFFFF, 0x80000000, 0x80000000, 1 << 63)
_ACCUMULATORS = (0, 1, 2)
_PREFIXES = bytes.fromhex("2e363e266465666766f0f2f3f2f30f4048494a4c4f")
_REGISTERS = 8


def _prefixes(random: Random) -> bytes:
    roll = random.random()
    if roll < 0.7:
        return b""
    if roll < 0.98:
        return bytes(random.choices(_PREFIXES, k=random.randint(1, 3)))
    return bytes(random.choices(_PREFIXES, k=random.randint(8, 24)))


def _modrm(random: Random) -> bytes:
    """A ModRM byte with whatever may follow it, long enough for any form."""
    return bytes([random.getrandbits(8)]) + random.choice(
        (b"", random.randbytes(1), random.randbytes(4), random.randbytes(5))
    )


def _operands(random: Random) -> bytes:
    """ModRM, registers more often than not, and what may follow it."""
    register = 0xC0 if random.random() < 0.7 else 0
    return bytes([random.getrandbits(8) | register]) + random.randbytes(random.choice((1, 1, 2, 4, 5)))


def _rex(random: Random, width: int) -> bytes:
    return bytes([0x40 | random.getrandbits(4)]) if width == 64 and random.random() < 0.4 else b""


def _arithmetic(random: Random, width: int) -> bytes:
    """An integer or x87 instruction."""
    prefix = random.choice((b"", b"", b"\x66", b"\xf0"))
    return prefix + _rex(random, width) + bytes([random.choice(_ARITHMETIC)]) + _operands(random)


def _vector(random: Random, width: int) -> bytes:
    """Any opcode of the three maps behind 0F, with any of the prefixes that choose among MMX and SSE."""
    opcodes = random.choice(_MAPS)
    opcode = random.choice(_STRING_COMPARES) if opcodes[-1] == 0x3A and random.random() < 0.3 else random.getrandbits(8)
    prefix = random.choice((b"", b"\x66", b"\x66", b"\xf2", b"\xf3"))
    return prefix + _rex(random, width) + opcodes + bytes([opcode]) + _operands(random)


def _turning(random: Random, width: int) -> bytes:
    """A division, a string compare or other arithmetic, with an extreme value in each register that such instructions
    take without being told.
    """

    def extreme() -> int:
        return random.choice(random.choice((EXTREMES, _TURNS))) & (1 << 64) - 1

    loads = [_load(random, max(width, 32), extreme, register) for register in _ACCUMULATORS]
    kind = random.randrange(4)
    if kind == 0:
        operand = 0xF0 | random.choice((0, 8)) | random.choice(_ACCUMULATORS)
        instruction = _rex(random, width) + bytes((random.choice((0xF6, 0xF7, 0xF7)), operand))
    elif kind == 1:
        opcode = bytes((0x3A, random.choice(_STRING_COMPARES)))
        instruction = b"\x66" + _rex(random, width) + b"\x0f" + opcode + _operands(random)
    else:
        instruction = (_arithmetic, _vector)[kind - 2](random, width)
    return b"".join(b"\x66" * (width == 16) + load for load in loads) + b"\x66" * (width == 16) + instruction


def _far(random: Random, width: int) -> bytes:
    offset = random.choice((0x10000, 0x20000, 0x600, random.getrandbits(32))).to_bytes(4, "little")
    selector = (random.randrange(64) << 3 | random.randrange(8)).to_bytes(2, "little")
    return random.choice((b"\x9a", b"\xea")) + offset[: 2 if width == 16 else 4] + selector


def _load(random: Random, width: int, values: Callable[[], int], register: int | None = None) -> bytes:
    """MOV register, interesting value."""
    register = random.randrange(_REGISTERS) if register is None else register
    if width == 64 and random.random() < 0.5:
        return bytes([0x48, 0xB8 | register]) + values().to_bytes(8, "little")
    return bytes([0xB8 | register]) + (values() & (1 << (16 if width == 16 else 32)) - 1).to_bytes(
        2 if width == 16 else 4, "little"
    )


def one(random: Random, width: int, values: Callable[[], int]) -> bytes:
    """One instruction, or something that looks like one. ``values`` gives numbers that matter to the machine."""
    roll = random.random()
    if roll < 0.25:
        return _load(random, width, values)
    if roll < 0.35:
        return _arithmetic(random, width)
    if roll < 0.43:
        return _vector(random, width)
    if roll < 0.5:
        return _turning(random, width)
    if roll < 0.68:
        return _prefixes(random) + bytes.fromhex(random.choice(_MODRM)) + _modrm(random)
    if roll < 0.86:
        return _prefixes(random) + bytes.fromhex(random.choice(_PLAIN))
    if roll < 0.93:
        return _prefixes(random) + bytes.fromhex(random.choice(_WITH_BYTE)) + random.randbytes(1)
    if roll < 0.97:
        return _prefixes(random) + _far(random, width)
    return random.randbytes(random.randint(1, 8))


def load_state(width: int, address: int) -> bytes:
    """FXRSTOR from an address: whatever lies there becomes the state of x87, MMX and SSE."""
    where = {16: b"\x0e", 32: b"\x0d", 64: b"\x0c\x25"}[width]
    return b"\x0f\xae" + where + address.to_bytes(4, "little")[: 2 if width == 16 else 4]


def program(random: Random, width: int, size: int, values: Callable[[], int]) -> bytes:
    """About ``size`` bytes of instructions."""
    code = bytearray()
    while len(code) < size:
        code += one(random, width, values)
    return bytes(code)
