"""Mistakes with stacks, page tables and pointers."""

from __future__ import annotations

from hypervisor.arch import flags
from hypervisor.arch.exits import ExitKind
from hypervisor.arch.msr import is_canonical
from hypervisor.arch.vectors import DF, GP, PF, PF_FETCH, PF_RESERVED, PF_USER, SS, UD
from hypervisor.debug.cause import non_canonical, page_walk
from hypervisor.debug.disasm import LONGEST, code_bits, linear_rip
from hypervisor.debug.mistakes.case import Case
from hypervisor.debug.mistakes.modes import long_mode_off
from hypervisor.debug.walk import walk
from hypervisor.errors import GuestFault
from hypervisor.units import PAGE_SIZE

ASTRAY = "a jump or call through a wrong pointer (a null pointer?), or a return on an overwritten stack"
SYSCALL = b"\x0f\x05"
LOW_ADDRESS = (1 << 30) - 1
"""What a kernel's virtual addresses usually have in common with the physical ones."""


def bad_stack(case: Case) -> str:
    """The interrupted code's stack cannot take the frame."""
    made_refusal = case.refused("push", "stack-canonical")
    if not made_refusal or made_refusal[0].stack_from not in ("RSP", "ESP", "SS:SP"):
        return ""
    made, refusal = made_refusal
    last = refusal.page.entries[-1] if refusal.page is not None and refusal.page.entries else None
    why = "is not canonical" if last is None else "is in a page that is not mapped"
    if last is not None and last.says != "not present":
        why = "is in a page that cannot be written"
    double = next((other for other in case.attempts if other.event.vector == DF), None)
    ist = ""
    if double is not None and double.gate is not None and double.gate.long_mode and not double.gate.ist:
        ist = " Give #DF a stack of its own (IST), so that its handler can tell."
    return (
        f"The stack is unusable: {made.stack_from} {made.sp or 0:#x} {why}, so the processor cannot push an interrupt "
        f"frame. Either it was never set, or it overflowed.{ist}"
    )


def page_fault(case: Case) -> str:
    """What the page tables themselves got wrong."""
    if case.vector != PF or case.address is None:
        return ""
    found = page_walk(case.vcpu, case.error, case.address)
    last = found.entries[-1] if found.entries else None
    if case.error & PF_RESERVED and last is not None and "reserved" in last.says and not long_mode_off(case):
        nx = " (NX, which is reserved until EFER.NXE is set)" if "bit 63" in last.says else ""
        return (
            f"A page-table entry is malformed: {last.table}[{last.index}] at {last.gpa:#x} holds {last.value:#x}, "
            f"which {last.says}{nx}. Entries are the physical address or'ed with flag bits."
        )
    if case.error & PF_FETCH and any("no-execute" in entry.says for entry in found.entries):
        return (
            f"Code was executed in a page that is marked no-execute: {case.address:#x}. Either the jump went wrong, or "
            "the page's entry must not have NX (bit 63)."
        )
    if case.error & PF_USER and any("belongs to ring 0" in entry.says for entry in found.entries):
        culprit = next(entry for entry in found.entries if "belongs to ring 0" in entry.says)
        return (
            f"Ring 3 touched {case.address:#x}, which the tables give to ring 0: {culprit.table}[{culprit.index}] has "
            "no user bit (4). A user page needs it in the entries of every level."
        )
    return ""


def paging_switched_on(case: Case) -> str:
    """The code that switches paging on is not mapped by the tables that it switches on."""
    if case.vector != PF or case.address != linear_rip(case.vcpu) or len(case.events) < 2:
        return ""
    if page_fault(case) or long_mode_off(case):
        return ""
    before = case.events[-2]
    if before.kind is not ExitKind.CR_WRITE or before.info != 0 or not before.value & flags.CR0_PG:
        return ""
    if not 0 < case.vcpu.rip - before.rip <= LONGEST:
        return ""  # it has gone on since then
    return (
        f"Paging was switched on, and the next instruction, at {case.address:#x}, is not mapped. Map the code that "
        "sets CR0.PG one to one until it has jumped to its final address."
    )


def tables_lost(case: Case) -> str:
    """Nothing of the kernel is mapped any more."""
    vcpu = case.vcpu
    if not vcpu.cr0 & flags.CR0_PG or paging_switched_on(case) or page_fault(case):
        return ""
    rip, table = linear_rip(vcpu), vcpu.idtr.base
    code, idt = walk(vcpu, rip, "fetch", False, True), walk(vcpu, table, "read", False, True)
    if code.vector is None or idt.vector is None or not idt.entries or table == 0:
        return ""
    entry = idt.entries[-1]
    over = vcpu.rsp - entry.gpa & LOW_ADDRESS
    grown = over < PAGE_SIZE or LOW_ADDRESS - over < PAGE_SIZE
    why = (
        f"The stack (its pointer is {vcpu.rsp:#x}) has grown into the tables."
        if grown
        else "Either CR3 was loaded with tables that leave the kernel out, or something has written into them."
    )
    return (
        f"The page tables at CR3 {vcpu.cr3:#x} map neither the code at {rip:#x} nor the IDT at {table:#x}: "
        f"{entry.table}[{entry.index}] at {entry.gpa:#x} holds {entry.value:#x}. {why}"
    )


def wild_address(case: Case) -> str:
    """An address with garbage in its upper bits."""
    if case.vector not in (GP, SS) or case.error or case.instruction is None:
        return ""
    wild = non_canonical(case.vcpu, case.instruction)
    if wild is None:
        return ""
    return (
        f"The address {wild.address:#x} ({wild.text or 'an immediate'}) is not canonical: bits 63 to 47 of an address "
        "are equal. A pointer was not initialised, overwritten, or made from 32-bit parts without sign extension."
    )


def _system_call_to_nowhere(case: Case) -> str:
    """SYSCALL without an entry: it leaves the address behind itself in RCX."""
    vcpu = case.vcpu
    if code_bits(vcpu) != 64 or not vcpu.efer & flags.EFER_SCE or vcpu.get("lstar"):
        return ""
    at = vcpu.get("rcx") - len(SYSCALL)
    try:
        found = vcpu.read(at, len(SYSCALL)) == SYSCALL
    except GuestFault:
        return ""
    return f"The SYSCALL at {case.symbol(at)} went to the address in LSTAR, which is 0." if found else ""


def started_nowhere(case: Case) -> str:
    """A startup IPI has sent a processor to where no code is."""
    start, data = case.vcpu.started or (0, b"")
    if case.protected or data not in (bytes(2), b"\xff\xff"):
        return ""
    return (
        f"The startup IPI sent vCPU {case.vcpu.number} to {start:#x}, where no code was (bytes {data.hex(' ')}). Copy "
        "the code there first; the IPI's vector is the number of the page."
    )


def lost(case: Case) -> str:
    """RIP is where no code is."""
    vcpu, rip = case.vcpu, linear_rip(case.vcpu)
    if not case.raised or page_fault(case) or paging_switched_on(case) or tables_lost(case):
        return ""
    if vcpu.efer & flags.EFER_LMA and not is_canonical(rip):
        return f"RIP {rip:#x} is not canonical: {ASTRAY}, or a SYSRET with a wrong RCX."
    if called := _system_call_to_nowhere(case):
        return called
    if rip == 0 and vcpu.idtr.base != 0:
        return f"RIP is 0: {ASTRAY}."
    data = case.instruction.data[:4] if case.instruction is not None else b""
    symbols = vcpu.vm.symbols
    known = symbols.lookup(rip)
    if data == b"\xff" * 4 or data[:2] == b"\0\0":
        if known is not None:
            return f"The code at {case.symbol(rip)} has been overwritten: the bytes {data[:2].hex(' ')} are there now."
        return f"RIP {rip:#x} is in memory without code (bytes {data[:2].hex(' ')}): {ASTRAY}."
    missed = case.vector == UD or (case.vector == PF and case.address == rip)
    if missed and known is None and len(symbols) and case.protected:
        return f"RIP {rip:#x} is outside of all code that has a symbol: {ASTRAY}."
    return ""
