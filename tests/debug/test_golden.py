"""Classic mistakes of young kernels, and what the report says of each, word for word."""

from __future__ import annotations

import pytest

from tests.debug.golden_guests import FOLDER, NAMES, verdict

SAID = {
    "no_idt": "No IDT is loaded",
    "gdt_limit": "The GDT's limit is too small",
    "wrong_cs": "the gate's code segment 0x10 is a writable data segment",
    "error_code": "returned without removing the error code",
    "error_code_loop": "The handler of #PF page fault returned without removing the error code",
    "no_eoi": "sent no end of interrupt (EOI)",
    "no_eoi_apic": "End the handler with a write of 0 to the local APIC's EOI register",
    "stack_unmapped": "The stack is unusable: RSP 0x7f0000001000 is in a page that is not mapped",
    "no_execute": "a page that is marked no-execute",
    "non_canonical": "0x1000000b80002 (rbx) is not canonical",
    "ist_zero": "IST 1 in the TSS at 0x1000d0 is 0",
    "no_tss": "No TSS is loaded (TR is 0)",
    "reserved_bit": "which has reserved bit 45 set",
    "pic": "the PIC still has the vectors of real mode",
    "pic_handler": "Interrupt vector 0x8 was IRQ 0 (the timer), which is also #DF",
    "paging_on": "Paging was switched on, and the next instruction, at 0x7c5c, is not mapped",
    "null_call": "RIP is 0: a jump or call through a wrong pointer",
    "handler_faults": "it was there for #UD invalid opcode, raised at",
    "bad_handler_address": "The event before them was #PF page fault, error 0x2, address 0x200000000",
    "tables_overwritten": "The page tables at CR3",
    "ist_unmapped": "IST 1 in the TSS at 0x1000d0 is 0xffffffff80004000, where no writable page is",
    "bios_call": "INT 0x10 is the BIOS service for the screen",
    "sixteen_bits": "The code segment 0x8 is a 16-bit one",
    "data_segment": "selector 0x10 names a writable data segment",
    "no_lme": "EFER.LME was not set before CR0.PG",
    "panic": "The handler of #UD invalid opcode, raised at 0x102153 (main+0x13), stopped here",
    "wrong_cr3": "Either CR3 was loaded with tables that leave the kernel out",
    "stack_in_tables": "has grown into the tables",
    "bad_return": "iretq takes 0x20:0x10215d from the stack for CS:RIP; selector 0x20 names a writable data segment",
    "system_call_faults": "The IDT has no handler for vector 14",
    "no_lstar": "The SYSCALL at 0x102165 (main+0x25) went to the address in LSTAR, which is 0",
    "user_hlt": "The IDT has no handler for vector 13 (#GP general protection)",
    "user_bit": "PDPT[0] has no user bit",
}
"""The words that a student must see on the first line about the mistake."""


def test_every_guest_has_its_words() -> None:
    assert set(NAMES) == set(SAID) and len(SAID) >= 12


@pytest.mark.parametrize("name", NAMES)
def test_the_report_names_the_mistake(name: str) -> None:
    said = verdict(name)
    assert said == (FOLDER / f"{name}.txt").read_text()
    first = next(line for line in said.splitlines() if line.startswith("likely mistake: "))
    assert SAID[name] in first


def test_the_same_mistake_is_told_twice_alike() -> None:
    assert verdict("pic") == verdict("pic")
