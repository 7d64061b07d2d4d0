"""Implicit supervisor accesses at CPL 3: descriptors are read, and nothing else opens."""

from __future__ import annotations

import pytest

from hypervisor.arch.exits import ExitKind
from hypervisor.arch.segments import Segment, Table
from hypervisor.assembler import assemble
from hypervisor.engine import block as b
from tests.engine.machine import Machine, machine
from tests.oracle import build

SIZE = 0x40000
CODE, STACK, GDT, TABLES, TSS, INNER, HANDLER = 0x1000, 0x3000, 0x5000, 0x10000, 0x6000, 0x8000, 0x9000
USER_PAGES = (CODE, CODE + 0x1000, STACK - 0x1000, STACK, 0x4000)
CODE3, DATA3, GATE, CODE0, DATA0 = 0x1B, 0x23, 0x2B, 0x08, 0x10


def user_program(source: str) -> Machine:
    """32-bit user code; descriptor tables lie in a supervisor page. It stops at HLT or any exception."""
    guest = machine(SIZE)
    guest.fresh()
    memory = guest.memory
    for selector, attributes in ((CODE0, build.CODE32), (DATA0, build.DATA32)):
        memory[GDT + selector : GDT + selector + 8] = build.descriptor(0, build.FLAT, attributes)
    for selector, attributes in ((CODE3 & ~3, build.CODE32), (DATA3 & ~3, build.DATA32)):
        memory[GDT + selector : GDT + selector + 8] = build.descriptor(0, build.FLAT, build.with_dpl(attributes, 3))
    memory[GDT + 0x28 : GDT + 0x30] = build.gate(0xC, CODE0, HANDLER, 3)
    memory[TSS + 4 : TSS + 12] = (INNER + 0x1000).to_bytes(4, "little") + DATA0.to_bytes(4, "little")
    memory[HANDLER] = 0xF4
    memory[TABLES : TABLES + 4] = (TABLES + 0x1000 | 7).to_bytes(4, "little")
    for page in range(SIZE >> 12):
        entry = page << 12 | 3 | (4 if page << 12 in USER_PAGES else 0)
        memory[TABLES + 0x1000 + 4 * page : TABLES + 0x1004 + 4 * page] = entry.to_bytes(4, "little")
    code = assemble(source, origin=CODE, mode=32).code
    memory[CODE : CODE + len(code)] = code
    registers = guest.registers
    registers.set_segment("cs", Segment(CODE3, 0, build.FLAT, build.with_dpl(build.CODE32, 3)))
    for name in ("ss", "ds", "es", "fs", "gs"):
        registers.set_segment(name, Segment(DATA3, 0, build.FLAT, build.with_dpl(build.DATA32, 3)))
    registers.set_segment("tr", Segment(0x38, TSS, 0x67, build.TSS32))
    registers.set_segment("ldtr", Segment(0, 0, 0, build.LDT))
    registers.set_table("gdtr", Table(GDT, 0x3F))
    for name, value in (("cr0", 0x80010011), ("cr3", TABLES), ("rip", CODE), ("rsp", STACK + 0x1000), ("rflags", 2)):
        registers.set(name, value)
    guest.put(b.LISTEN_EXCEPTIONS, -1)
    return guest


def fault(guest: Machine) -> tuple[int, int, int] | None:
    """(vector, error, RIP) of the exception that ended the program, None if it reached HLT."""
    kind = guest.pcpu.run()
    guest.put(b.LISTEN_EXCEPTIONS, 0)
    if kind == ExitKind.HLT:
        return None
    assert kind == ExitKind.EXCEPTION, ExitKind(kind)
    vector = guest.word(b.X_INFO)
    if vector == 13 and guest.memory[guest.registers.get("rip")] == 0xF4:
        return None  # HLT at CPL 3
    return vector, guest.word(b.X_INFO, 1), guest.registers.get("rip")


@pytest.mark.parametrize(
    "load",
    [
        "mov eax, 0x23; mov ds, ax",
        "push 0x23; pop es",
        "mov dword ptr [0x4000], 0x5555; mov word ptr [0x4004], 0x23; lfs eax, [0x4000]",
        "push 0x1b; push offset done; retf",
        "lar eax, ecx",
        "mov eax, 0x23; verr ax",
        "mov word ptr [0x4ffe], 0x23; mov gs, word ptr [0x4ffe]",
    ],
)  # fmt: skip
def test_loading_a_selector_reads_its_descriptor(load: str) -> None:
    load = load.replace("offset ", "")
    assert fault(user_program(f"mov ecx, 0x23; {load}\ndone: nop; hlt")) is None


@pytest.mark.parametrize("load", ["mov eax, 0x23; mov ds, ax", "mov eax, 0x23; mov fs, ax; mov gs, ax"])
def test_user_code_still_cannot_read_the_table(load: str) -> None:
    guest = user_program(f"{load}\nmov eax, [{GDT + 8}]\nhlt")
    vector, error, rip = fault(guest) or (-1, 0, 0)
    assert (vector, error) == (14, 5) and guest.memory[rip] == 0xA1 and guest.registers.get("cr2") == GDT + 8


@pytest.mark.parametrize(
    "read",
    [
        f"mov ds, word ptr [{GDT + 8}]",
        f"mov ds, word ptr [{GDT - 1}]",
        f"lfs eax, [{GDT - 4}]",
        f"verr word ptr [{GDT}]",
        f"mov esp, {GDT + 0x10}; pop ds",
        f"mov esp, {GDT - 2}; pop ds",
        f"mov esp, {GDT - 4}; retf",
        f"mov esp, {GDT - 8}; iretd",
    ],
)
def test_an_operand_in_the_table_is_the_programs_own_access(read: str) -> None:
    guest = user_program(f"{read}\nhlt")
    vector, error, _ = fault(guest) or (-1, 0, 0)
    assert (vector, error) == (14, 5) and guest.registers.get("cr2") >> 12 == GDT >> 12


def test_a_call_gate_pushes_onto_the_inner_stack() -> None:
    guest = user_program(f"call {GATE}:0\nhlt")
    assert fault(guest) is None
    registers = guest.registers
    assert (registers.cpl, registers.get("rip"), registers.get("rsp")) == (0, HANDLER, INNER + 0x1000 - 16)
    assert guest.memory[INNER + 0xFF4 : INNER + 0xFF8] == CODE3.to_bytes(4, "little")
