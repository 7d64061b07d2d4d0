"""Addresses that are not canonical: the instruction that would load one faults, and nothing has happened."""

from __future__ import annotations

import pytest

from hypervisor.arch.exits import ExitKind
from hypervisor.assembler import assemble
from hypervisor.engine import block as b
from tests.engine.machine import Machine, machine
from tests.oracle.machine import long

SIZE, CODE, WRONG = 0x40000, 0x4000, 0x0000_8000_0000_0000
RAX, RSP = 0, 4


def program(source: str, cpl: int = 0) -> Machine:
    """64-bit code with RAX not canonical, and a HLT at 5000h; it stops at any exception."""
    memory, state = long(cpl)
    guest = machine(SIZE)
    guest.fresh()
    guest.memory[: len(memory.data)] = memory.data
    guest.memory[CODE:0x5001] = assemble(source, origin=CODE, mode=64).code.ljust(0x1000, b"\x90") + b"\xf4"
    state.rip, state.regs[RAX], state.regs[RSP] = CODE, WRONG, 0x6800
    guest.load(state)
    guest.put(b.LISTEN_EXCEPTIONS, -1)
    return guest


def ended(guest: Machine) -> tuple[int, int, int, int] | None:
    """Vector, error code, RIP and RSP of the exception; None for HLT."""
    try:
        kind = guest.pcpu.run()
    finally:
        guest.put(b.LISTEN_EXCEPTIONS, 0)
    if kind == ExitKind.HLT:
        return None
    assert kind == ExitKind.EXCEPTION, ExitKind(kind)
    rip, rsp = guest.registers.get("rip"), guest.registers.get("rsp")
    return guest.word(b.X_INFO), guest.word(b.X_INFO, 1), rip, rsp


@pytest.mark.parametrize(
    ("before", "branch", "pushed"),
    [
        ("nop", "jmp rax", 0),
        ("mov [rsp], rax", "jmp [rsp]", 0),
        ("nop", "call rax", 0),
        ("push rax", "ret", 8),
        ("push rax", "ret 0x18", 8),
        ("push rax", ".byte 0xf3, 0xc3", 8),
        ("mov r9, rax", "jmp r9", 0),
    ],
)
def test_a_near_branch_is_refused(before: str, branch: str, pushed: int) -> None:
    guest = program(f"xor ecx, ecx; {before}; here: {branch}")
    here = CODE + len(assemble(f"xor ecx, ecx; {before}", origin=CODE, mode=64).code)
    assert ended(guest) == (13, 0, here, 0x6800 - pushed)


def test_a_direct_jump_over_the_edge_is_refused() -> None:
    guest = program("hlt")
    last_page, tables = 0x7FFF_FFFF_F000, guest.registers.get("cr3")
    guest.memory[tables + 255 * 8 : tables + 256 * 8] = (0x13067).to_bytes(8, "little")
    for table, entry in ((0x13000, 0x14067), (0x14000, 0x15067), (0x15000, 0x5067)):
        guest.memory[table + 511 * 8 : table + 512 * 8] = entry.to_bytes(8, "little")
    rip = last_page + 0xF00
    code = assemble(f"jmp {WRONG + 0x10}", origin=rip, mode=64).code
    guest.memory[0x5F00 : 0x5F00 + len(code)] = code
    guest.registers.set("rip", rip)
    assert ended(guest) == (13, 0, rip, 0x6800)


@pytest.mark.parametrize("load", ["lgdt", "lidt"])
def test_a_table_has_a_canonical_base(load: str) -> None:
    source = "mov word ptr [0x6000], 0x7f; mov [0x6002], rax; xor ecx, ecx"
    guest = program(f"{source}; {load} [0x6000]")
    before = guest.registers.table("gdtr"), guest.registers.table("idtr")
    assert ended(guest) == (13, 0, CODE + len(assemble(source, origin=CODE, mode=64).code), 0x6800)
    assert (guest.registers.table("gdtr"), guest.registers.table("idtr")) == before
    guest = program(f"mov rax, -0x1000; {source}; {load} [0x6000]")
    assert ended(guest) is None
    assert guest.registers.table("gdtr" if load == "lgdt" else "idtr") == ((1 << 64) - 0x1000, 0x7F)


def test_sysret_leaves_the_fault_to_ring_3() -> None:
    guest = program("mov rcx, rax; mov r11d, 0x20202; sysretq".replace("sysretq", ".byte 0x48, 0x0f, 0x07"))
    guest.registers.set("star", 0x1B0010 << 32)
    guest.registers.set("efer", guest.registers.get("efer") | 1)
    assert ended(guest) == (13, 0, WRONG, 0x6800)
    assert guest.registers.cpl == 3 and guest.registers.get("rflags") == 0x202  # VM never in long mode
