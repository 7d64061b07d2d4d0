"""One instruction to bytes: Keystone for the ordinary ones, `fixes` for those that it gets wrong.

Symbols are replaced by numbers before Keystone sees a text, so Keystone never resolves anything and never chooses a
branch's length; operands are range-checked first, because Keystone cuts a constant that does not fit without a word.
"""

from __future__ import annotations

import re
import threading
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

from hypervisor.assembler import fixes
from hypervisor.assembler.corrections import COUNT_OPERAND, NOT_64, ONLY_64, OPERAND_PREFIXES, PREFIXES
from hypervisor.assembler.expression import Lookup
from hypervisor.assembler.operand import REGISTERS, SEGMENTS, Far, Imm, Mem, Operand, Reg, parse_operand, split
from hypervisor.assembler.problem import AssemblyError

if TYPE_CHECKING:
    import keystone

_ABSOLUTE = 0x9ABCDEF0
"""A displacement too large to be reached from RIP: makes Keystone take the absolute form, then is patched."""
_RELATIVE = 0x7ABCDEF0
_MOFFS = {"al", "ax", "eax", "rax"}
_ALIASES = {"xlat": "xlatb", "icebp": "int1", "fwait": "wait", "ud2a": "ud2"}
_TABLE_LOADS = {"lgdt", "lidt", "sgdt", "sidt"}


def parse_instruction(text: str, lookup: Lookup) -> tuple[list[str], str, list[Operand]]:
    """Prefix words, mnemonic and operands of an instruction; aliases are resolved (``ljmp`` is ``jmp far``)."""
    prefixes, mnemonic, rest = [], "", text.strip()
    while not mnemonic:
        word, _, rest = rest.partition(" ") if " " in rest else (rest, "", "")
        word, rest = word.lower(), rest.strip()
        if (word in PREFIXES or word in OPERAND_PREFIXES) and rest:
            prefixes.append(word)
        else:
            mnemonic = word
    operands = [parse_operand(part, lookup) for part in split(rest)]
    if mnemonic in ("ljmp", "lcall"):
        mnemonic = mnemonic[1:]
        if operands and isinstance(operands[0], Mem):
            operands[0] = replace(operands[0], far=True)
    return prefixes, _ALIASES.get(mnemonic, mnemonic), operands


def encode(text: str, mode: int, address: int, lookup: Lookup, *, short: bool = True) -> bytes:
    """Bytes of the instruction ``text`` at ``address`` in 16-, 32- or 64-bit code.

    A direct jump takes its short form when ``short`` and when the target is near enough. Raises `AssemblyError`.
    """
    prefixes, mnemonic, operands = parse_instruction(text, lookup)
    if mnemonic in NOT_64 and mode == 64:
        raise AssemblyError(f"{mnemonic} does not exist in 64-bit code.")
    if mnemonic in ONLY_64 and mode != 64:
        raise AssemblyError(f"{mnemonic} exists in 64-bit code only, and this is {mode}-bit code.")
    for operand in operands:
        if isinstance(operand, Mem):
            _check_memory(operand, mode)
            if operand.far and mnemonic not in ("jmp", "call"):
                raise AssemblyError(f"far is for jmp and call, not for {mnemonic}.")
    leading = b"".join(PREFIXES[word] for word in prefixes if word in PREFIXES)
    size = next((OPERAND_PREFIXES[word] for word in prefixes if word in OPERAND_PREFIXES), 0)
    code = fixes.encode(mnemonic, operands, mode, size, address + len(leading), short)
    if code is None:
        code = _with_keystone(mnemonic, operands, mode, address + len(leading))
        if mnemonic in _TABLE_LOADS or (operands and isinstance(operands[0], Mem) and operands[0].far):
            code = fixes.operand_prefix(mode, size) + code
        elif size:
            raise AssemblyError(f"o{size} is for far jumps, returns, flags and descriptor tables, not for {mnemonic}.")
    return leading + code


def _with_keystone(mnemonic: str, operands: list[Operand], mode: int, address: int) -> bytes:
    _check_constants(mnemonic, operands)
    memory = next((operand for operand in operands if isinstance(operand, Mem)), None)
    patch = None
    if memory is not None and mode == 64 and not memory.base and not memory.index:
        if memory.relative:
            patch = _RELATIVE
        elif not (mnemonic == "mov" and any(isinstance(o, Reg) and o.name in _MOFFS for o in operands)):
            patch = _ABSOLUTE
            if not (-(1 << 31) <= memory.disp < 1 << 31 or (1 << 64) - (1 << 31) <= memory.disp < 1 << 64):
                raise AssemblyError(f"Address {memory.disp:#x} is out of a 64-bit instruction's reach; use a register.")
    rendered = []
    for operand in operands:
        if operand is memory and patch is not None:
            operand = replace(memory, disp=patch, base="rip" if patch == _RELATIVE else "")
        assert not isinstance(operand, Far), "far pointers are encoded by fixes"
        rendered.append(operand.render())
    name = "l" + mnemonic if memory is not None and memory.far else mnemonic
    code = _assemble(f"{name} {', '.join(rendered)}".strip(), mode)
    if mnemonic in _TABLE_LOADS and code[:1] == b"\x66":
        code = code[1:]  # Keystone's 66 in 32-bit code makes LGDT load 24 bits of the base
    if patch is not None and memory is not None:
        place = patch.to_bytes(4, "little")
        if code.count(place) != 1:
            raise AssemblyError(f"Keystone did not keep the address of {mnemonic}; load it into a register first.")
        target = memory.disp if patch == _ABSOLUTE else memory.disp - (address + len(code))
        code = code.replace(place, (target & 0xFFFFFFFF).to_bytes(4, "little"))
    return code


def _check_memory(memory: Mem, mode: int) -> None:
    sizes = {REGISTERS[name] for name in (memory.base, memory.index) if name}
    if len(sizes) > 1 or not sizes <= ({16, 32} if mode != 64 else {32, 64}):
        raise AssemblyError(f"{memory.render()} is not an address of {mode}-bit code.")
    width = max(sizes, default=mode)
    if mode == 16 and memory.index and not memory.base:
        raise AssemblyError(f"{memory.render()} needs a base register in 16-bit code.")
    if width != 64 and not -(1 << (width - 1)) <= memory.disp < 1 << width:
        raise AssemblyError(f"{memory.disp:#x} does not fit into a {width}-bit address.")
    if width == 64 and sizes and not -(1 << 31) <= memory.disp < 1 << 31:
        raise AssemblyError(f"{memory.disp:#x} does not fit into a 32-bit signed displacement.")
    if memory.relative and (mode != 64 or sizes or memory.base):
        raise AssemblyError("[rel NAME] is for 64-bit code and takes no register.")


def _check_constants(mnemonic: str, operands: list[Operand]) -> None:
    size = 8
    for operand in operands:
        if isinstance(operand, Reg) and operand.name not in SEGMENTS:
            size = REGISTERS[operand.name]
            break
        if isinstance(operand, Mem):
            size = operand.size
            break
    for operand in operands:
        if not isinstance(operand, Imm):
            continue
        width = 16 if mnemonic == "enter" else 8 if mnemonic in COUNT_OPERAND else size
        value = operand.value
        if width in (8, 16, 32):
            good = -(1 << (width - 1)) <= value < 1 << width
        elif mnemonic in ("mov", "movabs") and isinstance(operands[0], Reg):
            good = -(1 << 63) <= value < 1 << 64
        else:
            good = -(1 << 31) <= value < 1 << 31 or (1 << 64) - (1 << 31) <= value < 1 << 64
        if not good:
            raise AssemblyError(f"{value:#x} does not fit into the {width or 32}-bit constant of {mnemonic}.")


_one_at_a_time = threading.Lock()  # a Keystone engine crashes when two threads assemble with it


@lru_cache(maxsize=3)
def _keystone(mode: int) -> keystone.Ks:
    try:
        import keystone
    except ImportError:
        raise AssemblyError("Assembling needs Keystone; install it with: pip install keystone-engine.") from None
    modes = {16: keystone.KS_MODE_16, 32: keystone.KS_MODE_32, 64: keystone.KS_MODE_64}
    return keystone.Ks(keystone.KS_ARCH_X86, modes[mode])


@lru_cache(maxsize=4096)
def _assemble(text: str, mode: int) -> bytes:
    engine = _keystone(mode)
    import keystone

    try:
        with _one_at_a_time:
            code, _ = engine.asm(text, 0, as_bytes=True)
    except keystone.KsError as problem:
        reason = re.sub(r"\s*\(KS_ERR\w+\)", "", str(problem))
        raise AssemblyError(f"Keystone refuses {text!r} in {mode}-bit code: {reason}.") from None
    if not code:
        raise AssemblyError(f"Keystone made no code of {text!r} in {mode}-bit code; is it an instruction?")
    return bytes(code)
