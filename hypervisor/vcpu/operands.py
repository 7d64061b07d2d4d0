"""Operands of trapped instructions: general registers and guest memory, with the rights that the instruction has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypervisor.arch.flags import RFLAGS_AC
from hypervisor.engine.state import GPR

if TYPE_CHECKING:
    from hypervisor.engine.pcpu import PCpu
    from hypervisor.vcpu.processor import Processor

_MASK64 = (1 << 64) - 1
_READ, _WRITE = 0, 1
_USER, _AC = 1, 4


class OperandFault(Exception):  # a fault of the guest's, not an error
    """An operand's access faults: the guest gets this exception instead of the instruction."""

    def __init__(self, vector: int, error: int, address: int) -> None:
        super().__init__(vector, error, address)
        self.vector, self.error, self.address = vector, error, address


def read_word(pcpu: PCpu, vcpu: Processor) -> int:
    """The 16-bit register or memory operand of the decoded instruction (LMSW, LLDT, LTR). Raises `OperandFault`."""
    report = pcpu.report
    if report.d_modrm >= 0xC0:
        return vcpu.get(GPR[report.d_rm]) & 0xFFFF
    address = report.d_ea & _MASK64
    return int.from_bytes(
        b"".join(vcpu.memory.read(_locate(pcpu, vcpu, address + n, _READ), 1) for n in range(2)), "little"
    )


def write_word(pcpu: PCpu, vcpu: Processor, value: int) -> None:
    """Store to the decoded instruction's operand as SMSW, SLDT and STR do: 16 bits to memory, or a register of the
    operand size.
    """
    report = pcpu.report
    if report.d_modrm >= 0xC0:
        set_register(vcpu, report.d_rm, value, report.d_size)
        return
    address = report.d_ea & _MASK64
    places = [_locate(pcpu, vcpu, address + n, _WRITE) for n in range(2)]
    for place, byte in zip(places, (value & 0xFFFF).to_bytes(2, "little"), strict=True):
        vcpu.memory.store(place, bytes((byte,)))


def set_register(vcpu: Processor, number: int, value: int, size: int) -> None:
    """Write a general register by encoding number with operand size 2, 4 or 8 bytes."""
    name = GPR[number]
    if size == 2:
        value = vcpu.get(name) & ~0xFFFF | value & 0xFFFF
    vcpu.set(name, value & 0xFFFFFFFF if size == 4 else value)


def _locate(pcpu: PCpu, vcpu: Processor, address: int, access: int) -> int:
    """The guest-physical address of an operand's byte, accessed and dirty bits set."""
    how = (_USER if vcpu.cpl == 3 else 0) | (_AC if vcpu.rflags & RFLAGS_AC else 0)
    gpa, vector, error = pcpu.walk(address, access, how)
    if vector >= 0:
        raise OperandFault(vector, error, address)
    return gpa
