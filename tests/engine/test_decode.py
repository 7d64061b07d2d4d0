"""The decoder for instructions that trap, against capstone, with random prefixes, operands and registers."""

from __future__ import annotations

import os
import random
from typing import Any

import capstone
import pytest
from capstone import x86_const as x86

from hypervisor.arch.segments import Segment
from hypervisor.engine import block as b
from hypervisor.engine.state import GPR
from tests.engine.machine import Machine, machine

CASES = 30_000 if os.environ.get("HYPERVISOR_STRESS") else 2_500
SIZE = 0x40000
MODES = {16: capstone.CS_MODE_16, 32: capstone.CS_MODE_32, 64: capstone.CS_MODE_64}
EFER_LMA, LONG, WIDE = 0x400, 0x200, 0x400

PLAIN = (
    *(bytes((0x0F, n)) for n in (0x05, 0x06, 0x08, 0x09, 0x30, 0x31, 0x32, 0x33, 0x34, 0xA2, 0xA0, 0xA1, 0xA8, 0xA9)),
    *(bytes((0x0F, 0x01, n)) for n in (0xC1, 0xC8, 0xC9, *range(0xD8, 0xE0), 0xF8, 0xF9)),
    *(bytes((n,)) for n in (0xF4, 0xCC, 0xF1, 0x6C, 0x6D, 0x6E, 0x6F, 0xEC, 0xED, 0xEE, 0xEF, 0xCF, 0x9C, 0x9D, 0xCB)),
)
ONLY_LEGACY = (b"\xce", b"\x07", b"\x17", b"\x1f")
WITH_BYTE = (b"\xcd", b"\xe4", b"\xe5", b"\xe6", b"\xe7")
MODRM = (
    *((b"\x0f\x00", n) for n in range(6)),
    *((b"\x0f\x01", n) for n in (0, 1, 2, 3, 4, 6, 7)),
    *((bytes((0x0F, n)), None) for n in (0x02, 0x03, 0xB2, 0xB4, 0xB5)),
    (b"\x8e", None), (b"\x8c", None), (b"\xff", 3), (b"\xff", 5), (b"\x0f\x0d", 1),
)  # fmt: skip
MODRM_LEGACY = ((b"\xc4", None), (b"\xc5", None))
ONLY_MEMORY = (b"\xff", b"\xc4", b"\xc5", *(bytes((0x0F, n)) for n in (0xB2, 0xB4, 0xB5, 0x0D)))
CONTROL = tuple(bytes((0x0F, n)) for n in (0x20, 0x21, 0x22, 0x23))
RANDOMNESS = (6, 7)
SEGMENTS = {x86.X86_REG_ES: "es", x86.X86_REG_CS: "cs", x86.X86_REG_SS: "ss", x86.X86_REG_DS: "ds",
            x86.X86_REG_FS: "fs", x86.X86_REG_GS: "gs"}  # fmt: skip
NUMBERS = {"eax": 0, "ecx": 1, "edx": 2, "ebx": 3, "esp": 4, "ebp": 5, "esi": 6, "edi": 7,
           "ax": 0, "cx": 1, "dx": 2, "bx": 3, "sp": 4, "bp": 5, "si": 6, "di": 7}  # fmt: skip


def number(name: str) -> int:
    """Number of a general-purpose, control or debug register."""
    if name in NUMBERS:
        return NUMBERS[name]
    if name in GPR:
        return GPR.index(name)
    return int("".join(c for c in name if c.isdigit()))


def prefixes(rng: random.Random, mode: int) -> bytes:
    legacy = [group for group in (
        rng.choice((b"\x26", b"\x2e", b"\x36", b"\x3e", b"\x64", b"\x65")) if rng.random() < 0.3 else b"",
        b"\x66" if rng.random() < 0.2 else b"",
        b"\x67" if rng.random() < 0.2 else b"",
        rng.choice((b"\xf2", b"\xf3")) if rng.random() < 0.1 else b"",
    ) if group]  # fmt: skip
    rng.shuffle(legacy)
    rex = bytes((0x40 | rng.randrange(16),)) if mode == 64 and rng.random() < 0.4 else b""
    return b"".join(legacy) + rex


def modrm(rng: random.Random, reg: int | None, mod: int | None = None) -> bytes:
    mod = rng.randrange(4) if mod is None else mod
    reg = rng.randrange(8) if reg is None else reg
    return bytes((mod << 6 | reg << 3 | rng.randrange(8),)) + rng.randbytes(5)


def instruction(rng: random.Random, mode: int) -> bytes:
    """One instruction with more bytes behind it than it can need."""
    kind = rng.random()
    if kind < 0.2:
        body = rng.choice(PLAIN + (ONLY_LEGACY if mode != 64 else ()))
    elif kind < 0.25:
        body = rng.choice(WITH_BYTE) + rng.randbytes(1)
    elif kind < 0.35:
        body = rng.choice(CONTROL) + modrm(rng, None, 3)
    elif kind < 0.38:
        body = b"\x0f\xc7" + modrm(rng, rng.choice(RANDOMNESS), 3)
    elif kind < 0.42 and mode != 64:
        body = rng.choice((b"\xea", b"\x9a")) + rng.randbytes(6)
    else:
        opcode, reg = rng.choice(MODRM + (MODRM_LEGACY if mode != 64 else ()))
        only_memory = opcode in ONLY_MEMORY or (opcode == b"\x0f\x01" and reg in (0, 1, 2, 3, 7))
        body = opcode + modrm(rng, reg, rng.randrange(3) if only_memory else None)
    return prefixes(rng, mode) + body + b"\x90" * 8


def set_mode(guest: Machine, mode: int, rng: random.Random) -> None:
    registers = guest.registers
    for name in GPR:
        registers.set(name, rng.getrandbits(64) if rng.random() < 0.7 else rng.getrandbits(16))
    for name in ("es", "ss", "ds", "fs", "gs"):
        registers.set_segment(name, Segment(0, rng.getrandbits(64 if mode == 64 else 32), 0xFFFFFFFF, 0xC93))
    attributes = 0x9B | (LONG if mode == 64 else WIDE if mode == 32 else 0)
    base = 0 if mode == 64 else rng.randrange(0, 0x10000, 16)
    registers.set_segment("cs", Segment(0, base, 0xFFFFFFFF, attributes))
    registers.set("cr0", 0x10 if mode == 16 else 0x11)  # no paging, also not in long mode: the walk does not mind
    registers.set("efer", EFER_LMA if mode == 64 else 0)
    registers.set("cr4", 0)
    registers.set("rip", rng.randrange(0x1000, 0xFF00))
    guest.pcpu.sync()


def effective_address(guest: Machine, insn: Any, operand: Any, mode: int) -> int:
    """The linear address of a memory operand, from capstone's parts."""
    registers, memory = guest.registers, operand.mem
    width = 8 * insn.addr_size

    def value(register: int) -> int:
        if not register:
            return 0
        name = insn.reg_name(register)
        if name in ("rip", "eip"):
            return registers.get("rip") + insn.size
        if name in ("riz", "eiz"):
            return 0
        if name.rstrip("d") in GPR[8:]:
            return registers.get(name.rstrip("d"))
        return registers.get(GPR[number(name)])

    offset = (value(memory.base) + value(memory.index) * memory.scale + memory.disp) & ((1 << width) - 1)
    segment = SEGMENTS.get(memory.segment)
    if segment is None:
        base = insn.reg_name(memory.base) if memory.base else ""
        segment = "ss" if base in ("bp", "ebp", "esp", "rbp", "rsp") else "ds"
    if mode == 64:
        base = registers.segment(segment).base if segment in ("fs", "gs") else 0
        return (base + offset) & ((1 << 64) - 1)
    return (registers.segment(segment).base + offset) & 0xFFFFFFFF


def check(guest: Machine, disassembler: capstone.Cs, code: bytes, mode: int) -> bool:
    """Compare one instruction; False if capstone does not know it."""
    at = guest.registers.segment("cs").base + guest.registers.get("rip")
    guest.memory[at : at + len(code)] = code
    insn = next(disassembler.disasm(code, guest.registers.get("rip"), count=1), None)
    if insn is None or insn.size > len(code) - 1:
        return False
    text = f"{mode}-bit {code[: insn.size].hex()} {insn.mnemonic} {insn.op_str}"
    assert guest.pcpu.decode() == insn.size, text
    opcode = guest.word(b.D_OPCODE)
    if guest.word(b.D_MODRM) < 0:
        if opcode in (0xCD, 0xE4, 0xE5, 0xE6, 0xE7):
            assert guest.word(b.D_IMMEDIATE) == code[insn.size - 1], text
        return True
    operands = insn.operands
    memory = [operand for operand in operands if operand.type == x86.X86_OP_MEM]
    if memory:
        expected = effective_address(guest, insn, memory[0], mode)
        assert guest.word(b.D_EA) & ((1 << 64) - 1) == expected, f"{text}: {guest.word(b.D_EA):#x}, not {expected:#x}"
        assert guest.word(b.D_ADDRESS_SIZE) == insn.addr_size, text
    elif opcode in (0x0F20, 0x0F21, 0x0F22, 0x0F23):
        special, general = (0, 1) if opcode >= 0x0F22 else (1, 0)
        names = [insn.reg_name(operand.reg) for operand in operands]
        assert guest.word(b.D_REG) == number(names[special]), text
        assert guest.word(b.D_RM) == number(names[general]), text
    elif opcode in (0x0F00, 0x0FC7) or insn.mnemonic in ("smsw", "lmsw"):
        assert guest.word(b.D_RM) == number(insn.reg_name(operands[0].reg)), text
        if insn.mnemonic in ("smsw", "str", "sldt", "rdrand", "rdseed"):
            assert guest.word(b.D_SIZE) == operands[0].size, text
    return True


@pytest.mark.parametrize("mode", MODES)
def test_random_instructions(mode: int) -> None:
    guest = machine(SIZE)
    disassembler = capstone.Cs(capstone.CS_ARCH_X86, MODES[mode])
    disassembler.detail = True
    rng = random.Random(f"decode {mode}")
    known = 0
    for n in range(CASES):
        if n % 16 == 0:
            set_mode(guest, mode, rng)
        known += check(guest, disassembler, instruction(rng, mode), mode)
    assert known > CASES * 0.8, known


def decode64(guest: Machine, code: str) -> int:
    """Decode one 64-bit instruction at 0x2000, with RAX = 0x100, RBX = 0x200 and FS at 0x7000."""
    set_mode(guest, 64, random.Random(0))
    registers = guest.registers
    for name, value in (("rax", 0x100), ("rbx", 0x200), ("rip", 0x2000)):
        registers.set(name, value)
    registers.set_segment("fs", Segment(0, 0x7000, 0xFFFFFFFF, 0xC93))
    guest.pcpu.sync()
    guest.memory[0x2000:0x2020] = bytes.fromhex(code).ljust(32, b"\x90")
    return guest.pcpu.decode()


@pytest.mark.parametrize(
    ("code", "length", "opcode", "address"),
    [
        ("480f0138", 4, 0x0F01, 0x100),  # invlpg [rax]
        ("642e0f0138", 5, 0x0F01, 0x7100),  # CS is no override in 64-bit mode, FS before it stays
        ("2e640f0138", 5, 0x0F01, 0x7100),
        ("41660f0138", 5, 0x0F01, 0x100),  # REX.B before a legacy prefix is ignored
        ("660f013c1d10000000", 9, 0x0F01, 0x210),  # [rbx + 0x10] by SIB without a base
        ("0f013d10000000", 7, 0x0F01, 0x2017),  # [rip + 0x10]
        ("670f013d10000000", 8, 0x0F01, 0x2018),
        ("f00f20c0", 4, 0x0F20, 0),  # LOCK MOV CR0 is CR8 on AMD
        ("0f2000", 3, 0x0F20, 0),  # MOV CR ignores mod: still a register, and no displacement
        ("0f204012", 3, 0x0F20, 0),
        ("c5f86f00", 0, -1, 0),  # VEX
        ("c4e27900", 0, -1, 0),
    ],
)
def test_by_hand(code: str, length: int, opcode: int, address: int) -> None:
    guest = machine(SIZE)
    assert decode64(guest, code) == length
    assert guest.word(b.D_OPCODE) == opcode
    if length:
        assert guest.word(b.D_EA) == address


def test_an_instruction_across_pages_is_read_page_by_page() -> None:
    """The second page lies elsewhere, or nowhere: then the instruction cannot be decoded."""
    guest = machine(SIZE)
    set_mode(guest, 32, random.Random(0))
    registers = guest.registers
    registers.set_segment("cs", Segment(0, 0, 0xFFFFFFFF, 0xC9B))
    tables = 0x10000
    guest.memory[tables : tables + 4] = (tables + 0x1000 | 3).to_bytes(4, "little")
    for page, frame in ((2, 0x5000 | 3), (3, 0x9000 | 3)):
        guest.memory[tables + 0x1000 + 4 * page : tables + 0x1004 + 4 * page] = frame.to_bytes(4, "little")
    for name, value in (("cr0", 0x80000011), ("cr3", tables), ("rip", 0x2FFE)):
        registers.set(name, value)
    guest.pcpu.sync()
    guest.memory[0x5FFE:0x6000] = b"\x0f\x01"
    guest.memory[0x9000:0x9005] = b"\x3d\x78\x56\x34\x12"  # invlpg [0x12345678]
    assert guest.pcpu.decode() == 7
    guest.memory[tables + 0x1000 + 4 * 3] = 2
    assert guest.pcpu.decode() == 0
    registers.set("cr0", 0x11)
    guest.pcpu.sync()


def test_more_than_fifteen_bytes_are_no_instruction() -> None:
    guest = machine(SIZE)
    assert decode64(guest, "66" * 13 + "0fa2") == 15
    assert decode64(guest, "66" * 15 + "0fa2") == 0
