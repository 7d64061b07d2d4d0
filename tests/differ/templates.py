"""Instructions to choose from.

A row is opcode bytes and tokens: ``r`` a ModRM with register or memory, ``m`` memory only, ``c`` register
only, ``/n`` a ModRM with that digit, ``ib``, ``iw``, ``iz`` immediates, ``+`` a register in the opcode. In
front of ``:`` stands what is allowed: p operand-size prefix, k LOCK, s REP or REPNE, 4 not in 64-bit code, 6
in 64-bit code only, u in ring 3 only,
o only where ports are not for the program.
"""

from __future__ import annotations

import random
import re
import struct
from collections.abc import Callable

from tests.differ import layout as at
from tests.differ.modes import Mode
from tests.differ.program import END, Code, value

_ALU = [f"{n * 8 + form:02x} {'r' if form < 4 else 'ib' if form == 4 else 'iz'}" for n in range(8) for form in range(6)]
INTEGER = [
    *(f"pk: {row}" for row in _ALU),
    *(f"pk: {opcode} /{n} {imm}" for opcode, imm in (("80", "ib"), ("81", "iz"), ("83", "ib")) for n in range(8)),
    *(f"p: {op} /{n} ib" for op in ("c0", "c1") for n in range(8)),
    *(f"p: {op} /{n}" for op in ("d0", "d1", "d2", "d3") for n in range(8)),
    *(f"pk: {op} /{n} {imm}" for op, imms in (("f6", "ib"), ("f7", "iz")) for n, imm in ((0, imms), (2, ""), (3, ""))),
    *(f"p: {op} /{n}" for op in ("f6", "f7") for n in range(4, 8)),
    *(f"pk: {op}" for op in ("fe /0", "fe /1", "ff /0", "ff /1", "86 r", "87 r")),
    *(f"p: {op}" for op in ("ff /6", "84 r", "85 r", "88 r", "89 r", "8a r", "8b r", "8d m", "c6 /0 ib", "c7 /0 iz")),
    *(
        f"p: {op}"
        for op in ("69 r iz", "6b r ib", "0faf r", "63 r", "a8 ib", "a9 iz", "b0+ ib", "0fc8+", "90+", "98", "99")
    ),
    *(f"pk: 0f{op} r" for op in ("a3", "ab", "b3", "bb", "b0", "b1", "c0", "c1")),
    *(f"pk: 0fba /{n} ib" for n in range(4, 8)),
    *(f"p: 0f{op}" for op in ("a4 r ib", "a5 r", "ac r ib", "ad r", "bc r", "bd r", "b6 r", "b7 r", "be r", "bf r")),
    *(f"p: f30f{op} r" for op in ("bc", "bd", "b8")),
    *(f"p: 0f{n:02x} r" for n in range(0x40, 0x50)),
    *(f": 0f{n:02x} r" for n in range(0x90, 0xA0)),
    *("pk: 0fc7 /1", "p: 9c", "p: 9d", ": 9e", ": 9f", "p: 50+", "p: 58+", "p: 68 iz", "p: 6a ib", "p: 8f /0", ": d7"),
    *("p: c8 iw ib", "p: c9", ": f5", ": f8", ": f9", ": fc", ": fd", "p: 0f38f0 m", "p: 0f38f1 m", "p: 0f1f r"),
    *("p: f20f38f0 r", "p: f20f38f1 r", ": 660f38f6 r", ": f30f38f6 r", ": 0f0b", ": cc", ": f1", ": cd ib", "k: 90"),
    *(f"ps: {op}" for op in ("a4", "a5", "a6", "a7", "aa", "ab", "ac", "ad", "ae", "af") for _ in range(2)),
    *(f"4p: {op}" for op in ("27", "2f", "37", "3f", "d4 ib", "d5 ib", "60", "61", "62 m", "ce", "c4 m", "c5 m")),
    *(f"4p: {op}" for op in ("06", "07", "0e", "16", "17", "1e", "1f", "82 /0 ib", "40+", "48+")),
    *("c3", "c2 iw", "cb"),
    *(f"p: {op}" for op in ("c6 /0 ib", "c7 /0 iz") for _ in range(3)),
    *(f"pk: {op}" for op in ("f6 /3", "f7 /3") for _ in range(3)),
    *["p: c8 iw ib", "6: 66c8 iw ib", "p: 0fb1 r"] * 5,
]
BMI = ["01:f2", "01:f3/1", "01:f3/2", "01:f3/3", "01:f7", "11:f7", "21:f7", "31:f7", "01:f5", "21:f5", "31:f5", "31:f6"]
SYSTEM = [
    *(f"p: 0f00 /{n}" for n in (0, 1, 4, 5)),
    *("0f01 /0 m", "0f01 /1 m", "p: 0f01 /4", "0f01 /7 m", "p: 0f02 r", "p: 0f03 r", "p: 8c r", "0f06", "6: 0f01f8"),
    *(
        "p: 0fa0",
        "p: 0fa8",
        "p: 0fa1",
        "p: 0fa9",
        "p: 0fb2 m",
        "p: 0fb4 m",
        "p: 0fb5 m",
        "0f01ca",
        "0f01cb",
        "fa",
        "fb",
    ),
    *(f"6p: f30fae /{n}" for n in range(4)),
    *(
        "u: f4",
        "uo: ec",
        "u: 0f32",
        "u: 0f30",
        "u: 0f20 c",
        "u: 0f23 c",
        "u: 0f08",
        "u: 0f01 /6",
        "u: 0f01 /2",
        "u: 0f00 /3",
    ),
    *("0f05", "6: 0f07", "4: 63 r", "uo: e6 ib", "uo: 6c", "p: ff /3 m", "p: ff /5 m", "ca iw"),
]
_NO_X87 = {0xF0, 0xF1, 0xF2, 0xF3, 0xF9, 0xFB, 0xFE, 0xFF}
"""Transcendentals, whose last bits nobody defines."""
X87 = [f"d{n:x} r" for n in range(8, 16)] * 6 + [
    "9b",
    "0fae /0 m",
    "0fae /2 m",
    "0fae /3 m",
    "0fae /4 m",
    "dbe3",
    "dbe2",
    "0f77",
]
_SSE = (
    *range(0x10, 0x18),
    *range(0x28, 0x30),
    0x50,
    0x51,
    *range(0x54, 0x70),
    *range(0x74, 0x77),
    0x7C,
    0x7D,
    0x7E,
    0x7F,
)
_SSE += (0xC3, *range(0xD0, 0x100))
_SSSE3 = (
    *range(0xC),
    0x10,
    0x14,
    0x15,
    0x17,
    0x1C,
    0x1D,
    0x1E,
    *range(0x20, 0x26),
    *range(0x28, 0x2C),
    *range(0x30, 0x42),
)
_SSSE3 += (*range(0xDB, 0xE0),)
_IMM = (*range(8, 16), 0x14, 0x15, 0x16, 0x17, 0x20, 0x21, 0x22, 0x40, 0x41, 0x42, 0x44, *range(0x60, 0x64), 0xDF)
SSE = [
    *(f"{prefix}0f{op:02x} r" for op in _SSE for prefix in ("", "66", "f3", "f2")),
    *(f"{prefix}0f{op:02x} r ib" for op in (0x70, 0xC2, 0xC4, 0xC5, 0xC6) for prefix in ("", "66", "f3", "f2")),
    *(f"{prefix}0f{op} /{n} ib" for op in (71, 72, 73) for n in range(8) for prefix in ("", "66")),
    *(f"660f38{op:02x} r" for op in _SSSE3),
    *(f"0f38{op:02x} r" for op in range(0xC)),
    *(f"660f3a{op:02x} r ib" for op in (*_IMM, *(0x60, 0x61) * 16)),
]


_WILD = re.compile(r"(c3|c2|cb|ca)\b")
"""Branches to any address, which is data that would be executed."""
_FAR = re.compile(r"(p: )?(07|17|1f|c4|c5|cb|ca|0fa1|0fa9|0fb2|0fb4|0fb5|ff /3|ff /5)\b")
"""What takes any selector, with which real mode would reach everything."""


def _modrm(rng: random.Random, mode: Mode, reg: int, kind: str, size16: bool = False) -> bytes:
    """ModRM, SIB and displacement."""
    if kind == "c" or (kind == "r" and rng.random() < 0.5):
        return bytes([0xC0 | reg << 3 | rng.randrange(8)])
    mod, rm = rng.choice((0, 1, 1, 2)), rng.randrange(8)
    short, near = struct.pack("<b", rng.randrange(-64, 64)), rng.randrange(0, 0x4000)
    if size16:
        code = bytes([mod << 6 | reg << 3 | rm])
        wide = struct.pack("<H", mode.pointer(0, near) & 0xFFFF if mod == 0 else rng.randrange(0x800))
        return code + (wide if mod == 2 or (mod == 0 and rm == 6) else short if mod == 1 else b"")
    code = bytes([mod << 6 | reg << 3 | rm])
    base = rm
    if rm == 4:
        base = rng.randrange(8)
        index = rng.choice((4, 4, 4, 1, rng.randrange(8)))
        code += bytes([rng.randrange(4) << 6 | index << 3 | base])
    if mod == 0 and base == 5:
        if rm == 5 and mode.bits == 64:
            return code + struct.pack("<i", rng.choice((-0x8000, -0x9000, 0x2000)) + rng.randrange(0x800))
        return code + struct.pack("<i", mode.pointer(0, near))
    return code + (short if mod == 1 else struct.pack("<i", rng.randrange(-256, 256)) if mod == 2 else b"")


def encode(rng: random.Random, mode: Mode, row: str, ports: bool) -> bytes | None:
    """One instruction of a row, or nothing where the row is not for the mode, or not where it has ports."""
    options, _, text = row.rpartition(": ")
    if (
        ("4" in options and mode.bits == 64)
        or ("6" in options and mode.bits != 64)
        or ("u" in options and not mode.user)
        or ("o" in options and ports)
        or (text == "0f05" and not mode.place.paging)  # its stack is everywhere
        or (_WILD.search(text) and not mode.place.contained)
        or (_FAR.search(row.lstrip("4")) and mode.place.real)
    ):
        return None
    first, *tokens = text.split()
    plus = first.endswith("+")
    opcode = bytearray.fromhex(first.rstrip("+"))
    prefix, wide16 = b"", mode.bits == 16
    locked = "k" in options and rng.random() < 0.15
    if locked:
        prefix += b"\xf0"
    if "s" in options:
        prefix += rng.choice((b"", b"\xf2", b"\xf3", b"\xf3"))
    if "p" in options and rng.random() < 0.2:
        prefix += b"\x66"
        wide16 = not wide16
    size16 = mode.near
    if mode.near and mode.bits == 32:
        prefix += b"\x67"
    elif mode.place.paging and rng.random() < 0.04:
        prefix += b"\x67"
        size16 = mode.bits == 32
    if rng.random() < 0.1:
        prefix += rng.choice((b"\x64", b"\x65", b"\x26", b"\x2e", b"\x36", b"\x3e"))
    if opcode[0] in (0x66, 0xF2, 0xF3) and len(opcode) > 1:
        prefix += opcode[:1]
        opcode = opcode[1:]
    if mode.bits == 64 and rng.random() < 0.5 and not 0x40 <= opcode[0] < 0x50:
        prefix += bytes([0x40 | rng.choice((8, 8, rng.randrange(16)))])
        wide16 = wide16 and not prefix[-1] & 8
    if plus and opcode[0] == 0x0F and wide16:
        return None  # BSWAP of 16 bits, which nobody defines
    if plus:
        opcode[-1] += rng.randrange(8)
    body = bytes(opcode)
    reg, kind = rng.randrange(8), "r"
    bits = (
        locked and body[0] == 0x0F and body[1] in (0xA3, 0xAB, 0xB3, 0xBB, 0xBA)
    )  # with registers it is the end of QEMU
    for token in tokens:
        if token[0] == "/":
            reg = int(token[1])
            if "m" not in tokens:
                body += _modrm(rng, mode, reg, "m" if bits else "r", size16)
        elif token in "rmc":
            kind = "m" if bits else token
            code = _modrm(rng, mode, reg, kind, size16)
            if body == b"\xd9" and code[0] in _NO_X87:
                return None
            body += code
        elif token == "ib":
            byte = rng.choice((rng.randrange(256), rng.randrange(8), 0x80, 0xFF))
            body += bytes([byte])
        elif token == "iw":
            body += struct.pack("<H", rng.choice((0, 4, 8, 16, rng.randrange(64))))
        elif token == "iz":
            number = rng.choice((rng.getrandbits(32), rng.randrange(256), value(rng, mode) & 0xFFFF_FFFF))
            body += struct.pack("<I", number)[: 2 if wide16 else 4]
    return prefix + body


def _vex(rng: random.Random, mode: Mode) -> bytes:
    which, _, op = rng.choice(BMI).partition(":")
    op, _, digit = op.partition("/")
    wide = rng.random() < 0.5 and mode.bits == 64
    code = bytes(
        [
            0xC4,
            0xE2,
            wide << 7 | (rng.randrange(8, 16)) << 3 | (0, 0, 1, 2, 3)[int(which[0]) + 1 if which[0] != "0" else 0],
        ]
    )
    reg = int(digit) if digit else rng.randrange(8)
    address = b"\x67" if mode.near and mode.bits == 32 else b""
    return address + code + bytes.fromhex(op) + _modrm(rng, mode, reg, "r", mode.near)


_SELECTORS = [*range(0, at.FAULT_SELECTOR, 8), 0x118, 0x120, 0x128, 0x130, 4, 0x0C, 0x14, 0x1C, 0x24, 0x2C, 0x44]
_SELECTORS += [0x1000, 0x18, 0x20, 0x28, 0x78, 0x10, 0x08, 0, 0, 0xE0]

_CODE16, _CODE32 = {0x08, 0x28, 0x38, 0x68, 0xE8, 0x118, 0x1C, 0x2C}, {0x18, 0x30, 0x70, 0xD8, 0x14}
_SAME_WIDTH = {bits: [n for n in _SELECTORS if n not in other] for bits, other in ((16, _CODE32), (32, _CODE16))}


def selector(rng: random.Random, mode: Mode) -> int:
    """One of the tables, with some RPL; in real mode 64 KiB that programs may write."""
    if mode.place.real:
        return rng.choice(mode.data)
    if not mode.place.paging:  # code of the other width would address by 32 bits
        return rng.choice(_SAME_WIDTH[mode.bits]) | rng.choice((0, 0, 3, 3, 1, 2))
    return rng.choice(_SELECTORS) | rng.choice((0, 0, 3, 3, 1, 2))


def _move(mode: Mode, register: int, number: int) -> bytes:
    """MOV of 32 bits (zero-extended) to a register."""
    return (b"\x66" if mode.bits == 16 else b"") + bytes([0xB8 + register]) + struct.pack("<I", number & 0xFFFF_FFFF)


def _push(mode: Mode, number: int) -> bytes:
    """PUSH of a full word of the mode."""
    return b"\x68" + struct.pack("<I", number & 0xFFFF_FFFF)[: 2 if mode.bits == 16 else 4]


def _with_selector(rng: random.Random, mode: Mode) -> Code:
    op = rng.choice(
        (
            "8ed8",
            "8ec0",
            "8ee0",
            "8ee8",
            "8ed0",
            "0f00e0",
            "0f00e8",
            "0f02c8",
            "0f03c8",
            "50-1f",
            "0f00d0",
            "0f00d8",
            "63c8",
        )
    )
    if op == "8ed0" and mode.place.real:  # the stack would get to where it wipes out everything
        op = "8ed8"
    if op == "0f00d8" or (op == "50-1f" and mode.bits == 64) or (op == "63c8" and mode.bits == 64):
        op = "8ee8"
    code = _move(mode, 0, selector(rng, mode)) + bytes.fromhex(op.replace("-", ""))
    return lambda _: code


def _through(mode: Mode, digit: int, op: bytes = b"\xff") -> bytes:
    """An instruction whose operand is on the stack: by BP where nothing stops a wild ESP."""
    if mode.near:
        return b"\x89\xe5" + (b"\x67" if mode.bits == 32 else b"") + op + bytes([0x46 | digit << 3, 0])
    return op + bytes([0x44 | digit << 3, 0x24, 0xFC if mode.bits == 64 and op == b"\xff" else 0])


def _far_real(rng: random.Random, mode: Mode) -> Code:
    """The same in real mode: several selectors lead to right behind, by offsets of 16 bits. A pointer lies within the
    stack, beyond whose end is nobody's memory.
    """
    stack = b"\xbc" + struct.pack("<H", mode.stack(0x800))
    chosen = mode.cs - rng.choice((0, 0, 1, 0x80, 0x36F))
    further = (mode.cs - chosen) * 16
    kind = rng.choice(("retf", "iret", "jmp", "call", "direct"))
    flags = rng.getrandbits(12) & 0xCD5 | rng.choice((0, 0, 0x4000, 0x100, 0x3000))
    op = rng.choice((b"\xea", b"\x9a"))

    def code(behind: int) -> bytes:
        offset = behind + further & 0xFFFF
        if kind == "direct":
            return op + struct.pack("<HH", offset, chosen)
        push = (_push(mode, flags) if kind == "iret" else b"") + _push(mode, chosen) + _push(mode, offset)
        if kind in ("jmp", "call"):
            return stack + push + _through(mode, 5 if kind == "jmp" else 3)
        return push + (b"\xcf" if kind == "iret" else b"\xcb")

    return code


def _near(rng: random.Random, mode: Mode) -> Code:
    """Returns and indirect jumps and calls to right behind."""
    kind = rng.choice(("ret", "ret", "ret iw", "jmp", "call"))
    size = rng.choice((0, 2, 4, 8, 0x10))

    def code(behind: int) -> bytes:
        if kind in ("jmp", "call"):
            return _move(mode, 0, behind) + (b"\xff\xe0" if kind == "jmp" else b"\xff\xd0")
        return _push(mode, behind) + (b"\xc3" if kind == "ret" else b"\xc2" + struct.pack("<H", size))

    return code


def _far(rng: random.Random, mode: Mode) -> Code:
    """Far jumps, calls and returns, and IRET, to right behind them; with other selectors often."""
    cs, ss = mode.cs, mode.ss
    if mode.place.real:
        return _far_real(rng, mode)
    others = (0x08, 0x1B, 0x2B, 0x33, 0x68, 0xDB) if mode.place.paging else (cs,)
    chosen = rng.choice((cs, cs, selector(rng, mode), *others, 0x83))
    kind = rng.choice(
        ("retf", "iret", "iret", "jmp", "call") if mode.bits == 64 else ("retf", "iret", "jmp", "call", "direct")
    )
    rex = b"\x48" if mode.bits == 64 else b""
    wrong = rng.random() < 0.1
    if kind == "direct":
        op = rng.choice((b"\xea", b"\x9a"))
        size = 2 if mode.bits == 16 else 4
        return lambda behind: op + struct.pack("<I", behind)[:size] + struct.pack("<H", chosen)
    if kind in ("jmp", "call"):
        through = _through(mode, 5 if kind == "jmp" else 3)
        if mode.bits == 64:  # 16:32, which is not what two pushes of quadwords make
            push = b"\x6a\x00\x68" + struct.pack("<I", chosen)
            return lambda behind: push + b"\xc7\x44\x24\xfc" + struct.pack("<I", behind) + through
        return lambda behind: _push(mode, chosen) + _push(mode, behind) + through
    stack = rng.choice((ss, ss, ss, selector(rng, mode)))
    flags = 2 | rng.getrandbits(12) & 0x8D5 | rng.choice((0, 0, 0x10000, 0x4000, 0x100, 0x3000, 0x200, 0x40000))
    if not mode.user:
        flags &= ~0x200
    top = mode.stack(0xA00)
    outer = chosen & 3 != cs & 3 or mode.bits == 64

    def frame(behind: int) -> bytes:
        bad = b"\xc6\x44\x24\x07\x7f" if wrong and mode.bits == 64 else b""  # a RIP that is not canonical
        code = b""
        if kind == "iret":
            if outer:
                code += _push(mode, stack) + _push(mode, top)
            code += _push(mode, flags)
            return code + _push(mode, chosen) + _push(mode, behind) + bad + rex + b"\xcf"
        if chosen & 3 != cs & 3:
            code += _push(mode, stack) + _push(mode, top)
        return code + _push(mode, chosen) + _push(mode, behind) + bad + rex + b"\xcb"

    return frame


def _control(rng: random.Random, mode: Mode) -> Code:
    """Writes of control and debug registers, MSRs and table registers in ring 0."""
    move = b"\x48\xb8" if mode.bits == 64 else b"\xb8"
    cut = 8 if mode.bits == 64 else 4
    which = rng.choice(("cr0", "cr4", "dr", "msr", "lmsw", "lgdt", "sysret", "read"))
    if which == "lgdt" and mode.place.long and mode.bits == 32:
        which = "read"  # behind a transfer to 64-bit code it would load anything, and QEMU does not look at it
    if which == "sysret" and not mode.place.paging:
        which = "read"  # its stack is everywhere
    number, op = 0, b""
    if which == "cr0":
        number = mode.place.cr0 ^ rng.choice((2, 4, 8, 32, 0x10000, 0x40000, 0x4000_0000, 0x2000_0000, 1 << 40))
        op = b"\x0f\x22\xc0"
    elif which == "cr4":
        number = mode.place.cr4 ^ rng.choice((2, 4, 8, 16, 64, 128, 0x200, 0x400, 1 << 20, 1 << 21))
        op = b"\x0f\x22\xe0"
    elif which == "dr":
        number = rng.choice((0, rng.getrandbits(16) & 0xDC00, 1 << 32, at.LIVE, 0x400, 0xFFFF_0FF0))
        op = bytes([0x0F, 0x23, 0xC0 | rng.choice((0, 1, 2, 3, 4, 5, 6, 7)) << 3])
        if op[2] >= 0xE8 and number == at.LIVE:
            number = 0x400
    elif which == "msr":
        msr = rng.choice((0xC0000100, 0xC0000101, 0xC0000102, 0xDEAD))
        high = rng.choice((0, 0x100, 0x8000, 0xFFFF8000, 0xFFFF0000))
        code = (
            _move(mode, 1, msr)
            + _move(mode, 0, at.LIVE)
            + _move(mode, 2, high)
            + rng.choice((b"\x0f\x30", b"\x0f\x32"))
        )
        return lambda _: code
    elif which == "lmsw":
        number, op = rng.choice((1, 3, 7, 0xB, 0)), b"\x0f\x01\xf0"
    elif which == "lgdt":
        base = mode.place.live + at.GDT
        pair = (
            b"\x48\xb8" + struct.pack("<Q", base << 16 & (1 << 64) - 1)
            if mode.bits == 64
            else _move(mode, 0, base << 16)
        )
        high = _move(mode, 1, base >> 48 if mode.bits == 64 else base >> 16)
        limit = b"\x66\xb8" + struct.pack("<H", rng.choice((at.GDT_LIMIT, 0x3FF)))
        code = high + pair + limit + b"\x51\x50" + _through(mode, 2, b"\x0f\x01")
        return lambda _: code
    elif which == "sysret":
        rex = rng.choice((b"", b"\x48"))
        flags = 2 | rng.getrandbits(12) & 0x8D5 | rng.choice((0, 0x10000, 0x100))
        if mode.bits != 64:
            return lambda behind: _move(mode, 1, behind) + b"\x0f\x07"
        return lambda behind: _move(mode, 1, behind) + b"\x49\xc7\xc3" + struct.pack("<I", flags) + rex + b"\x0f\x07"
    else:
        code = bytes([0x0F, rng.choice((0x20, 0x21)), 0xC0 | rng.randrange(8) << 3 | rng.choice((0, 1, 2, 3))])
        return lambda _: code
    code = move + struct.pack("<Q", number)[:cut] + op
    return lambda _: code


def _low_stack(rng: random.Random, mode: Mode) -> Code:
    """The end, on a stack that no frame fits on."""
    code = _move(mode, 4, rng.choice((1, 3, 5, 7, 9))) + END
    return lambda _: code


def _jump(rng: random.Random, mode: Mode, over: bytes) -> Code:
    """A forward branch over an instruction."""
    op = rng.choice([*(bytes([n]) for n in range(0x70, 0x80)), b"\xe0", b"\xe1", b"\xe2", b"\xe3", b"\xeb"])
    if rng.random() < 0.2:
        size = 2 if mode.bits == 16 else 4
        op = rng.choice((b"\xe8", b"\xe9", bytes([0x0F, 0x80 + rng.randrange(16)])))
        return lambda _: op + len(over).to_bytes(size, "little") + over
    return lambda _: op + bytes([len(over)]) + over


def items(rng: random.Random, mode: Mode, ports: bool) -> list[Code]:
    """Some instructions of a program that may, or may not, use ports."""
    tables: list[list[str]] = [INTEGER, INTEGER, INTEGER, SYSTEM, X87, SSE, SSE]
    favourite = rng.choice(tables)
    result: list[Code] = []
    length = 0
    others: list[Callable[[random.Random, Mode], Code]] = [_with_selector, _far]
    if not mode.place.real:  # where other selectors lead to the same place by other offsets
        others.append(_near)
    if not mode.user and mode.bits != 16:
        others.append(_control)

    def plain() -> bytes:
        while True:
            if rng.random() < 0.04:
                return _vex(rng, mode)
            code = encode(rng, mode, rng.choice(favourite if rng.random() < 0.6 else rng.choice(tables)), ports)
            if code is not None:
                return code

    for _ in range(rng.randrange(1, 12)):
        kind = rng.random()
        if kind < 0.004 and not mode.user and not mode.place.long:
            item = _low_stack(rng, mode)
        elif kind < 0.08:
            item = _jump(rng, mode, plain())
        elif kind < 0.3:
            item = rng.choice(others)(rng, mode)
        else:
            item = (lambda code: lambda _: code)(plain())
        length += len(item(0))
        if length > at.CODE_SIZE - 16:
            break
        result.append(item)
    return result
