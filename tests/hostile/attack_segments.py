"""Garbage GDT, IDT and LDT, stacks nowhere, fault loops, and IRET to everywhere."""

from __future__ import annotations

from functools import partial

from tests.hostile.asm import asm
from tests.hostile.cases import add, case
from tests.hostile.machines import DATA32, FREE, HANDLER, entries, gdt, machine
from tests.hostile.scenes import CODE, GDT, IDT, PAGES, STACK, TSS, Scene

_BASES = (0, CODE, 0xA0000, 0xFFFFF, 0x7FFFFFFF, 0xFEE00000, 0xFFFFFFF8, 0xFFFFFFFF)
_LOADS = ("lgdt", "lidt")


def _table(instruction: str, base: int, limit: int) -> Scene:
    """Load a table register with nonsense, then need it."""
    at = 0x30000
    code = asm(f"{instruction} [{at:#x}]; mov ax, 0x10; mov ds, ax; int 0x20; ud2", "protected")
    return machine("protected", code, writes=((at, limit.to_bytes(2, "little") + base.to_bytes(4, "little")),))


for _load in _LOADS:
    for _base in _BASES:
        for _limit in (0, 7, 0xFFFF):
            add(
                f"{_load}_{_base:x}_{_limit:x}",
                partial(_table, _load, _base, _limit),
                "crashed",
                "halted",
                "virtual-timeout",
            )


def _gate(kind: int, selector: int, mode: str) -> Scene:
    """Every vector leads through a gate of this type to this selector."""
    gate = HANDLER | selector << 16 | 0xE0 << 40 | kind << 40
    row = gate.to_bytes(8, "little") + (bytes(8) if mode == "long" else b"")
    return machine(mode, asm("int 0x30; ud2", mode), writes=((IDT, row * 256),))


for _kind in range(16):
    for _selector in (0, 8, DATA32, 0x1B, 0x48, 0x50, 0x58, 0x5C, 0xFFF8):
        for _mode in ("protected", "long"):
            add(f"gate_{_kind}_{_selector:x}_{_mode}", partial(_gate, _kind, _selector, _mode), "crashed", "halted")


def _stack(mode: str, pointer: int) -> Scene:
    """A fault with the stack nowhere."""
    return machine(mode, asm("push ax; ud2", mode) if mode == "real" else b"\x50\x0f\x0b", rsp=pointer)


for _mode in ("real", "protected", "paging32", "pae", "long"):
    for _pointer in (0, 1, 3, 0x9FFFF, 0xA0001, 0x100000, 0x200001, 0xFFFFFFFF, 1 << 47, (1 << 47) - 1, 1 << 63):
        add(f"stack_{_mode}_{_pointer:x}", partial(_stack, _mode, _pointer), "crashed", "halted", "virtual-timeout")


def _loop(mode: str, code: bytes, **registers: int) -> Scene:
    """Handlers that return to what faulted, for ever."""
    returns = b"\x48\xcf" if mode == "long" else b"\xcf"
    return machine(mode, code, writes=((HANDLER, returns),), **registers)


for _mode in ("real", "protected", "paging32", "pae", "long"):
    add(f"undefined_for_ever_{_mode}", partial(_loop, _mode, b"\x0f\x0b"), "virtual-timeout")
    add(f"breakpoints_for_ever_{_mode}", partial(_loop, _mode, b"\xcc\xeb\xfd"), "virtual-timeout")
    add(f"trap_flag_for_ever_{_mode}", partial(_loop, _mode, b"\x90\xeb\xfd", rflags=0x102), "virtual-timeout")
    add(f"division_for_ever_{_mode}", partial(_loop, _mode, b"\xf7\xf1", rcx=0), "virtual-timeout")


@case("virtual-timeout", "crashed")
def handler_faults_itself() -> Scene:
    return machine("protected", b"\x0f\x0b", writes=((HANDLER, b"\x83\xc4\x0c\x0f\x0b"),))


def _iret(mode: str, frame: tuple[int, ...], size: int) -> Scene:
    code = b"\x48\xcf" if mode == "long" else b"\xcf"
    return machine(mode, code, writes=((STACK, entries(*frame, size=size)),))


for _selector in (0, 3, 8, 0xB, DATA32, 0x13, 0x1B, 0x23, 0x2B, 0x33, 0x38, 0x48, 0x58, 0x5C, 0x1F8, 0xFFF8, 0xFFFF):
    for _flags in (2, 0x20002, 0x4002, 0x102, 0xFFFFFFFF):
        for _mode, _size in (("real", 2), ("protected", 4), ("pae", 4), ("long", 8)):
            _frame = (CODE + 0x100, _selector, _flags, STACK, _selector | 3, 8, 8, 8, 8)
            add(
                f"iret_{_mode}_{_selector:x}_{_flags:x}", partial(_iret, _mode, _frame, _size),
                "crashed", "halted", "virtual-timeout", "idle",
            )  # fmt: skip
for _target in (1 << 47, 1 << 63, (1 << 64) - 1, 0x200000, 0xFEE00000):
    add(
        f"iret_to_{_target:x}",
        partial(_iret, "long", (_target, 0x18, 2, STACK, DATA32), 8),
        "crashed",
        "halted",
        "virtual-timeout",
    )
    add(
        f"iret_to_user_{_target:x}",
        partial(_iret, "long", (_target, 0x33, 2, _target, 0x2B), 8),
        "crashed",
        "halted",
        "virtual-timeout",
    )


@case("halted", "crashed", "virtual-timeout")
def far_jumps_through_every_selector() -> Scene:
    code = b"".join(b"\xea\x00\x02\x01\x00" + selector.to_bytes(2, "little") for selector in range(0, 0x200, 4))
    skip = b"\x83\xc4\x04\x83\x04\x24\x07\xcf"  # drop the error code, go on behind the jump
    return machine(
        "protected",
        code,
        writes=((HANDLER, skip), (CODE + 0x200, b"\x0f\x0b"), (GDT + FREE, bytes(range(256)) + bytes(64))),
    )


@case("crashed")
def sysret_noncanonical() -> Scene:
    return machine("long", b"\x48\x0f\x07", rcx=1 << 63)


@case("crashed", "halted", "virtual-timeout")
def sysret_noncanonical_with_the_users_stack() -> Scene:
    return machine("long", b"\x48\x0f\x07", rcx=0x0000800000000000, rsp=1 << 47, r11=0x20202)


@case("crashed", "halted")
def descriptor_table_in_device_memory() -> Scene:
    scene = machine("protected", asm("mov ax, 0x10; mov ds, ax; mov ss, ax; hlt", "protected"))
    scene.tables["gdtr"] = scene.tables["gdtr"]._replace(base=0xFEE00000)
    return scene


@case("halted", "crashed")
def local_table_selects_itself() -> Scene:
    table = 0x0000820000000FFF | GDT << 16
    return machine(
        "protected",
        asm(f"mov ax, {FREE}; lldt ax; mov ax, {FREE | 4}; lldt ax; mov ds, ax; hlt", "protected"),
        writes=((GDT, gdt(table)),),
    )


@case("crashed", "halted")
def tables_over_each_other() -> Scene:
    scene = machine("long", b"\xcd\x20\x0f\x0b", writes=((PAGES + 0x3000, entries(*[GDT | 7] * 512)),))
    scene.segments["tr"] = scene.segments["tr"]._replace(base=TSS - 8)
    return scene
