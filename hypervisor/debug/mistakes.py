"""The classic mistakes of a young kernel, recognised in a crash and named in a sentence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from hypervisor.arch import flags
from hypervisor.arch.exits import ExitKind
from hypervisor.arch.vectors import DF, GP, NP, PF, PF_FETCH, PF_RESERVED, SELECTOR_IDT, SS, TS
from hypervisor.core.history import EXCEPTION, EXTERNAL, Event
from hypervisor.debug.autopsy import Autopsy
from hypervisor.debug.cause import non_canonical, page_walk
from hypervisor.debug.delivery import Attempt, Refusal
from hypervisor.debug.disasm import code_bits, linear_rip
from hypervisor.debug.instruction import Instruction, at_rip
from hypervisor.debug.tables import Descriptor, count, table_of
from hypervisor.errors import GuestFault

PIC_DEFAULT = range(8, 16)
"""Where a PC's firmware leaves the vectors of IRQ 0 to 7, on top of the processor's exceptions."""
IRQ_NAMES = ("the timer", "the keyboard", "the second PIC", "COM2", "COM1", "LPT2", "the floppy", "LPT1")

_CODE_STEPS = ("code-type", "code-dpl", "code-bits", "code-present", "code-null", "code-v86")
_GATE_STEPS = ("idt-limit", "idt-read", "gate-type", "gate-present", *_CODE_STEPS, "code-limit")
_RESET_LIMITS = (0, 0x3FF, 0xFFFF)


@dataclass(frozen=True)
class Case:
    """A crash to judge: the first exception of the chain (None: no chain) and everything around it."""

    vcpu: Any
    vector: int | None
    error: int
    address: int | None
    attempts: Sequence[Attempt]
    events: Sequence[Event]
    instruction: Instruction | None

    @property
    def protected(self) -> bool:
        """Protected or long mode."""
        return bool(self.vcpu.cr0 & flags.CR0_PE)

    def refused(self, *steps: str) -> tuple[Attempt, Refusal] | None:
        """The first attempt that failed at one of these steps."""
        for made in self.attempts:
            if made.refusal is not None and made.refusal.step in steps:
                return made, made.refusal
        return None


def mistakes(vcpu: Any, chain: Sequence[Any], found: Autopsy | None, events: Sequence[Event]) -> list[str]:
    """Sentences about what the guest got wrong, the best first; empty if it is no classic."""
    first = chain[0] if chain else None
    case = Case(
        vcpu,
        None if first is None else first.vector,
        0 if first is None else first.error or 0,
        None if first is None else first.address,
        () if found is None else found.attempts,
        events,
        at_rip(vcpu),
    )
    return [text for rule in (RULES if chain else EVENT_RULES) if (text := rule(case))]


def pic_not_remapped(case: Case) -> str:
    """IRQ 0 to 7 arrive as exceptions."""
    modes = [n for n, e in enumerate(case.events) if e.kind in (ExitKind.CR_WRITE, ExitKind.LMSW) and not e.info]
    since = case.events[modes[-1] :] if modes else case.events  # in real mode the vectors were right
    early = [e for e in since if e.origin == EXTERNAL and e.vector in PIC_DEFAULT]
    if not early or not case.protected:
        return ""
    vector = early[-1].vector or 0
    irq = vector - PIC_DEFAULT.start
    name = f", which is also {'#DF' if vector == DF else 'an exception'}"
    return (
        f"Interrupt vector {vector:#x} was IRQ {irq} ({IRQ_NAMES[irq]}){name}: interrupts are on (STI), but the PIC "
        "still has the vectors of real mode (8 to 15). Remap it with ICW1 to ICW4 (to 0x20, say) before STI."
    )


def no_error_code_pop(case: Case) -> str:
    """IRET with the error code still on the stack: it is taken for RIP, and RIP for CS, which is refused."""
    raised = [event for event in case.events if event.origin == EXCEPTION]
    for before, after in pairwise(raised):
        if before.error is None or not after.error or after.error & 0xFFFC != before.rip & 0xFFFC:
            continue
        if not _is_iret(case.vcpu, after.rip):
            continue
        pop = "add rsp, 8" if case.vcpu.efer & flags.EFER_LMA else "add esp, 4"
        name = str(before).split(",")[0]
        return (
            f"The handler of {name} returned without removing the error code: IRET took the error code "
            f"{before.error:#x} for RIP and the old RIP {before.rip:#x} for CS. Put '{pop}' before IRET."
        )
    return ""


def _is_iret(vcpu: Any, rip: int) -> bool:
    try:
        data = vcpu.read(rip if code_bits(vcpu) == 64 else vcpu.cs.base + rip, 2)
    except GuestFault:
        return False
    return data[:1] == b"\xcf" or data in (b"\x48\xcf", b"\x66\xcf")


def no_idt(case: Case) -> str:
    """IDTR was never loaded, or loaded with nothing."""
    idtr = case.vcpu.idtr
    if not case.protected or not case.refused(*_GATE_STEPS) or case.vcpu.idtr.limit > 0xFFFF:
        return ""
    if idtr.base == 0 and idtr.limit in _RESET_LIMITS:
        return (
            f"No IDT is loaded: IDTR has base 0 and limit {idtr.limit:#x}, as before the first LIDT, so no exception "
            "or interrupt can be delivered. Build one and load it before anything can fault."
        )
    return "The IDT is empty: its limit is 0. LIDT takes the size in bytes minus 1." if not idtr.limit else ""


def gate_missing(case: Case) -> str:
    """There is an IDT, but nothing in it for this event."""
    refusal = case.attempts[0].refusal if case.attempts else None
    if refusal is None or refusal.step not in ("idt-limit", "gate-type", "gate-present") or no_idt(case):
        return ""
    vector = case.attempts[0].event.vector
    table = "IDT" if case.protected else "interrupt vector table"
    return f"The {table} has no handler for vector {vector} ({_name(vector)}): {refusal.why}."


def gdt_limit(case: Case) -> str:
    """A selector that lies beyond the GDT."""
    selector = None
    found = case.refused("code-limit", "stack-limit")
    if found and found[0].gate is not None and found[1].step == "code-limit":
        selector = found[0].gate.selector
    elif case.vector in (GP, NP, SS, TS) and case.error and not case.error & SELECTOR_IDT:
        selector = case.error & 0xFFFC
    if selector is None:
        return ""
    table, _, limit = table_of(case.vcpu, selector)
    if limit < 0 or (selector & 0xFFF8) + 7 <= limit:
        return ""
    room = count((limit + 1) // 8, "entry", "entries")
    return (
        f"The {table}'s limit is too small: {limit:#x} has room for {room}, and selector {selector:#x} is entry "
        f"{selector >> 3}. The limit that LGDT takes is the size of the whole table in bytes minus 1."
    )


def wrong_code_segment(case: Case) -> str:
    """A gate whose selector is no code segment, or code of another width."""
    found = case.refused(*_CODE_STEPS)
    if not found or found[0].gate is None or no_idt(case):
        return ""
    made, refusal = found
    good = _code_selector(case.vcpu)
    hint = f" Put the kernel's code segment there, here {good:#x}." if good else ""
    return f"IDT entry {made.event.vector} ({_name(made.event.vector)}) cannot be used: {refusal.why}.{hint}"


def no_tss(case: Case) -> str:
    """A stack was needed out of a TSS that was never loaded."""
    for made in case.attempts:
        from_tss = made.stack_from.startswith(("IST", "RSP0", "RSP1", "RSP2", "SS")) and made.stack_from != "SS:SP"
        if (from_tss or (made.refusal and made.refusal.step.startswith("tss"))) and not case.vcpu.tr.selector & 0xFFFC:
            need = made.stack_from or "a stack"
            ring = f"from ring {case.vcpu.cpl} " if case.vcpu.cpl else ""
            return (
                f"No TSS is loaded (TR is 0), and delivering {_name(made.event.vector)} {ring}needs {need} out of it. "
                "Fill in a TSS, put its descriptor into the GDT, and load it with LTR."
            )
    return ""


def empty_stack_in_tss(case: Case) -> str:
    """The TSS is there, but the stack pointer in it is 0."""
    for made in case.attempts:
        if made.sp == 0 and made.stack_from not in ("", "RSP", "ESP", "SS:SP") and not no_tss(case):
            where = "has no room for it" if made.refusal and made.refusal.step == "tss-limit" else "is 0"
            return (
                f"The handler of {_name(made.event.vector)} is to run on {made.stack_from}, and {made.stack_from} in "
                f"the TSS at {case.vcpu.tr.base:#x} {where}: write the address of the stack's end there."
            )
    return ""


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
    return ""


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
    if page_fault(case):
        return ""
    if rip == 0 and case.vcpu.idtr.base != 0:
        return "RIP is 0: a call through a null pointer, or a return on an overwritten stack."
    data = case.instruction.data if case.instruction is not None else b""
    if data[:4] in (b"\xff" * 4,) or data[:2] == b"\0\0":
        return f"RIP {rip:#x} is in memory without code (bytes {data[:2].hex(' ')}): a jump or return went wrong."
    return ""


EVENT_RULES: tuple[Callable[[Case], str], ...] = (pic_not_remapped, no_error_code_pop)
"""What the last events show, crash or not."""

RULES: tuple[Callable[[Case], str], ...] = (
    *EVENT_RULES, no_tss, empty_stack_in_tss, bad_stack, page_fault, wild_address, gdt_limit,
    no_idt, wrong_code_segment, gate_missing, lost,
)  # fmt: skip
"""What caused the first exception comes before what kept it from its handler."""


def _name(vector: int) -> str:
    from hypervisor.arch.vectors import VECTORS

    known = VECTORS.get(vector)
    return f"{known.mnemonic} {known.name}".strip() if known is not None else f"interrupt {vector:#x}"


def _code_selector(vcpu: Any) -> int:
    """The first usable ring 0 code segment of the GDT, 0 if there is none."""
    wide = bool(vcpu.efer & flags.EFER_LMA)
    for selector in range(8, min(vcpu.gdtr.limit, 0x7F), 8):
        try:
            entry = Descriptor(int.from_bytes(vcpu.read(vcpu.gdtr.base + selector, 8), "little"))
        except GuestFault:
            return 0
        if entry.is_code and entry.present and not entry.dpl and entry.is_64_bit == wide:
            return selector
    return 0
