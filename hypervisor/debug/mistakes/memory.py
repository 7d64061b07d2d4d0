"""Mistakes with stacks, page tables and pointers."""

from __future__ import annotations

from hypervisor.arch import flags
from hypervisor.arch.exits import ExitKind
from hypervisor.arch.vectors import DF, GP, PF, PF_FETCH, PF_RESERVED, PF_USER, SS
from hypervisor.debug.cause import non_canonical, page_walk
from hypervisor.debug.disasm import linear_rip
from hypervisor.debug.mistakes.case import Case


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
    if case.error & PF_RESERVED and last is not None and "reserved" in last.says:
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
    before = case.events[-2]
    if before.kind is not ExitKind.CR_WRITE or before.info != 0 or not before.value & flags.CR0_PG:
        return ""
    return (
        f"Paging was switched on, and the next instruction, at {case.address:#x}, is not mapped. Map the code that "
        "sets CR0.PG one to one until it has jumped to its final address."
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


def lost(case: Case) -> str:
    """RIP is where no code is."""
    rip = linear_rip(case.vcpu)
    if page_fault(case) or paging_switched_on(case):
        return ""
    if rip == 0 and case.vcpu.idtr.base != 0:
        return "RIP is 0: a call through a null pointer, or a return on an overwritten stack."
    data = case.instruction.data if case.instruction is not None else b""
    if data[:4] in (b"\xff" * 4,) or data[:2] == b"\0\0":
        return f"RIP {rip:#x} is in memory without code (bytes {data[:2].hex(' ')}): a jump or return went wrong."
    return ""
