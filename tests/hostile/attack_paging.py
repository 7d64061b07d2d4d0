"""Page tables that lead everywhere, and that change while they are used."""

from __future__ import annotations

from functools import partial

from tests.hostile.asm import asm
from tests.hostile.cases import add, case
from tests.hostile.machines import entries, machine
from tests.hostile.scenes import CODE, GDT, IDT, PAGES, STACK, Scene

_NOWHERE = {
    "beyond_memory": 0x200000, "top_of_4g": 0xFFFFF000, "top_of_physical": 0xFFFFFFF000, "apic": 0xFEE00000,
    "vga": 0xB8000,
    "the_code": CODE, "the_table": PAGES, "rom": 0xF0000,
}  # fmt: skip


def _root(mode: str, cr3: int) -> Scene:
    return machine(
        mode, asm(f"mov eax, {cr3 & 0xFFFFFFFF:#x}; mov cr3, {'rax' if mode == 'long' else 'eax'}; hlt", mode)
    )


def _entry(mode: str, level: int, value: int) -> Scene:
    """Replace one entry of the tables by a lead to somewhere else, and touch what lies behind it."""
    size = 4 if mode == "paging32" else 8
    at = PAGES + 0x1000 * level + (size * (STACK >> 12) if level == (1 if size == 4 else 3) else 0)
    code = asm("mov eax, [0x70000]; mov [0x70000], eax; push eax; call 0x70000; hlt" if mode != "long" else
               "mov eax, [0x70000]; mov [0x70000], eax; push rax; call 0x70000; hlt", mode)  # fmt: skip
    return machine(mode, code, writes=((at, entries(value, size=size)),))


for _name, _where in _NOWHERE.items():
    for _mode in ("paging32", "pae", "long"):
        add(f"cr3_{_name}_{_mode}", partial(_root, _mode, _where), "crashed", "halted", "virtual-timeout")
        for _level in range({"paging32": 2, "pae": 4, "long": 4}[_mode]):
            if _mode == "pae" and _level == 1:
                continue
            add(
                f"entry_{_name}_{_mode}_{_level}", partial(_entry, _mode, _level, _where | 7),
                "crashed", "halted", "virtual-timeout",
            )  # fmt: skip
for _bit in (7, 8, 12, 40, 51, 52, 62, 63):
    for _mode in ("pae", "long"):
        for _level in (0, 2, 3):
            add(
                f"bit_{_bit}_{_mode}_{_level}", partial(_entry, _mode, _level, STACK | 7 | 1 << _bit),
                "crashed", "halted", "virtual-timeout",
            )  # fmt: skip


@case("halted")
def unmaps_its_own_page() -> Scene:
    return machine(
        "long", asm(f"mov qword ptr [{PAGES + 0x3000 + 8 * (CODE >> 12)}], 0; invlpg [{CODE}]; nop; hlt", "long")
    )


@case("crashed", "halted")
def unmaps_its_own_page_and_does_not_flush() -> Scene:
    code = (
        f"mov qword ptr [{PAGES + 0x3000 + 8 * (CODE >> 12)}], 0; mov ecx, 100; again: mov dr0, rax; cpuid; "
        "rdtsc; int3; jmp again"
    )
    return machine("long", asm(code, "long"))


@case("virtual-timeout", "crashed", "halted")
def tables_are_the_stack() -> Scene:
    """Pushes rewrite the entry that maps the stack."""
    stack = PAGES + 0x3000 + 8 * 512
    return machine("long", asm("again: push rax; push 7; push -1; jmp again", "long"), rsp=stack, rax=0x67)


@case("crashed", "halted")
def page_tables_executed() -> Scene:
    return machine("long", asm(f"jmp {PAGES + 0x3000}", "long"))


@case("virtual-timeout", "crashed", "halted")
def accessed_bits_in_code() -> Scene:
    """The table that maps the code is the page that is executed: setting accessed bits changes the code."""
    table = CODE
    leaves = entries(*(n << 12 | 7 for n in range(512)))
    code = asm("again: inc qword ptr [0x30000]; inc qword ptr [0x31000]; mov rax, cr3; mov cr3, rax; jmp again", "long")
    return machine(
        "long", code, at=CODE + 0xF00, writes=((table, leaves[:0xF00]), (PAGES + 0x2000, entries(table | 7)))
    )


@case("virtual-timeout")
def flips_a_page_for_ever() -> Scene:
    entry = PAGES + 0x3000 + 8 * 0x30
    return machine(
        "long",
        asm(f"again: xor qword ptr [{entry}], 0x1000; invlpg [0x30000]; inc dword ptr [0x30000]; jmp again", "long"),
    )


@case("crashed")
def descriptor_tables_not_mapped() -> Scene:
    writes = tuple((PAGES + 0x3000 + 8 * (where >> 12), entries(0)) for where in (GDT, IDT))
    return machine("long", asm("mov ds, ax; ud2", "long"), writes=writes, rax=0x10)


@case("crashed")
def noncanonical_everything() -> Scene:
    return machine("long", asm("mov rsp, 0x8000000000000000; push rax; hlt", "long"))


@case("virtual-timeout")
def fills_the_tlb() -> Scene:
    """Touches every page again and again, through large pages and small ones."""
    large = entries(*(n << 21 | 0xE7 for n in range(512)))
    code = asm("again: add rax, 4096; and rax, 0x3fffffff; or rax, 0x200000; mov cl, [rax]; jmp again", "long")
    return machine("long", code, writes=((PAGES + 0x2000 + 8, large[8:]),))
