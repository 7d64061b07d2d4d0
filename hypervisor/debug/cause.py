"""Why an instruction raised an exception, as a sentence (AMD64 APM volume 2, 8.2, and volume 3)."""

from __future__ import annotations

from typing import Any

from hypervisor.arch import flags
from hypervisor.arch import vectors as v
from hypervisor.arch.msr import is_canonical
from hypervisor.debug import refusals
from hypervisor.debug.descriptor_tables import beyond, descriptor, table_of
from hypervisor.debug.disasm import code_bits, linear_rip
from hypervisor.debug.instruction import Instruction, Touched
from hypervisor.debug.walk import Walk, walk
from hypervisor.errors import GuestFault, HypervisorError

PRIVILEGED = frozenset((
    "hlt", "lgdt", "lidt", "lldt", "ltr", "lmsw", "clts", "invlpg", "invd", "wbinvd", "rdmsr", "wrmsr", "swapgs",
    "rdpmc", "sysret", "sysretq", "sysexit", "xsetbv",
))  # fmt: skip
"""Instructions of ring 0 only (APM volume 2, 6)."""

ALIGNED = frozenset(("movaps", "movapd", "movdqa", "movntdq", "movntps", "movntpd", "movntdqa", "fxsave", "fxrstor"))
"""SSE instructions that want an address that 16 divides."""

SYSTEM_CALLS = ("syscall", "sysret", "sysretq")
_IO = frozenset(("in", "out", "insb", "insw", "insd", "outsb", "outsw", "outsd"))
IRETS = ("iret", "iretd", "iretq")
NULL_PAGE = 4096
"""Addresses below this are taken for null pointers with an offset."""


def page_walk(vcpu: Any, error: int, address: int) -> Walk:
    """The walk of a page fault's access, as its error code describes it."""
    access = "fetch" if error & v.PF_FETCH else "write" if error & v.PF_WRITE else "read"
    if access == "read" and address == linear_rip(vcpu):
        access = "fetch"  # the error code says so only with NX or SMEP
    return walk(vcpu, address, access, bool(error & v.PF_USER))


def cause(vcpu: Any, vector: int, error: int | None, address: int | None, instruction: Instruction | None) -> str:
    """A sentence for an exception of the instruction at RIP, or "" if there is nothing to add to its name."""
    if vector == v.PF and address is not None:
        return _page_fault(vcpu, page_walk(vcpu, error or 0, address))
    if vector in (v.TS, v.NP, v.SS, v.GP) and error:
        return returning(vcpu, instruction) + selector(vcpu, error)
    if instruction is None:
        wild = vcpu.efer & flags.EFER_LMA and not is_canonical(linear_rip(vcpu))
        return "RIP is not canonical (bits 63 to 47 must be equal)" if wild else "the instruction cannot be read"
    if vector in (v.GP, v.SS):
        return _general_protection(vcpu, instruction)
    if vector == v.UD:
        return _undefined(vcpu, instruction)
    if vector == v.DE:
        return f"{instruction.text}: the divisor is 0, or the quotient does not fit"
    if vector == v.NM:
        bit = "CR0.EM" if vcpu.cr0 & flags.CR0_EM else "CR0.TS"
        return f"{instruction.text} needs the FPU, and {bit} is set"
    if vector == v.MF:
        return "an x87 instruction before this one raised an exception that its control word does not mask"
    return {v.DB: "", v.BP: "INT3 was executed", v.OF: "INTO found an overflow"}.get(vector, "")


def _page_fault(vcpu: Any, found: Walk) -> str:
    verb = {"read": "read", "write": "wrote to", "fetch": "tried to execute at"}[found.access]
    null = " (a null pointer?)" if found.gva < NULL_PAGE else ""
    last = found.entries[-1] if found.entries else None
    if last is None:
        reason = found.reason
    elif last.says == "not present":
        reason = "which is not mapped"
    elif "reserved" in last.says:
        reason = f"whose page-table entry {last.table}[{last.index}] has a reserved bit set"
    elif culprit := next((entry for entry in found.entries if entry.says.startswith(("is ", "belongs"))), None):
        reason = f"a page that {culprit.says}"
    else:
        reason = found.reason or "which is mapped (the TLB held an older entry: INVLPG is missing?)"
    if found.vector is None:
        reason = "which the tables map by now (was the TLB flushed after they changed?)"
    return f"{found.who} {verb} {found.gva:#x}{null}, {reason}"


def selector(vcpu: Any, error: int) -> str:
    """An error code that names a descriptor (APM volume 2, 8.4.1)."""
    if error & v.SELECTOR_IDT:
        return f"the error code names IDT entry {error >> 3}"
    number = error & 0xFFFC
    if why := beyond(vcpu, number):
        return f"selector {number:#x} {why}"
    table, base, _ = table_of(vcpu, number)
    entry = descriptor(vcpu, number)
    if entry is None:
        return f"selector {number:#x}: the {table} at {base:#x} is not mapped"
    return f"selector {number:#x} names {entry}"


def returning(vcpu: Any, instruction: Instruction | None) -> str:
    """Where an IRET wants to go, as the beginning of a sentence; empty for other instructions."""
    if instruction is None or instruction.mnemonic not in IRETS:
        return ""
    size = return_size(vcpu, instruction)
    base = 0 if code_bits(vcpu) == 64 else vcpu.ss.base
    try:
        frame = vcpu.read(base + vcpu.rsp, 2 * size)
    except GuestFault:
        return ""
    rip, cs = int.from_bytes(frame[:size], "little"), int.from_bytes(frame[size : size + 2], "little")
    return f"{instruction.text} takes {cs:#x}:{rip:#x} from the stack for CS:RIP; "


def return_size(vcpu: Any, instruction: Instruction) -> int:
    """Bytes of each item that an IRET pops."""
    if instruction.mnemonic == "iretq":
        return 8
    return 4 if instruction.mnemonic == "iretd" or code_bits(vcpu) != 16 else 2


def _general_protection(vcpu: Any, instruction: Instruction) -> str:
    text, mnemonic, cpl = instruction.text or "these bytes", instruction.mnemonic, vcpu.cpl
    if wild := non_canonical(vcpu, instruction):
        return f"{text} uses the address {wild.address:#x}, which is not canonical (bits 63 to 47 must be equal)"
    if (target := _target(vcpu, instruction)) is not None and not is_canonical(target):
        return f"{text} goes to {target:#x}, which is not canonical (bits 63 to 47 must be equal)"
    if cpl and mnemonic in PRIVILEGED:
        return f"{text} is for ring 0 only, and this is ring {cpl}"
    if cpl and (mnemonic in ("cli", "sti") or mnemonic in _IO):
        iopl = vcpu.rflags >> flags.RFLAGS_IOPL_SHIFT & 3
        return f"{text} in ring {cpl} needs IOPL {cpl} or a permission, and IOPL is {iopl}"
    if mnemonic == "mov" and any(name.startswith(("cr", "dr")) for name in instruction.operands):
        register, source = instruction.operands
        refuses = "" if cpl else refusals.control_register(vcpu, register, vcpu.get(source))
        return f"{text} is for ring 0 only" if cpl else f"{text}: {refuses}"
    if mnemonic in ("rdmsr", "wrmsr"):
        return f"{text}: {refusals.msr_access(vcpu, mnemonic == 'wrmsr')}"
    if mnemonic in ALIGNED and instruction.memory and instruction.memory[0].address % 16:
        return f"{text} needs an address that 16 divides, and {instruction.memory[0].address:#x} is not"
    if mnemonic in IRETS:
        return f"{text}: the frame on the stack is not one that it can return to"
    return f"{text} is refused in this state" if instruction.text else "no instruction is at RIP"


def _target(vcpu: Any, instruction: Instruction) -> int | None:
    """Where a near branch of 64-bit code wants to go, as far as its operand or the stack tells."""
    if code_bits(vcpu) != 64 or instruction.mnemonic not in ("jmp", "call", "ret"):
        return None
    place = vcpu.rsp if instruction.mnemonic == "ret" else instruction.memory[0].address if instruction.memory else None
    try:
        if place is not None:
            return int.from_bytes(vcpu.read(place, 8), "little")
        (operand,) = instruction.operands
        return int(operand, 0) if operand.startswith("0x") else int(vcpu.get(operand))
    except (GuestFault, HypervisorError, ValueError):
        return None


def non_canonical(vcpu: Any, instruction: Instruction) -> Touched | None:
    """The memory operand that no 48-bit address is, in long mode."""
    if not vcpu.efer & flags.EFER_LMA:
        return None
    return next((part for part in instruction.memory if part.address >> 47 not in (0, 0x1FFFF)), None)


def _undefined(vcpu: Any, instruction: Instruction) -> str:
    if not instruction.text:
        return f"the bytes {instruction.data[:4].hex(' ')} are no instruction"
    if instruction.mnemonic == "ud2":
        return "UD2 was executed: compilers put it where code must never come"
    if instruction.mnemonic in SYSTEM_CALLS and not vcpu.efer & flags.EFER_SCE:
        return f"{instruction.text} needs EFER.SCE, which is clear"
    if instruction.sse and not vcpu.cr4 & flags.CR4_OSFXSR:
        return f"{instruction.text} is an SSE instruction, and CR4.OSFXSR is clear"
    if instruction.sse and vcpu.cr0 & flags.CR0_EM:
        return f"{instruction.text} is an SSE instruction, and CR0.EM is set"
    return f"{instruction.text} is not an instruction of this mode or this processor"
