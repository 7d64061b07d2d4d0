"""A small, valid machine per mode for the hand-computed cases: tables at fixed places, no paging in legacy modes."""

from __future__ import annotations

from . import build
from .segments import INTERRUPT32
from .state import CR0_PE, RSP, VM, Memory, Segment, State, Table

GDT, LDT, IDT, TSS = 0x1000, 0x1800, 0x2000, 0x3000
STACK0, STACK3 = 0x6000, 0x7000
HANDLER = 0x9000
CODE0, DATA0, CODE3, DATA3, TSS_SELECTOR, CONFORMING, LDT_SELECTOR = 0x08, 0x10, 0x1B, 0x23, 0x28, 0x30, 0x38
LDT_CODE0 = 0x04
INT_USER = 0x80
"""The vector whose gate has DPL 3."""


def put(memory: Memory, at: int, data: bytes) -> None:
    """Store ``data``."""
    memory.write(at, data)


def word(memory: Memory, at: int, size: int) -> int:
    """An unsigned little-endian integer."""
    return int.from_bytes(memory.read(at, size), "little")


def legacy(cpl: int = 3, gate: int = INTERRUPT32, tss16: bool = False) -> tuple[Memory, State]:
    """Flat protected mode at ``cpl``; every vector leads to ``HANDLER + vector`` in ring 0."""
    memory = Memory(0x10000)
    entries = {
        CODE0: (0, build.FLAT, build.CODE32),
        DATA0: (0, build.FLAT, build.DATA32),
        CODE3: (0, build.FLAT, build.with_dpl(build.CODE32, 3)),
        DATA3: (0, build.FLAT, build.with_dpl(build.DATA32, 3)),
        TSS_SELECTOR: (TSS, 0x67, build.TSS32),
        CONFORMING: (0, build.FLAT, build.CONFORMING32),
        LDT_SELECTOR: (LDT, 0xF, build.LDT),
    }
    for selector, (base, limit, attributes) in entries.items():
        put(memory, GDT + (selector & ~7), build.descriptor(base, limit, attributes))
    put(memory, LDT, build.descriptor(0, build.FLAT, build.CODE32))
    for vector in range(256):
        dpl = 3 if vector == INT_USER else 0
        put(memory, IDT + 8 * vector, build.gate(gate, CODE0, HANDLER + vector, dpl))
    if tss16:
        put(memory, TSS + 2, STACK0.to_bytes(2, "little") + DATA0.to_bytes(2, "little"))
    else:
        put(memory, TSS + 4, STACK0.to_bytes(4, "little") + DATA0.to_bytes(4, "little"))
    state = State(rip=0x1234_5678, rflags=0x202, cpl=cpl, cr0=CR0_PE)
    state.gdtr, state.idtr = Table(GDT, 0x3F), Table(IDT, 0x7FF)
    state.tr = Segment(TSS_SELECTOR, TSS, 0x67, build.TSS16 if tss16 else build.TSS32)
    state.ldtr = Segment(LDT_SELECTOR, LDT, 0xF, build.LDT)
    user = cpl == 3
    data = build.segment(DATA3 if user else DATA0, 0, build.FLAT, build.with_dpl(build.DATA32, cpl))
    state.segs.update(dict.fromkeys(("ds", "es", "fs", "gs", "ss"), data))
    state.segs["cs"] = build.segment(CODE3 if user else CODE0, 0, build.FLAT, build.with_dpl(build.CODE32, cpl))
    state.regs[RSP] = STACK3 if user else STACK0
    return memory, state


def v86(iopl: int = 3) -> tuple[Memory, State]:
    """Virtual-8086 code above the same tables."""
    memory, state = legacy()
    state.rflags = 0x202 | VM | iopl << 12
    state.rip = 0x0100
    selectors = {"cs": 0x100, "ss": 0x700, "ds": 0x111, "es": 0x222, "fs": 0x333, "gs": 0x444}
    for name, selector in selectors.items():
        state.segs[name] = Segment(selector, selector << 4, 0xFFFF, 0xF3)
    state.regs[RSP] = 0x0FFE
    return memory, state


def real() -> tuple[Memory, State]:
    """Real mode with the vector table at 0: vector ``n`` leads to 0800:n."""
    memory = Memory(0x20000)
    for vector in range(256):
        put(memory, 4 * vector, vector.to_bytes(2, "little") + (0x0800).to_bytes(2, "little"))
    state = State(rip=0x7C10, rflags=0x302)
    for name in state.segs:
        state.segs[name] = Segment(0, 0, 0xFFFF, 0x9B if name == "cs" else 0x93)
    state.segs["ss"] = Segment(0x700, 0x7000, 0xFFFF, 0x93)
    state.idtr = Table(0, 0x3FF)
    state.regs[RSP] = 0x1000
    return memory, state


def long(cpl: int = 3, gate: int = INTERRUPT32) -> tuple[Memory, State]:
    """Long mode, the first 2 MiB mapped onto themselves for everyone and again at the canonical top."""
    memory = Memory(0x20000)
    for at, entry in ((0x10000, 0x11067), (0x10FF8, 0x11067), (0x11000, 0x12067), (0x11FF8, 0x12067)):
        put(memory, at, entry.to_bytes(8, "little"))
    for at in (0x12000, 0x12FF8):
        put(memory, at, (0xE7).to_bytes(8, "little"))
    entries = {
        CODE0: (0, build.FLAT, build.CODE64),
        DATA0: (0, build.FLAT, build.DATA32),
        CODE3: (0, build.FLAT, build.with_dpl(build.CODE64, 3)),
        DATA3: (0, build.FLAT, build.with_dpl(build.DATA32, 3)),
        CONFORMING: (0, build.FLAT, build.CONFORMING64),
    }
    for selector, (base, limit, attributes) in entries.items():
        put(memory, GDT + (selector & ~7), build.descriptor(base, limit, attributes))
    for vector in range(256):
        dpl = 3 if vector == INT_USER else 0
        put(memory, IDT + 16 * vector, build.gate64(gate, CODE0, 0xFFFF_8000_0000_0000 + vector, dpl))
    put(memory, TSS + 4, STACK0.to_bytes(8, "little"))
    for ist in range(1, 8):
        put(memory, TSS + 0x1C + 8 * ist, (0x5000 + ist * 0x100 + ist).to_bytes(8, "little"))
    state = State(rip=0x40_1000, rflags=0x202, cpl=cpl)
    state.cr0, state.cr3, state.cr4, state.efer = 0x8001_0001, 0x10000, 0x20, 0x500
    state.gdtr, state.idtr = Table(GDT, 0x3F), Table(IDT, 0xFFF)
    state.tr = Segment(TSS_SELECTOR, TSS, 0x67, build.TSS32)
    state.ldtr = Segment(0, 0, 0, 0)
    user = cpl == 3
    data = build.segment(DATA3 if user else DATA0, 0, build.FLAT, build.with_dpl(build.DATA32, cpl))
    state.segs.update(dict.fromkeys(("ds", "es", "fs", "gs", "ss"), data))
    state.segs["cs"] = build.segment(CODE3 if user else CODE0, 0, build.FLAT, build.with_dpl(build.CODE64, cpl))
    state.regs[RSP] = STACK3 - 4 if user else STACK0 - 4
    return memory, state
