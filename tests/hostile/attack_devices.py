"""Ports and device memory: strings over it, user mode, floods, A20."""

from __future__ import annotations

from functools import partial

from tests.hostile.asm import asm
from tests.hostile.cases import add, case
from tests.hostile.machines import entries, machine
from tests.hostile.scenes import CODE, PAGES, TSS, Scene

_ENDS = ("crashed", "halted", "virtual-timeout", "idle")
_STRINGS = ("insb", "insw", "insd", "outsb", "outsw", "outsd", "movsb", "movsd", "stosd", "lodsd", "scasb", "cmpsd")


def _string(instruction: str, place: int, mode: str) -> Scene:
    """A repeated string instruction, four billion times, over a place."""
    return machine(mode, asm(f"rep {instruction}; hlt", mode), rcx=0xFFFFFFFF, rsi=place, rdi=place, rdx=0x3F8)


for _instruction in _STRINGS:
    for _place in (0, CODE - 64, 0x9FFF0, 0xB8000, 0xFFFF0, 0x100000, 0xFEE00000, 0xFFFFFFF0):
        for _mode in ("protected", "paging32"):
            add(f"rep_{_instruction}_{_place:x}_{_mode}", partial(_string, _instruction, _place, _mode), *_ENDS)


def _ports(instruction: str) -> Scene:
    """Every port, one after the other, with every low value."""
    scene = machine(
        "protected", asm(f"again: {instruction}; inc edx; add eax, 0x1010101; jmp again", "protected"), rdx=0
    )
    scene.virtual_s = 5e-3
    return scene


for _instruction in ("in al, dx", "in ax, dx", "in eax, dx", "out dx, al", "out dx, ax", "out dx, eax"):
    add(
        f"all_ports_{_instruction.replace(', ', '_').replace(' ', '_')}",
        partial(_ports, _instruction),
        *_ENDS,
        "powered-off",
        "reset",
        "debug-exit",
    )


def _user_port(mode: str, base: int, limit: int) -> Scene:
    """I/O from user mode, with a permission bitmap that lies somewhere."""
    scene = machine(
        mode,
        asm("in al, dx; out dx, al; hlt", mode),
        user=True,
        rdx=0x80,
        writes=((TSS + 0x66, base.to_bytes(2, "little")),),
    )
    scene.segments["tr"] = scene.segments["tr"]._replace(limit=limit)
    return scene


for _mode in ("v86", "protected", "paging32", "long"):
    for _base in (0, 0x68, 0x1000, 0xFFFF):
        for _limit in (0, 0x67, 0x68, 0x2067, 0xFFFFF, 0xFFFFFFFF):
            add(
                f"user_port_{_mode}_{_base:x}_{_limit:x}",
                partial(_user_port, _mode, _base, _limit),
                "crashed",
                "halted",
                "virtual-timeout",
            )


@case(*_ENDS)
def task_state_beyond_memory() -> Scene:
    scene = machine("paging32", asm("in al, dx; hlt", "paging32"), user=True)
    scene.segments["tr"] = scene.segments["tr"]._replace(base=0x80000000, limit=0xFFFF)
    return scene


@case("virtual-timeout", "crashed", "halted")
def toggles_a20() -> Scene:
    code = asm(
        "again: xor al, 2; out 0x92, al; inc dword ptr [0x10f000]; inc dword ptr [0xf000]; call 0x110000; jmp again",
        "protected",
    )
    return machine("protected", code, at=CODE, writes=((CODE + 0x80, b"\xc3"),))


@case("virtual-timeout", "crashed")
def toggles_a20_under_its_page_tables() -> Scene:
    tables = ((0x100000 - 0x1000, entries(PAGES + 0x1000 | 7)),)
    return machine(
        "long",
        asm("again: xor al, 2; out 0x92, al; mov rcx, cr3; mov cr3, rcx; mov rbx, [0x30000]; jmp again", "long"),
        writes=tables,
    )


def _wide(instruction: str, place: int) -> Scene:
    """A memory operand of a system or SSE instruction in device memory."""
    return machine("protected", asm(f"{instruction}; hlt", "protected"), rax=place, rcx=3, rdx=3, cr4=0x40600)


for _place in (0xFEE00000, 0xFFFFFFFC, 0x100000, 0xFFFFC, 0xB8FFE):
    for _instruction in (
        "lgdt [eax]", "lidt [eax]", "sgdt [eax]", "fxsave [eax]", "fxrstor [eax]", "movups xmm0, [eax]",
        "movups [eax], xmm0", "fld tbyte ptr [eax]", "fstp tbyte ptr [eax]", "cmpxchg8b [eax]",
        "lock cmpxchg8b [eax]", "lock inc dword ptr [eax]", "xchg [eax], ebx", "lock xadd [eax], ebx",
        "push dword ptr [eax]", "pop dword ptr [eax]", "call far [eax]", "jmp far [eax]", "les ecx, [eax]",
        "lar ecx, [eax]", "ltr [eax]", "lldt [eax]", "lmsw [eax]", "smsw [eax]", "bound ecx, [eax]", "fnsave [eax]",
        "fldenv [eax]", "xsave [eax]", "clflush [eax]", "invlpg [eax]", "movntps [eax], xmm0",
    ):  # fmt: skip
        add(f"operand_{_instruction.replace(' ', '_')}_{_place:x}", partial(_wide, _instruction, _place), *_ENDS)
