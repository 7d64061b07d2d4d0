"""Task switches and call gates with garbage: where the emulator's own checks end in abort()."""

from __future__ import annotations

from functools import partial

from hypervisor.arch.segments import Segment, Table
from tests.hostile.asm import asm
from tests.hostile.cases import add, case
from tests.hostile.machines import CODE32, CODE64, FREE, TASK, USERDATA, entries, gdt, machine, task_state
from tests.hostile.scenes import CODE, DATA, GDT, PAGES, STACK, TSS, Scene

_CALL_GATE = CODE & 0xFFFF | CODE32 << 16 | 0xEC << 40 | CODE >> 16 << 48
_ENDS = ("crashed", "halted", "virtual-timeout", "idle")


def _tss(kind: int, base: int, limit: int) -> int:
    return (
        limit & 0xFFFF | (base & 0xFFFFFF) << 16 | (0xE0 | kind) << 40 | (limit >> 16 & 15) << 48 | (base >> 24) << 56
    )


def _user(first: str, then: str, mode: str = "protected") -> bytes:
    """Do something in ring 0, go to ring 3 by IRET, and do something there."""
    if mode == "long":
        return asm(f"{first}; push {USERDATA}; push {STACK}; push 2; push 0x33; push there; iretq; there: {then}", mode)
    return asm(f"{first}; push {USERDATA}; push {STACK}; push 2; push 0x23; push there; iretd; there: {then}", mode)


@case("crashed", "halted")
def null_task_register_and_a_call_gate() -> Scene:
    """LTR with a null selector, which the emulator takes, then a call to an inner ring: cpu_abort("invalid tss")."""
    code = _user("xor eax, eax; ltr ax", f"call {FREE | 3}:0; hlt")
    return machine("protected", code, writes=((GDT, gdt(_CALL_GATE)),))


@case("crashed", "halted", "virtual-timeout")
def null_task_register_without_a_check() -> Scene:
    """The same with a handler that lets the refused LTR go."""
    code = _user("xor eax, eax; ltr ax", f"call {FREE | 3}:0; hlt")
    return machine("protected", code, writes=((GDT, gdt(_CALL_GATE)), (0x700, b"\x83\xc4\x04\x83\x04\x24\x03\xcf")))


def _null_memory(mode: str) -> Scene:
    """The null selector out of memory, in long mode."""
    gate = CODE & 0xFFFF | CODE64 << 16 | 0xEC << 40 | CODE >> 16 << 48
    skip = b"\x48\x83\xc4\x08\x48\x83\x04\x24\x08\x48\xcf"
    # call far [0x30000]: m16:32
    code = _user("ltr word ptr [0x30010]", "call far [0x30000]; hlt", mode)
    target = bytes(4) + (FREE | 3).to_bytes(2, "little") + bytes(16)
    return machine(mode, code, writes=((GDT, gdt(gate, 0)), (0x30000, target), (0x700, skip)))


add("null_task_register_long", partial(_null_memory, "long"), "crashed", "halted", "virtual-timeout")


def _through_gate(kind: int, base: int, limit: int, mode: str) -> Scene:
    """LTR with a descriptor of this type, then a call gate to ring 0."""
    code = _user(f"mov ax, {FREE + 8}; ltr ax", f"call {FREE | 3}:0; hlt")
    skip = b"\x83\xc4\x04\x83\x04\x24\x03\xcf"
    return machine(mode, code, writes=((GDT, gdt(_CALL_GATE, _tss(kind, base, limit))), (0x700, skip)))


def _switch(how: str, kind: int, base: int, limit: int, mode: str) -> Scene:
    """JMP, CALL or a task gate to a TSS of this type; IRET with NT to it."""
    selector = FREE
    rows = [_tss(kind, base, limit), FREE << 16 | 0xE5 << 40]
    body = {
        "jmp": f"jmp {selector}:0", "call": f"call {selector}:0", "gate": f"call {selector + 8}:0",
        "iret": "pushfd; or dword ptr [esp], 0x4000; popfd; iretd",
    }[how]  # fmt: skip
    writes = [(GDT, gdt(*rows)), (DATA, task_state(PAGES))]
    if how == "iret":
        writes.append((0x4000, FREE.to_bytes(2, "little")))
    return machine(mode, asm(f"{body}; hlt", mode), writes=tuple(writes))


_PLACES = (DATA, 0xFFFFF, 0xFF9A, 0x200000, 0xFEE00000, 0xFFFFFFF0, 0x4000)
for _kind in range(16):
    add(f"call_gate_with_tss_{_kind}", partial(_through_gate, _kind, DATA, 0x67, "protected"), *_ENDS)
    for _how in ("jmp", "call", "gate", "iret"):
        add(f"task_{_how}_{_kind}", partial(_switch, _how, _kind, DATA, 0x67, "protected"), *_ENDS)
for _base in _PLACES:
    for _limit in (0, 0x2B, 0x67, 0xFFFFF):
        for _kind in (1, 9):
            add(
                f"call_gate_{_kind}_{_base:x}_{_limit:x}",
                partial(_through_gate, _kind, _base, _limit, "paging32"),
                *_ENDS,
            )
            for _how in ("jmp", "call", "iret"):
                _type = _kind | (2 if _how == "iret" else 0)
                add(
                    f"task_{_how}_{_kind}_{_base:x}_{_limit:x}",
                    partial(_switch, _how, _type, _base, _limit, "paging32"),
                    *_ENDS,
                )


@case(*_ENDS)
def task_with_garbage_inside() -> Scene:
    """A TSS whose selectors and CR3 are nonsense."""
    return machine(
        "paging32",
        asm(f"jmp {FREE}:0; hlt", "paging32"),
        writes=((GDT, gdt(_tss(9, DATA, 0x67))), (DATA, b"\xa7" * 0x68)),
    )


@case(*_ENDS)
def tasks_that_call_each_other_for_ever() -> Scene:
    state = bytearray(task_state())
    state[0x20:0x24] = CODE.to_bytes(4, "little")
    return machine(
        "paging32",
        asm(f"jmp {FREE}:0; jmp {TASK}:0", "paging32"),
        writes=((GDT, gdt(_tss(9, DATA, 0x67))), (DATA, bytes(state))),
    )


@case("crashed", "halted")
def every_vector_is_a_task_gate_to_nowhere() -> Scene:
    gate = entries(0xFFF0 << 16 | 0xE5 << 40)
    return machine("protected", b"\x0f\x0b", writes=((0x2000, gate * 256),))


@case("crashed", "halted", "virtual-timeout")
def every_vector_is_a_task_gate_that_faults() -> Scene:
    gate = entries(FREE << 16 | 0xE5 << 40)
    writes = ((0x2000, gate * 256), (GDT, gdt(_tss(9, DATA, 0x67))), (DATA, b"\x03" * 0x68))
    return machine("protected", b"\x0f\x0b", writes=writes)


@case("virtual-timeout", "crashed")
def task_that_traps_into_itself() -> Scene:
    """#DB is a task gate to a TSS with its T bit, which begins in its own descriptor.

    The old task's selector, 8900h, is written over the type of an available TSS. In memory the switch makes it busy
    after that, so the next one fails.
    """
    table, selector = 0x6000, 0x8900
    at = table + selector
    state = bytearray(task_state())
    state[0x64] = 1
    state[0x20:0x24] = CODE.to_bytes(4, "little")
    row = entries(_tss(9, at + 4, 0x67))
    gate = entries(selector << 16 | 0xE5 << 40)
    writes = ((table, gdt()), (at + 4, bytes(state)), (at, row), (0x2000, gate * 256))
    scene = machine("protected", b"\xcd\x30", writes=writes)
    scene.tables["gdtr"] = Table(table, 0xFFFF)
    scene.segments["tr"] = Segment(selector, TSS, 0x67, 0x8B)
    scene.virtual_s = 4e-5
    return scene
