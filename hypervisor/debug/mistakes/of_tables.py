"""Mistakes in the IDT, the GDT and the TSS."""

from __future__ import annotations

from typing import Any

from hypervisor.arch import flags
from hypervisor.arch.vectors import GP, NP, SELECTOR_IDT, SS, TS
from hypervisor.debug.cause import IRETS, returning, selector
from hypervisor.debug.descriptor_tables import count, descriptor, table_of
from hypervisor.debug.mistakes.case import Case, vector_name
from hypervisor.debug.mistakes.of_events import no_error_code_pop

_CODE_STEPS = ("code-type", "code-dpl", "code-bits", "code-present", "code-null", "code-v86")
_GATE_STEPS = ("idt-limit", "idt-read", "gate-type", "gate-present", *_CODE_STEPS, "code-limit")
_RESET_LIMITS = (0, 0x3FF, 0xFFFF)


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
    return f"The {table} has no handler for vector {vector} ({vector_name(vector)}): {refusal.why}."


def gdt_limit(case: Case) -> str:
    """A selector that lies beyond the GDT."""
    number = None
    found = case.refused("code-limit", "stack-limit")
    if found and found[0].gate is not None and found[1].step == "code-limit":
        number = found[0].gate.selector
    elif case.instruction is not None and case.instruction.mnemonic in IRETS:
        return ""  # whatever lay on the stack is no selector of the guest's making
    elif case.vector in (GP, NP, SS, TS) and case.error and not case.error & SELECTOR_IDT:
        number = case.error & 0xFFFC
    if number is None:
        return ""
    table, _, limit = table_of(case.vcpu, number)
    if limit < 0 or (number & 0xFFF8) + 7 <= limit:
        return ""
    room = count((limit + 1) // 8, "entry", "entries")
    return (
        f"The {table}'s limit is too small: {limit:#x} has room for {room}, and selector {number:#x} is entry "
        f"{number >> 3}. The limit that LGDT takes is the size of the whole table in bytes minus 1."
    )


def wrong_selector(case: Case) -> str:
    """A selector whose descriptor is there, but not what the instruction needs."""
    if case.vector not in (GP, NP, SS, TS) or not case.error or case.error & SELECTOR_IDT or not case.raised:
        return ""
    if case.instruction is None or gdt_limit(case) or no_error_code_pop(case):
        return ""
    why = returning(case.vcpu, case.instruction) or f"{case.instruction.text}: "
    return f"{why}{selector(case.vcpu, case.error)}."


def wrong_code_segment(case: Case) -> str:
    """A gate whose selector is no code segment, or code of another width."""
    found = case.refused(*_CODE_STEPS)
    if not found or found[0].gate is None or no_idt(case):
        return ""
    made, refusal = found
    good = _code_selector(case.vcpu)
    hint = f" Put the kernel's code segment there, here {good:#x}." if good else ""
    return f"IDT entry {made.event.vector} ({vector_name(made.event.vector)}) cannot be used: {refusal.why}.{hint}"


def no_tss(case: Case) -> str:
    """A stack was needed out of a TSS that was never loaded."""
    for made in case.attempts:
        from_tss = made.stack_from.startswith(("IST", "RSP0", "RSP1", "RSP2", "SS")) and made.stack_from != "SS:SP"
        if (from_tss or (made.refusal and made.refusal.step.startswith("tss"))) and not case.vcpu.tr.selector & 0xFFFC:
            need = made.stack_from or "a stack"
            ring = f"from ring {case.vcpu.cpl} " if case.vcpu.cpl else ""
            name = vector_name(made.event.vector)
            return (
                f"No TSS is loaded (TR is 0), and delivering {name} {ring}needs {need} out of it. Fill in a TSS, put "
                "its descriptor into the GDT, and load it with LTR."
            )
    return ""


def empty_stack_in_tss(case: Case) -> str:
    """The TSS is there, but the stack pointer in it is 0."""
    for made in case.attempts:
        if made.sp == 0 and made.stack_from not in ("", "RSP", "ESP", "SS:SP") and not no_tss(case):
            where = "has no room for it" if made.refusal and made.refusal.step == "tss-limit" else "is 0"
            name, stack = vector_name(made.event.vector), made.stack_from
            return (
                f"The handler of {name} is to run on {stack}, and {stack} in the TSS at {case.vcpu.tr.base:#x} {where}:"
                " write the address of the stack's end there."
            )
    return ""


def bad_stack_in_tss(case: Case) -> str:
    """The stack pointer in the TSS leads to where no stack is."""
    made_refusal = case.refused("push", "stack-canonical")
    if not made_refusal or made_refusal[0].stack_from in ("RSP", "ESP", "SS:SP") or not made_refusal[0].sp:
        return ""
    made, refusal = made_refusal
    why = "which is not canonical" if refusal.page is None else "where no writable page is"
    return (
        f"The handler of {vector_name(made.event.vector)} is to run on {made.stack_from}, and {made.stack_from} in the "
        f"TSS at {case.vcpu.tr.base:#x} is {made.sp:#x}, {why}."
    )


def _code_selector(vcpu: Any) -> int:
    """The first usable ring 0 code segment of the GDT, 0 if there is none."""
    wide = bool(vcpu.efer & flags.EFER_LMA)
    for number in range(8, min(vcpu.gdtr.limit, 0x7F), 8):
        entry = descriptor(vcpu, number)
        if entry is not None and entry.is_code and entry.present and not entry.dpl and entry.is_64_bit == wide:
            return number
    return 0
