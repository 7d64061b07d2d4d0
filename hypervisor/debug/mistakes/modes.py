"""Mistakes on the way from real mode to long mode."""

from __future__ import annotations

from hypervisor.arch import flags
from hypervisor.arch.paging import RW, US
from hypervisor.arch.vectors import PF, PF_RESERVED
from hypervisor.debug.cause import IRETS, page_walk
from hypervisor.debug.disasm import code_bits
from hypervisor.debug.mistakes.case import Case
from hypervisor.traps.history import SOFTWARE

BIOS_SERVICES = {
    0x10: "the screen", 0x11: "the equipment", 0x12: "the memory size", 0x13: "disks", 0x14: "serial ports",
    0x15: "the system", 0x16: "the keyboard", 0x1A: "the clock",
}  # fmt: skip
REAL_MODE_LIMIT = 0x3FF
LARGEST_16_BIT = 0xF_FFFF
"""The limit of a segment whose descriptor counts in bytes."""

_FAR = ("ljmp", "lcall", "retf", "retfq", *IRETS)


def bios_call(case: Case) -> str:
    """A BIOS service, in protected mode."""
    idtr, service = case.vcpu.idtr, BIOS_SERVICES.get(case.vector or 0)
    if case.origin != SOFTWARE or not service or not case.protected or (idtr.base, idtr.limit) != (0, REAL_MODE_LIMIT):
        return ""
    return (
        f"INT {case.vector:#x} is the BIOS service for {service}, and the BIOS can be called in real mode only. Call "
        "it before CR0.PE is set, or drive the device itself."
    )


def long_mode_off(case: Case) -> str:
    """Long mode's page tables, read as those of PAE, whose first level has no R/W and U/S bits."""
    if case.vector != PF or case.address is None or not case.error & PF_RESERVED:
        return ""
    found = page_walk(case.vcpu, case.error, case.address)
    entry = found.entries[-1] if found.entries else None
    if entry is None or entry.table != "PDPT" or found.mode != "PAE paging" or not entry.value & (RW | US):
        return ""
    return (
        f"PDPT[{entry.index}] at {entry.gpa:#x} holds {entry.value:#x}, and in PAE paging bits 1 and 2 (R/W, U/S) of "
        "this entry are reserved. If it is the PML4 of long mode: EFER.LME was not set before CR0.PG."
    )


def sixteen_bit_code(case: Case) -> str:
    """A code segment of 4 GiB without the D bit."""
    vcpu = case.vcpu
    if not case.raised or not case.protected or code_bits(vcpu) != 16 or vcpu.cs.limit <= LARGEST_16_BIT or _far(case):
        return ""
    return (
        f"The code segment {vcpu.cs.selector:#x} is a 16-bit one: the D flag of its descriptor (bit 54) is clear, and "
        "so 32-bit instructions are misread."
    )


def compatibility_mode(case: Case) -> str:
    """Ring 0 code in long mode, in a segment without the L bit."""
    vcpu = case.vcpu
    if not case.raised or not vcpu.efer & flags.EFER_LMA or code_bits(vcpu) == 64 or vcpu.cpl or _far(case):
        return ""
    return (
        f"Long mode is on, and the code segment {vcpu.cs.selector:#x} is not a 64-bit one (the L flag of its "
        "descriptor, bit 53, is clear): if this is 64-bit code, it is misread."
    )


def _far(case: Case) -> bool:
    """Whether the instruction at RIP is about to leave the code segment."""
    return case.instruction is not None and (
        case.instruction.mnemonic in _FAR or case.instruction.text.startswith(("jmp ptr", "call ptr", "jmp far"))
    )
