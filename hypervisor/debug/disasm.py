"""Disassembly of guest code, by capstone, in the mode that the vCPU runs in."""

from __future__ import annotations

from typing import Any

from hypervisor.arch import flags, segments
from hypervisor.debug.peeking import Vcpu
from hypervisor.errors import GuestFault
from hypervisor.units import PAGE_SIZE, by_pages
from hypervisor.vcpu.code_line import Line

LONGEST = 15
"""Bytes of the longest x86 instruction (APM volume 3, section 1.1)."""

FAR_START = 4096
"""Bytes before RIP beyond which the start of a function is too far away to decode from."""


def code_bits(vcpu: Vcpu) -> int:
    """16, 32 or 64: the size that the vCPU's code segment gives to instructions (APM volume 2, section 4.8)."""
    attributes = vcpu.cs.attributes
    if vcpu.efer & flags.EFER_LMA and attributes & segments.LONG:
        return 64
    return 32 if attributes & segments.BIG else 16


def linear_rip(vcpu: Vcpu) -> int:
    """The guest-virtual address of the next instruction: CS has no base in 64-bit mode."""
    rip: int = vcpu.rip
    return rip if code_bits(vcpu) == 64 else (vcpu.cs.base + rip) & 0xFFFF_FFFF


def disassemble(data: bytes, address: int, bits: int, count: int | None = None) -> list[Line]:
    """The instructions in ``data``, which lies at ``address``; ``bits`` is 16, 32 or 64.

    A byte that begins no instruction is a line of its own, ``(bad)``. An instruction that ``data`` cuts off ends the
    list unless nothing else was found.
    """
    machine = decoder(bits)
    lines: list[Line] = []
    at = 0
    while at < len(data) and (count is None or len(lines) < count):
        decoded = next(machine.disasm_lite(data[at : at + LONGEST], address + at, 1), None)
        if decoded is None:
            if len(data) - at < LONGEST and lines:
                break
            lines.append(Line(address + at, data[at : at + 1], "(bad)"))
            at += 1
        else:
            where, size, mnemonic, operands = decoded
            lines.append(Line(where, data[at : at + size], f"{mnemonic} {operands}".rstrip()))
            at += size
    return lines


def at(vcpu: Vcpu, address: int | None = None, count: int = 8) -> list[Line]:
    """``count`` instructions from a guest-virtual address (RIP if None), as the guest's page tables map them now.

    Shorter where memory ends. Raises `GuestFault` if not even the first byte can be read.
    """
    start = linear_rip(vcpu) if address is None else address
    return disassemble(read_forward(vcpu, start, count * LONGEST), start, code_bits(vcpu), count)


def around(vcpu: Vcpu, before: int = 5, after: int = 5, start: int | None = None) -> list[Line]:
    """The instruction at RIP with up to ``before`` earlier and ``after`` later ones.

    x86 cannot be read backwards: the earlier ones are the decoding that meets RIP, from ``start`` (where the function
    begins, if that is known) or from as far back as possible. Raises `GuestFault` if the byte at RIP cannot be read.
    """
    rip, bits = linear_rip(vcpu), code_bits(vcpu)
    later = at(vcpu, rip, 1 + after)
    known = start is not None and 0 <= rip - start <= FAR_START
    data = read_backward(vcpu, rip, rip - (start or 0) if known else before * LONGEST)
    for first in range(1 if known else len(data)):
        earlier = disassemble(data[first:], rip - len(data) + first, bits)
        whole = sum(len(line.data) for line in earlier) == len(data) - first
        if whole and not any(line.text == "(bad)" for line in earlier):
            return (earlier[-before:] if before else []) + later
    return later


def read_forward(vcpu: Vcpu, address: int, size: int) -> bytes:
    """Up to ``size`` bytes, ending early at a page that is not there; the first page must be."""
    data = b""
    for at, length in by_pages(address, size):
        try:
            data += vcpu.read(at, length)
        except GuestFault:
            if not data:
                raise
            break
    return data


def read_backward(vcpu: Vcpu, end: int, size: int) -> bytes:
    """Up to ``size`` bytes that end at ``end``, fewer where a page is not there."""
    data = b""
    while len(data) < min(size, end):
        stop = end - len(data)
        start = max(end - size, 0, (stop - 1) & ~(PAGE_SIZE - 1))
        try:
            data = vcpu.read(start, stop - start) + data
        except GuestFault:
            break
    return data


_machines: dict[tuple[int, bool], Any] = {}


def decoder(bits: int, detail: bool = False) -> Any:
    """Capstone for code of 16, 32 or 64 bits; ``detail`` has it describe operands, too."""
    if (bits, detail) not in _machines:
        import capstone

        mode = {16: capstone.CS_MODE_16, 32: capstone.CS_MODE_32, 64: capstone.CS_MODE_64}[bits]
        machine = _machines[bits, detail] = capstone.Cs(capstone.CS_ARCH_X86, mode)
        machine.detail = detail
    return _machines[bits, detail]
