"""Clean machines for directed attacks: the tables are right, and each case says what it breaks."""

from __future__ import annotations

from hypervisor.arch.segments import Segment, Table
from tests.hostile.scenes import CODE, GDT, IDT, LDT, PAGES, STACK, TSS, Scene

UNTIL_DEAD = frozenset(("crashed",))
HANDLER = 0x700
"""Where every vector of the IDT leads: HLT with interrupts off, so a fault that is delivered ends as halted."""

_FLAT = (
    0, 0x00CF9B000000FFFF, 0x00CF93000000FFFF, 0x00AF9B000000FFFF, 0x00CFFB000000FFFF, 0x00CFF3000000FFFF,
    0x00AFFB000000FFFF,
    0x00009B000000FFFF, 0x000093000000FFFF, 0x0000890000000067 | TSS << 16, 0, 0x0000820000000FFF | LDT << 16, 0,
)  # fmt: skip
CODE32, DATA32, CODE64, USER32, USERDATA, USER64, CODE16, DATA16, TASK, LOCAL = (
    8,
    0x10,
    0x18,
    0x23,
    0x2B,
    0x33,
    0x38,
    0x40,
    0x48,
    0x58,
)
FREE = 0x68
"""Selector of the first unused GDT entry."""


def gdt(*more: int) -> bytes:
    """The flat descriptor table, with further descriptors from selector `FREE` on."""
    return b"".join(row.to_bytes(8, "little") for row in (*_FLAT, *more))


def idt(wide: bool, handler: int = HANDLER) -> bytes:
    """256 interrupt gates to one handler, open to every privilege."""
    gate = handler & 0xFFFF | (CODE64 if wide else CODE32) << 16 | 0xEE << 40 | handler >> 16 << 48
    return (gate.to_bytes(8, "little") + (bytes(8) if wide else b"")) * 256


def task_state(cr3: int = PAGES) -> bytes:
    """A 32-bit TSS with a kernel stack."""
    words = [0, STACK - 0x1000, DATA32] + [STACK - 0x1000, DATA32] * 2 + [cr3, CODE, 2, *[0] * 4, STACK, 0, 0, 0]
    words += [DATA32, CODE32, DATA32, DATA32, DATA32, DATA32, 0, 0x68 << 16]
    return b"".join(word.to_bytes(4, "little") for word in words)


def entries(*values: int, size: int = 8) -> bytes:
    """Page-table entries."""
    return b"".join((value & (1 << 8 * size) - 1).to_bytes(size, "little") for value in values)


def identity(mode: str) -> list[tuple[int, bytes]]:
    """The first 2 MiB (4 MiB without PAE) mapped one to one in 4 KiB pages, open to the user."""
    if mode == "paging32":
        return [
            (PAGES, entries(PAGES + 0x1000 | 7, size=4)),
            (PAGES + 0x1000, entries(*(n << 12 | 7 for n in range(1024)), size=4)),
        ]
    leaves = entries(*(n << 12 | 7 for n in range(512)))
    if mode == "pae":
        return [
            (PAGES, entries(PAGES + 0x2000 | 1)),
            (PAGES + 0x2000, entries(PAGES + 0x3000 | 7)),
            (PAGES + 0x3000, leaves),
        ]
    return [
        (PAGES, entries(PAGES + 0x1000 | 7)), (PAGES + 0x1000, entries(PAGES + 0x2000 | 7)),
        (PAGES + 0x2000, entries(PAGES + 0x3000 | 7)), (PAGES + 0x3000, leaves),
    ]  # fmt: skip


def machine(
    mode: str,
    code: bytes,
    *,
    user: bool = False,
    at: int = CODE,
    writes: tuple[tuple[int, bytes], ...] = (),
    **registers: int,
) -> Scene:
    """A machine in ``real``, ``v86``, ``protected``, ``paging32``, ``pae`` or ``long`` mode that is about to run
    ``code``.
    """
    wide = mode == "long"
    scene = Scene(mode, virtual_s=2e-4)
    scene.writes = [(GDT, gdt()), (TSS, task_state()), (HANDLER, b"\xfa\xf4")]
    if mode == "real":
        scene.writes.append((0, HANDLER.to_bytes(4, "little") * 256))
    else:
        scene.writes.append((IDT, idt(wide)))
    if mode in ("paging32", "pae", "long"):
        scene.writes += identity(mode)
    scene.writes += [(at, code), *writes]
    flags = 0x20002 if mode == "v86" else 2
    control = {"real": 0x10, "protected": 0x11, "v86": 0x11}.get(mode, 0x80000011)
    scene.registers = {
        "rip": at, "rsp": STACK, "rflags": flags, "cr3": PAGES, "cr4": {"pae": 0x20, "long": 0x620}.get(mode, 0),
        "efer": 0xD01 if wide else 0, "cr0": control,
    }  # fmt: skip
    if mode in ("real", "v86"):
        user = mode == "v86"
        scene.registers["rip"] = at & 0xFFF
        base, limit, attributes = at & ~0xFFF, 0xFFFF, (0xF3 if user else 0x93)
        scene.segments = {"cs": Segment(base >> 4, base, limit, attributes | (0 if user else 8))}
        scene.segments |= {name: Segment(0, 0, limit, attributes) for name in ("ss", "ds", "es", "fs", "gs")}
        scene.registers["rsp"] = 0x7000
    else:
        ring = 0x60 if user else 0
        selector = (USER64 if wide else USER32) if user else (CODE64 if wide else CODE32)
        scene.segments = {"cs": Segment(selector, 0, 0xFFFFFFFF, (0xA9B if wide else 0xC9B) | ring)}
        data = Segment(USERDATA if user else DATA32, 0, 0xFFFFFFFF, 0xC93 | ring)
        scene.segments |= {name: data for name in ("ss", "ds", "es", "fs", "gs")}
    scene.segments |= {"tr": Segment(TASK, TSS, 0x67, 0x8B), "ldtr": Segment(LOCAL, LDT, 0x7F, 0x82)}
    scene.tables = {"gdtr": Table(GDT, 0x1FF), "idtr": Table(0, 0x3FF) if mode == "real" else Table(IDT, 0xFFF)}
    scene.registers |= registers
    return scene
