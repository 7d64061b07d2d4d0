"""Does an assembled image say what its source says? Each instruction is disassembled by capstone and compared.

The assembler trusts nobody: Keystone gives some system instructions another operand size, or other operands, than the
source asks for, and such an image fails far from the cause. `differences` finds it on the line where it happened.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from typing import Any

from hypervisor.assembler import Image, Line
from hypervisor.assembler.corrections import CONDITIONS, COUNT_JUMPS, FIXED, LOOPS, OPERAND_PREFIXES, PREFIXES
from hypervisor.assembler.encode import parse_instruction
from hypervisor.assembler.fixes import has_short_form
from hypervisor.assembler.operand import REGISTERS, SEGMENTS, Far, Imm, Mem, Operand, Reg

_DEFAULT_SIZED = {"call", "jmp", "push", "lgdt", "lidt", "sgdt", "sidt", "retf", "ret"}
_SAME = {"movabs": "mov", "sal": "shl", "ljmp": "jmp", "lcall": "call", "pushal": "pushad", "popal": "popad"}


def differences(image: Image) -> list[str]:
    """A sentence for every instruction of ``image`` whose bytes are not what its source line says."""
    found = []
    for line in image.listing:
        if line.mode:
            found += [f"line {line.line}: {line.text}: {reason}" for reason in _differences(line, image.symbols)]
    return found


def _differences(line: Line, symbols: dict[str, int]) -> Iterator[str]:
    names = symbols | {"$": line.address}
    prefixes, mnemonic, operands = parse_instruction(line.text, names.__getitem__)
    decoded = next(_capstone(line.mode).disasm(line.code, line.address, 1), None)
    if decoded is None or decoded.size != len(line.code):
        yield f"{line.code.hex(' ')} is not one instruction of {line.mode}-bit code."
        return
    what = f"{line.code.hex(' ')} is {decoded.mnemonic} {decoded.op_str}".rstrip()
    size = _size_of(decoded, line.mode)
    word = decoded.mnemonic.split()[-1]
    if _name(mnemonic, line.mode) != _name(word, line.mode) and not _is_conversion(mnemonic, decoded, size):
        yield f"{what}, another instruction."
    if {PREFIXES[word][0] for word in prefixes if word in PREFIXES} != {decoded.prefix[0]} - {0}:
        yield f"{what}, with other prefixes."
    expected = _expected_size(prefixes, mnemonic, operands, line.mode)
    if expected and size != expected:
        yield f"{what} with an operand size of {size} bits, not {expected}."
    if (operands and mnemonic not in FIXED) or mnemonic in ("ret", "retf"):
        for reason in _operand_differences(line, mnemonic, operands, decoded):
            yield f"{what}; {reason}."


def _size_of(decoded: Any, mode: int) -> int:
    """The operand size in bits that prefixes and mode give to an instruction (AMD64 manual volume 3, 1.2.2)."""
    if decoded.rex & 8:
        return 64
    if 0x66 in decoded.prefix:
        return 32 if mode == 16 else 16
    return min(mode, 32)


def _expected_size(prefixes: list[str], mnemonic: str, operands: list[Operand], mode: int) -> int:
    """The operand size that the source asks for where no operand shows it; 0 where capstone's operands tell."""
    named = next((OPERAND_PREFIXES[word] for word in prefixes if word in OPERAND_PREFIXES), 0)
    first = operands[0] if operands else None
    if mnemonic in FIXED and not operands:
        return named or FIXED[mnemonic][1] or min(mode, 32)
    branch = mnemonic in LOOPS or mnemonic in COUNT_JUMPS or has_short_form(mnemonic)
    if not (branch or mnemonic in _DEFAULT_SIZED) or (isinstance(first, Reg) and first.name not in SEGMENTS):
        return 0
    if isinstance(first, Far | Imm) and first.size and not named:
        return min(first.size, 32) if mode != 16 else first.size
    if isinstance(first, Mem) and first.size and not first.far:
        return min(first.size, 32) if mode == 64 else first.size
    return named or min(mode, 32)


def _name(mnemonic: str, mode: int) -> str:
    """One name for an instruction that has several."""
    name = _SAME.get(mnemonic, mnemonic)
    for stem in ("j", "set", "cmov"):
        if name.startswith(stem) and name[len(stem) :] in CONDITIONS:
            return f"{stem}{CONDITIONS[name[len(stem) :]]}"
    letter = {16: "w", 32: "d", 64: "q"}[mode]
    if name in ("pusha", "popa"):
        return name + letter
    if name in ("pushf", "popf", "iret"):  # capstone says "pushf" for the 16-bit form, in every mode
        return name
    for stem in ("pushf", "popf", "iret", "retf"):
        if name in (stem + "w", stem + "d", stem + "q"):
            return stem
    return {"loopz": "loope", "loopnz": "loopne"}.get(name, name)


def _is_conversion(mnemonic: str, decoded: Any, size: int) -> bool:
    """CBW, CWDE, CDQE and CWD, CDQ, CQO are one opcode each, told apart by size (capstone errs in 16-bit code)."""
    return FIXED.get(mnemonic, (b"", 0)) == (bytes([decoded.opcode[0]]), size) and decoded.opcode[0] in (0x98, 0x99)


def _operand_differences(line: Line, mnemonic: str, operands: list[Operand], decoded: Any) -> Iterator[str]:
    if isinstance(operands[0] if operands else None, Far):
        yield from _far_differences(operands[0], line)
        return
    if any(isinstance(operand, Mem) and operand.far for operand in operands) and (decoded.modrm >> 3) & 7 not in (3, 5):
        yield "that is not a far jump or call"
    found = list(decoded.operands)
    if len(found) != len(operands):
        yield f"the source has {len(operands)} operands"
        return
    pairs = list(zip(operands, found, strict=True))
    if mnemonic in ("test", "xchg") and not all(_matches(ours, theirs, line, decoded) for ours, theirs in pairs):
        pairs = list(zip(operands, reversed(found), strict=True))
    for ours, theirs in pairs:
        if not _matches(ours, theirs, line, decoded):
            yield f"the source says {ours.render() if not isinstance(ours, Far) else ours}"


def _matches(ours: Operand, theirs: Any, line: Line, decoded: Any) -> bool:
    import capstone.x86 as x86

    if isinstance(ours, Reg):
        if theirs.type != x86.X86_OP_REG:
            return False
        name = decoded.reg_name(theirs.reg)
        segment_move = any(
            operand.type == x86.X86_OP_REG and decoded.reg_name(operand.reg) in SEGMENTS for operand in decoded.operands
        )
        return name == ours.name or (segment_move and name.lstrip("er") == ours.name.lstrip("er"))
    if isinstance(ours, Imm):
        branch = decoded.group(x86.X86_GRP_JUMP) or decoded.group(x86.X86_GRP_CALL)
        width = line.mode if branch else 64 if theirs.size == 0 else 8 * theirs.size
        return bool(theirs.type == x86.X86_OP_IMM and (ours.value - theirs.imm) % (1 << width) == 0)
    if not isinstance(ours, Mem) or theirs.type != x86.X86_OP_MEM:
        return False
    return _memory_of(theirs, decoded) == _expected_memory(ours, theirs.size * 8, line, decoded)


def _memory_of(operand: Any, decoded: Any) -> Mem:
    memory = operand.mem

    def name(register: int) -> str:
        return str(decoded.reg_name(register)) if register else ""

    base = name(memory.base)
    width = _address_bits(decoded, base or name(memory.index))
    scale = memory.scale if memory.index else 1
    return Mem(base, name(memory.index), scale, memory.disp % (1 << width), name(memory.segment), operand.size * 8)


def _expected_memory(ours: Mem, size: int, line: Line, decoded: Any) -> Mem:
    width = _address_bits(decoded, ours.base or ours.index)
    base, disp = ours.base, ours.disp
    if ours.relative:
        base, disp, width = "rip", ours.disp - (line.address + len(line.code)), 64
    return replace(ours, base=base, disp=disp % (1 << width), size=ours.size or size, far=False, relative=False)


def _address_bits(decoded: Any, register: str) -> int:
    return REGISTERS[register] if register else int(decoded.addr_size) * 8


def _far_differences(ours: Operand, line: Line) -> Iterator[str]:
    assert isinstance(ours, Far)
    tail = line.code[line.code[0] == 0x66 :][1:]
    offset, selector = int.from_bytes(tail[:-2], "little"), int.from_bytes(tail[-2:], "little")
    if (offset, selector) != (ours.offset % (1 << 8 * len(tail[:-2])), ours.selector):
        yield f"the source says {ours.selector:#x}:{ours.offset:#x}"
    if ours.offset >> 8 * len(tail[:-2]):
        yield f"its offset has only {8 * len(tail[:-2])} bits"


@lru_cache(maxsize=3)
def _capstone(mode: int) -> Any:
    import capstone

    modes = {16: capstone.CS_MODE_16, 32: capstone.CS_MODE_32, 64: capstone.CS_MODE_64}
    machine = capstone.Cs(capstone.CS_ARCH_X86, modes[mode])
    machine.detail = True
    return machine
