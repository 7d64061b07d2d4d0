"""Which SSE and MMX instructions there are, up to SSE4.2, AES and PCLMULQDQ: AMD64 APM volumes 4 and 5, as data.

An entry says what an opcode is with a prefix that chooses between instructions (none, 66h, F3h or F2h). Opcodes that
are not of SSE or MMX have no entry. ModRM.reg chooses among the shifts by a constant (0F 71h to 73h), which a table by
opcodes cannot tell.
"""

from __future__ import annotations

UNDEFINED = 1
"""There is no such instruction."""
XMM, MMX = 2, 4
"""It needs CR4.OSFXSR; it uses MMX registers, so it meets pending x87 exceptions and leaves the x87 in MMX mode."""
WRITES = 8
"""It writes the MMX register in ModRM.reg."""
REGISTER, MEMORY = 16, 32
"""Its ModRM.rm is a register, or memory, only."""
ALIGNED, QUAD, DOUBLE = 64, 128, 192
"""What is said of its memory operand: it has 16 bytes and must be aligned; it has 8, or 4 bytes, where the
translator reads more."""
OPERAND = 192

ESCAPES, PREFIXES, SIZE = (0x0F, 0x38, 0x3A), (0, 0x66, 0xF3, 0xF2), 3 * 4 * 256
"""The table's three maps (0F, 0F 38, 0F 3A), the four parts of each, by prefix, and bytes of all."""

_PACKED, _M = XMM | ALIGNED, MMX | WRITES
_ROWS: dict[tuple[int, int], dict[str, int]] = {
    (0x0F, 0): {
        "10-12 16 2e-2f": XMM,
        "13 17": XMM | MEMORY,
        "14-15 28-29 51-59 5b-5f c2 c6": _PACKED,
        "2a": XMM | MMX,
        "2b": _PACKED | MEMORY,
        "2c-2d": XMM | _M | QUAD,
        "50": XMM | REGISTER,
        "5a": XMM | QUAD,
        "60-62": _M | DOUBLE,
        "63-6b 6e-70 74-76 c4 d1-d5 d8-df e0-e5 e8-ef f1-f6 f8-fe": _M,
        "71-73": MMX | REGISTER,
        "77 7e-7f": MMX,
        "c5 d7 f7": MMX | REGISTER,
        "e7": MMX | MEMORY,
    },
    (0x0F, 0x66): {
        "10-11 2e-2f 6e 7e c4 d6": XMM,
        "12-13 16-17": XMM | MEMORY,
        "14-15 28-29 51 54-5f 60-6d 6f-70 74-76 7c-7d 7f c2 c6 d0-d5 d8-df e0-e6 e8-ef f1-f6 f8-fe": _PACKED,
        "2a": XMM | MMX,
        "2b e7": _PACKED | MEMORY,
        "2c-2d": _PACKED | _M,
        "50 71-73 c5 d7 f7": XMM | REGISTER,
    },
    (0x0F, 0xF3): {
        "10-11 2a 2c-2d 51-53 58-5a 5c-5f 6f 7e-7f c2": XMM,
        "12 16 5b 70": _PACKED,
        "d6": XMM | MMX | REGISTER,
        "e6": XMM | QUAD,
    },
    (0x0F, 0xF2): {
        "10-12 2a 2c-2d 51 58-5a 5c-5f c2": XMM,
        "70 7c-7d d0 e6": _PACKED,
        "d6": XMM | _M | REGISTER,
        "f0": XMM | MEMORY,
    },
    (0x38, 0): {"00-0b 1c-1e": _M},
    (0x38, 0x66): {
        "00-0b 10 14-15 17 1c-1e 28-29 2b 37-41 db-df": _PACKED,
        "2a": _PACKED | MEMORY,
        "20-25 30-35": XMM,
    },
    (0x3A, 0): {"0f": _M},
    (0x3A, 0x66): {
        "08-09 0c-0f 40-42 44 df": _PACKED,
        "0a": XMM | DOUBLE,
        "0b": XMM | QUAD,
        "14-17 20-22 60-63": XMM,
    },
}
_OURS = {0x0F: "0e-17 28-2f 50-7f c2 c4-c6 d0-fe", 0x38: "00-ef", 0x3A: "00-ff"}
"""Opcodes that are of SSE, MMX or 3DNow!, or nothing."""


def _numbers(text: str) -> list[int]:
    ranges = [part.partition("-") for part in text.split()]
    return [n for first, _, last in ranges for n in range(int(first, 16), int(last or first, 16) + 1)]


def table() -> bytes:
    """All entries: by map, by prefix, by opcode; 0 is none."""
    entries = bytearray()
    for escape in ESCAPES:
        for prefix in PREFIXES:
            part = bytearray(256)
            for opcode in _numbers(_OURS[escape]):
                part[opcode] = UNDEFINED
            for opcodes, what in _ROWS.get((escape, prefix), {}).items():
                for opcode in _numbers(opcodes):
                    part[opcode] = what
            entries += part
    return bytes(entries)
