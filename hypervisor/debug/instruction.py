"""The instruction at RIP with its operands: what it touches, for saying why it faulted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypervisor.debug.disasm import LONGEST, code_bits, decoder, linear_rip, read_forward
from hypervisor.errors import GuestFault

_MASK64 = (1 << 64) - 1
_STACK_BASES = ("rsp", "rbp", "esp", "ebp", "sp", "bp")
_NO_INDEX = ("riz", "eiz")  # what capstone calls the index of a SIB byte that has none, but a scale


@dataclass(frozen=True)
class Touched:
    """A memory operand: its linear address, its size in bytes, and the registers it is made of, as text."""

    address: int
    size: int
    text: str


@dataclass(frozen=True)
class Instruction:
    """A decoded instruction; ``mnemonic`` and ``text`` are empty where the bytes are none."""

    data: bytes
    mnemonic: str = ""
    text: str = ""
    memory: tuple[Touched, ...] = ()
    operands: tuple[str, ...] = ()
    sse: bool = False


def at_rip(vcpu: Any) -> Instruction | None:
    """The instruction at RIP, or None where it cannot be read."""
    try:
        data = read_forward(vcpu, linear_rip(vcpu), LONGEST)
    except GuestFault:
        return None
    decoded = next(decoder(code_bits(vcpu), detail=True).disasm(data, vcpu.rip, 1), None)
    if decoded is None:
        return Instruction(data)
    return Instruction(
        data[: decoded.size],
        str(decoded.mnemonic).split()[-1],
        f"{decoded.mnemonic} {decoded.op_str}".rstrip(),
        tuple(_memory(vcpu, decoded)),
        tuple(part.strip() for part in str(decoded.op_str).split(",")) if decoded.op_str else (),
        any("sse" in decoded.group_name(group) for group in decoded.groups),
    )


def _memory(vcpu: Any, decoded: Any) -> list[Touched]:
    import capstone

    found = []
    bits = code_bits(vcpu)
    mask = _MASK64 if bits == 64 else 0xFFFF_FFFF
    for operand in decoded.operands:
        if operand.type != capstone.CS_OP_MEM:
            continue
        memory = operand.mem
        base = decoded.reg_name(memory.base) if memory.base else ""
        index = decoded.reg_name(memory.index) if memory.index else ""
        if index in _NO_INDEX:
            index = ""
        address = memory.disp + _value(vcpu, base, decoded.size) + memory.scale * _value(vcpu, index, 0)
        address &= (1 << 8 * decoded.addr_size) - 1
        segment = decoded.reg_name(memory.segment) if memory.segment else "ss" if base in _STACK_BASES else "ds"
        if bits != 64 or segment in ("fs", "gs"):
            address += getattr(vcpu, segment).base
        found.append(Touched(address & mask, operand.size, " ".join(name for name in (base, index) if name)))
    return found


def _value(vcpu: Any, register: str, size: int) -> int:
    """A register's value; RIP is that of the next instruction."""
    if not register:
        return 0
    if register in ("rip", "eip"):
        return int(vcpu.rip) + size
    return int(vcpu.get(register))
