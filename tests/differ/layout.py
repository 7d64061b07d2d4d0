"""Where things are: the numbers that the harness (harness.asm), the image and the comparison share."""

from __future__ import annotations

BASE = 0x100000
STUB = 16
MOST_STEPS = 100
IDT = 0x118000
TOP_TABLE = 0x110000
"""PML4; behind it the PDPT and the page directory."""
FIRST_GDT = 0x119000
STACK_TOP = 0x11F000
HARNESS_CR0, HARNESS_CR4 = 0x8001_0033, 0x10_6A8 | 1 << 16
LOW_TABLE = 0x11A000
"""Page table of the first 2 MiB: the harness, and nothing below it."""
PROGRAMS = 0x200000
CLEAN = 0x300000
LIVE, LIVE_SIZE = 0x410000, 0x10000
"""The pages of the programs, at the same linear and physical address, with unmapped ones around them."""
RESULTS = 0x600040
ALIAS = 0x810000
IMAGE_END = CLEAN + LIVE_SIZE

# Pages of the programs.
DATA, READ_ONLY, SUPERVISOR, UNMAPPED, DATA_2, STACK_0, TABLES, PAGE_TABLE = 0, 4, 5, 6, 7, 8, 9, 10
CODE, DATA_3 = 12, 15
GDT, LDT, TSS = LIVE + TABLES * 4096, LIVE + TABLES * 4096 + 0x400, LIVE + TABLES * 4096 + 0x800
GDT_LIMIT = 0x107
TR_SELECTOR, LDT_SELECTOR = 0x40, 0x50

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
IN |= {"BASES": 200, "CR0": 224, "CR4": 232, "DR0": 240, "DR7": 248, "PLACE": 264, "LDT": 272, "FX": 512, "CODE": 1024}

OUT_SIZE = 1024
REGISTERS = "rax rcx rdx rbx rsp rbp rsi rdi r8 r9 r10 r11 r12 r13 r14 r15".split()
OUT = {"DR6": 64, "REGS": 72, "DS": 200, "ES": 208, "FS": 216, "GS": 224, "BASES": 232, "CR0": 256, "CR4": 264}
OUT |= {"CR2": 56, "STEPS": 272, "STEP_HASH": 280, "DR7": 288, "LDTR": 296, "TR": 304, "GDTR": 320, "IDTR": 336}
OUT |= {"PAGES": 352, "FX": 512}


def include() -> str:
    """The same for nasm."""
    names = {name: value for name, value in globals().items() if name.isupper() and isinstance(value, int)}
    names |= {f"IN_{name}": offset for name, offset in IN.items()} | {f"OUT_{name}": at for name, at in OUT.items()}
    return "".join(f"{name} equ {value:#x}\n" for name, value in names.items())
