"""Small 32-bit guests in flat segments, with or without paging."""

from __future__ import annotations

from hypervisor.arch.segments import Segment, Table
from hypervisor.assembler import assemble
from tests.engine.machine import Machine, machine
from tests.oracle import build

SIZE = 0x40000
CODE, STACK, GDT, IDT, TABLES = 0x1000, 0x8000, 0x9000, 0xA000, 0x10000
CODE0, DATA0, CODE3, DATA3 = 0x08, 0x10, 0x1B, 0x23
ALIAS = 0x100000
"""Where memory appears a second time, for supervisors; at twice this a third time, for everybody."""


def program(source: str, *, paging: bool = False, user: bool = False) -> Machine:
    """A fresh machine at the first instruction of ``source``, which ends with HLT."""
    guest = machine(SIZE)
    guest.fresh()
    memory = guest.memory
    code = assemble(source, origin=CODE, mode=32).code
    memory[CODE : CODE + len(code)] = code
    for selector, attributes in (
        (CODE0, build.CODE32),
        (DATA0, build.DATA32),
        (CODE3, build.CODE32),
        (DATA3, build.DATA32),
    ):
        at, dpl = GDT + (selector & ~7), selector & 3
        memory[at : at + 8] = build.descriptor(0, build.FLAT, build.with_dpl(attributes, dpl))
    _map(memory)
    registers = guest.registers
    ring = 3 if user else 0
    registers.set_segment("cs", Segment(CODE3 if user else CODE0, 0, build.FLAT, build.with_dpl(build.CODE32, ring)))
    for name in ("ss", "ds", "es", "fs", "gs"):
        selector = DATA3 if user else DATA0
        registers.set_segment(name, Segment(selector, 0, build.FLAT, build.with_dpl(build.DATA32, ring)))
    registers.set_table("gdtr", Table(GDT, 0x27))
    registers.set_table("idtr", Table(IDT, 0x7FF))
    registers.set("cr0", 0x80010011 if paging else 0x11)
    registers.set("cr3", TABLES)
    registers.set("rip", CODE)
    registers.set("rsp", STACK)
    registers.set("rflags", 0x3002 if user else 2)  # IOPL 3, so that nothing but HLT is refused
    return guest


def _map(memory: object) -> None:
    """Identity for everybody; the same frames at ALIAS for supervisors and at 2 * ALIAS for everybody."""
    assert hasattr(memory, "__setitem__")
    memory[TABLES : TABLES + 4] = (TABLES + 0x1000 | 7).to_bytes(4, "little")
    for start, bits in ((0, 7), (ALIAS, 3), (2 * ALIAS, 7)):
        for page in range(SIZE >> 12):
            at = TABLES + 0x1000 + 4 * ((start >> 12) + page)
            memory[at : at + 4] = (page << 12 | bits).to_bytes(4, "little")
