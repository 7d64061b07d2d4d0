"""Encodings of our own for system code that Keystone 0.9.2 gets wrong. Source: AMD64 manual volume 3.

What Keystone does, each reproduced in ``tests/guests/test_misencodings.py``:

- 16-bit ``ret``, ``retf``, ``call``, ``jmp``, ``jcc``, ``push imm`` and ``push fs`` get a 66 prefix (32-bit forms);
- ``push dword 5`` pushes 16 bits in 16- and 32-bit code, 64-bit ``push 0xffffffff`` does so too;
- 32-bit ``ljmp 8:offset`` gets a 16-bit offset, 16-bit ``ljmp`` has no 32-bit form, 64-bit ``ljmp`` is let through;
- ``pushf``, ``popf`` and ``iret`` are the 16-bit forms in every mode, 64-bit ``sysret`` is the ``sysretq`` form;
- ``rep movsd``, ``sysretq``, ``iretw`` are refused; ``mov ds, ax`` gets a needless 66.
"""

from __future__ import annotations

from hypervisor.assembler.corrections import CONDITIONS, COUNT_JUMPS, FIXED, IMPLIED, LOOPS, SEGMENT_PUSH_POP
from hypervisor.assembler.operand import SEGMENTS, Far, Imm, Mem, Operand, Reg
from hypervisor.assembler.problem import AssemblyError

_GENERAL = ("ax", "cx", "dx", "bx", "sp", "bp", "si", "di")


def operand_prefix(mode: int, size: int) -> bytes:
    """The prefix that gives an instruction the operand size ``size`` (bits; 0 for the default) in ``mode``-bit code."""
    if size == 0 or size == min(mode, 32):
        return b""
    if size == 64:
        if mode != 64:
            raise AssemblyError(f"A 64-bit operand size does not exist in {mode}-bit code.")
        return b"\x48"
    return b"\x66"


def has_short_form(mnemonic: str) -> bool:
    """Whether ``mnemonic`` is a jump that can be short or long."""
    return mnemonic == "jmp" or (mnemonic[:1] == "j" and mnemonic[1:] in CONDITIONS)


def encode(mnemonic: str, operands: list[Operand], mode: int, size: int, address: int, short: bool) -> bytes | None:
    """Bytes of an instruction that is ours to encode, or None when it is Keystone's."""
    if mnemonic in FIXED and _is_plain(mnemonic, operands, mode):
        return _fixed(mnemonic, mode, size)
    first = operands[0] if operands else None
    if mnemonic in ("ret", "retf") and isinstance(first, Imm):
        opcode = b"\xc2" if mnemonic == "ret" else b"\xca"
        return operand_prefix(mode, size) + opcode + _number(first.value, 16, "return count")
    if mnemonic in ("jmp", "call") and isinstance(first, Far):
        return _far(mnemonic, first, mode, size)
    if isinstance(first, Imm) and len(operands) == 1:
        if mnemonic == "push":
            return _push(first, mode, size)
        if mnemonic in ("jmp", "call") or mnemonic in LOOPS or mnemonic in COUNT_JUMPS or has_short_form(mnemonic):
            return _branch(mnemonic, first, mode, address, short)
    if isinstance(first, Reg) and (mnemonic, first.name) in SEGMENT_PUSH_POP and len(operands) == 1:
        if mode == 64 and first.name not in ("fs", "gs"):
            raise AssemblyError(f"{mnemonic} {first.name} does not exist in 64-bit code.")
        return operand_prefix(mode, size) + SEGMENT_PUSH_POP[mnemonic, first.name]
    if mnemonic == "mov" and isinstance(first, Reg) and first.name in SEGMENTS and len(operands) == 2:
        return _move_to_segment(first, operands[1])
    return None


def _is_plain(mnemonic: str, operands: list[Operand], mode: int) -> bool:
    """Without operands, or with just those that an SVM instruction implies anyway."""
    if not operands:
        return True
    if mnemonic not in IMPLIED:
        return False
    accumulator = {16: "eax", 32: "eax", 64: "rax"}[mode]
    implied = [accumulator if name == "a" else name for name in IMPLIED[mnemonic].split(",")]
    if [getattr(operand, "name", None) for operand in operands] != implied:
        names = " and ".join(implied)
        raise AssemblyError(f"{mnemonic} uses {names} in {mode}-bit code; write it with these or without any.")
    return True


def _fixed(mnemonic: str, mode: int, size: int) -> bytes:
    opcode, own_size = FIXED[mnemonic]
    if mnemonic == "iret" and mode == 64 and not size:
        raise AssemblyError("iret in 64-bit code would pop 32-bit values; write iretq, or iretd if that is meant.")
    if size and own_size:
        raise AssemblyError(f"{mnemonic} has its operand size in its name; leave o{size} out.")
    return operand_prefix(mode, size or own_size) + opcode


def _far(mnemonic: str, target: Far, mode: int, size: int) -> bytes:
    if mode == 64:
        raise AssemblyError(f"{mnemonic} selector:offset does not exist in 64-bit code; use {mnemonic} far [memory].")
    width = target.size or size or mode
    if width not in (16, 32):
        raise AssemblyError(f"A far {mnemonic} has a 16- or 32-bit offset, not {width} bits.")
    offset = _number(target.offset, width, "far offset")
    opcode = b"\xea" if mnemonic == "jmp" else b"\x9a"
    return operand_prefix(mode, width) + opcode + offset + _number(target.selector, 16, "selector")


def _push(constant: Imm, mode: int, size: int) -> bytes:
    width = constant.size or size or mode
    if width not in ((16, 32) if mode != 64 else (16, 64)):
        raise AssemblyError(f"{mode}-bit code cannot push {width} bits.")
    stored = min(width, 32)
    low, high = -(1 << (stored - 1)), 1 << (stored - 1 if width == 64 else stored)
    value = constant.value - (1 << 64) if width == 64 and constant.value >= 1 << 63 else constant.value
    if not low <= value < high:
        raise AssemblyError(f"{constant.value:#x} does not fit into a {width}-bit push; load it into a register first.")
    prefix = b"" if width == mode else b"\x66"
    signed = value - (1 << stored) if value >= 1 << (stored - 1) else value
    if -128 <= signed < 128:
        return prefix + b"\x6a" + (signed & 0xFF).to_bytes(1, "little")
    return prefix + b"\x68" + (value & ((1 << stored) - 1)).to_bytes(stored // 8, "little")


def _branch(mnemonic: str, target: Imm, mode: int, address: int, short: bool) -> bytes:
    prefix, long_opcode = b"", b""
    if mnemonic == "call":
        return _long_branch(b"\xe8", target.value, mode, address)
    if mnemonic in LOOPS:
        short_opcode = LOOPS[mnemonic]
    elif mnemonic in COUNT_JUMPS:
        short_opcode = 0xE3
        prefix = b"" if COUNT_JUMPS[mnemonic] == mode else b"\x67"
    elif mnemonic == "jmp":
        short_opcode, long_opcode = 0xEB, b"\xe9"
    else:
        code = CONDITIONS[mnemonic[1:]]
        short_opcode, long_opcode = 0x70 | code, bytes([0x0F, 0x80 | code])
    distance = _distance(target.value, address + len(prefix) + 2, mode)
    if target.hint == "short" or not long_opcode:
        if not -128 <= distance < 128:
            raise AssemblyError(f"{target.value:#x} is {distance} bytes away; a short {mnemonic} reaches -128 to 127.")
    elif not short or target.hint == "near" or not -128 <= distance < 128:
        return _long_branch(long_opcode, target.value, mode, address)
    return prefix + bytes([short_opcode, distance & 0xFF])


def _long_branch(opcode: bytes, target: int, mode: int, address: int) -> bytes:
    width = 2 if mode == 16 else 4
    distance = _distance(target, address + len(opcode) + width, mode)
    if mode == 64 and not -(1 << 31) <= distance < 1 << 31:
        raise AssemblyError(f"{target:#x} is out of reach of a jump (2 GiB); load it into a register first.")
    return opcode + (distance & ((1 << 8 * width) - 1)).to_bytes(width, "little")


def _distance(target: int, after: int, mode: int) -> int:
    """Signed distance; in 16-bit code the instruction pointer wraps at 64 KiB, in 32-bit code at 4 GiB."""
    span = 1 << mode
    return ((target - after + span // 2) % span) - span // 2


def _move_to_segment(segment: Reg, source: Operand) -> bytes | None:
    if segment.name == "cs":
        raise AssemblyError("CS cannot be loaded by mov; use a far jump or a far return.")
    if isinstance(source, Mem) or not isinstance(source, Reg):
        return None
    name = source.name.removeprefix("e")
    if name not in _GENERAL:
        return None
    return bytes([0x8E, 0xC0 | SEGMENTS.index(segment.name) << 3 | _GENERAL.index(name)])


def _number(value: int, bits: int, what: str) -> bytes:
    if not -(1 << (bits - 1)) <= value < 1 << bits:
        raise AssemblyError(f"{value:#x} does not fit into a {bits}-bit {what}.")
    return (value & ((1 << bits) - 1)).to_bytes(bits // 8, "little")
