"""Where things are: the numbers that the harness (harness.asm), the image and the comparison share."""

from __future__ import annotations

BASE = 0x100000
STUB = 16
MOST_STEPS = 100
REAL_SEGMENT = 0xFFFF
"""Of the harness in real mode: it is at the beginning of what 16 bits reach there."""

# The harness's own tables.
TOP_TABLE = 0x110000
"""PML4 of long mode; behind it the PDPT, and the page directory, which PAE paging has in common with it."""
PAE_TABLE, DIRECTORY, DIRECTORY_LOW = 0x113000, 0x114000, 0x115000
"""PDPT of PAE paging; page directory and first table of two-level paging."""
LEGACY_IDT, REAL_IDT, FAULT_TSS = 0x116000, 0x116800, 0x116C00
IDT = 0x118000
FIRST_GDT = 0x119000
LOW_TABLE = 0x11A000
"""Page table of the first 2 MiB: the harness, and nothing below it."""
ALIAS_TABLE = 0x11B000
"""Page table of where the harness reaches the pages of programs, and what is around them."""
STACK_TOP = 0x11F000
HARNESS_CR0, HARNESS_CR4 = 0x8001_0033, 0x10_6A8 | 1 << 16
PROGRAMS = 0x200000
CLEAN = 0x300000
LIVE_SIZE = 0x10000
LIVE = 0x410000
"""The pages of the programs where there is paging, with unmapped ones around them."""
PHYSICAL = 0x10000
"""Where they are."""
UNPAGED_DATA, UNPAGED_STACK = PHYSICAL - 0x8000, PHYSICAL + 0xD000
"""Bases of 64 KiB which programs without paging can write: the first eight pages; the last three. Around the pages
is room of the same size, filled with INT3."""
RESULTS = 0x600040
ALIAS = 0xA10000
IMAGE_END = CLEAN + 5 * LIVE_SIZE

# Pages of the programs.
READ_ONLY, SUPERVISOR, UNMAPPED, DATA_2, STACK_0, TABLES, PAGE_TABLE = 4, 5, 6, 7, 9, 10, 11
CODE, DATA_3 = 12, 15
GDT, LDT, TSS, TASK = (TABLES * 4096 + offset for offset in (0, 0x400, 0x800, 0x900))
"""From the beginning of the pages."""
GDT_LIMIT = 0x13F
TR_SELECTOR, LDT_SELECTOR, FAULT_SELECTOR, TASK_SELECTOR = 0x40, 0x50, 0x108, 0x130
LONG_MODE, PROTECTED_MODE, REAL_MODE = range(3)

CODE_SIZE = 256
IN_SIZE = 2048
IN = {
    "REGS": 0,
    "RIP": 128,
    "CS": 136,
    "RFLAGS": 144,
    "RSP": 152,
    "SS": 160,
    "DS": 168,
    "ES": 176,
    "FS": 184,
    "GS": 192,
}
IN |= {"BASES": 200, "CR0": 224, "CR4": 232, "CR3": 240, "KIND": 248, "CLEAN": 256, "PLACE": 264, "LDT": 272}
IN |= {"STACK": 280, "GDTR": 288, "IDTR": 304, "FX": 512, "CODE": 1024}

OUT_SIZE = 1024
REGISTERS = "rax rcx rdx rbx rsp rbp rsi rdi r8 r9 r10 r11 r12 r13 r14 r15".split()
OUT = {"DR6": 64, "REGS": 72, "DS": 200, "ES": 208, "FS": 216, "GS": 224, "BASES": 232, "CR0": 256, "CR4": 264}
OUT |= {"CR2": 56, "STEPS": 272, "STEP_HASH": 280, "DR7": 288, "LDTR": 296, "TR": 304, "GDTR": 320, "IDTR": 336}
OUT |= {"PAGES": 352, "KIND": 480, "FX": 512}


def include() -> str:
    """The same for nasm."""
    names = {name: value for name, value in globals().items() if name.isupper() and isinstance(value, int)}
    names |= {f"IN_{name}": offset for name, offset in IN.items()} | {f"OUT_{name}": at for name, at in OUT.items()}
    return "".join(f"{name} equ {value:#x}\n" for name, value in names.items())
