"""The crash report: what it holds, that it is right, and that no state of a guest makes it fail."""

from __future__ import annotations

import random

import pytest

import hypervisor as hv
from hypervisor.arch.exits import ExitKind
from hypervisor.debug import registers, report
from hypervisor.debug.crash import LAST_EVENTS
from hypervisor.debug.register_text import mode_name
from hypervisor.outcome.crash_record import Crash
from hypervisor.traps.history import Event
from tests.core.bare import bare
from tests.debug.fakes import FakeVcpu

CALLS = """
    xor ebp, ebp
    call outer
    hlt
outer: push rbp; mov rbp, rsp; sub rsp, 32
    call inner
    leave; ret
inner: push rbp; mov rbp, rsp
    mov ecx, 40
again: mov al, cl; out 0x80, al; dec ecx; jnz again
    mov rbx, 0x200000001000
    mov [rbx + 8], eax
    leave; ret
"""


def crashed(code: str, mode: int = 64, **regs: int) -> Crash:
    result = hv.run_asm(code, mode=mode, regs=regs)
    assert result.reason is hv.Reason.CRASHED and result.crash is not None
    return result.crash


def test_a_crash_is_a_value_whose_text_is_the_report() -> None:
    crash = crashed(CALLS)
    lines = str(crash).splitlines()
    assert lines[0] == crash.message and crash.message.startswith("triple fault at RIP 0x")
    assert crash.message.endswith("(#PF, #GP, #DF, #GP)")
    assert [link.vector for link in crash.chain] == [14, 13, 8, 13]
    first = crash.chain[0]
    assert (first.name, first.error, first.address) == ("#PF page fault", 2, 0x200000001008)
    assert first.cause == "ring 0 wrote to 0x200000001008, which is not mapped"
    assert first.walk == "write by ring 0 to 0x200000001008: PML4[64] not present"
    assert crash.mistakes and f"likely mistake: {crash.mistakes[0]}" in lines
    assert crash.registers in "\n".join(line.removeprefix("  ") for line in lines)
    assert sum("mov dword ptr [rbx + 8], eax" in line and line.startswith("  ->") for line in lines) == 1
    assert len(crash.events) == LAST_EVENTS == 32 and str(crash.events[-1]).startswith("#PF page fault")
    assert str(crash.events[-2]) == "out 0x80, 0x1 (1)"
    assert f"last {LAST_EVENTS} exits and interrupts, newest last:" in lines


def test_events_in_a_row_that_are_alike_share_a_line() -> None:
    crash = crashed("mov ecx, 100; again: out 0x80, al; dec ecx; jnz again; in al, 0x60; ud2")
    text = str(crash).partition("exits and interrupts, newest last:\n")
    assert text[0].endswith("\nlast 102 ")
    events = [row.split(maxsplit=2)[2] for row in text[2].splitlines()]
    assert events[:2] == ["out 0x80, 0x0 (1) at 0x10005", "the last of 100 alike"]
    assert len(events) == 4 and events[3].startswith("#UD")


def test_a_stack_trace_follows_frame_pointers() -> None:
    crash = crashed(CALLS)
    assert len(crash.stack) == 3 and not any(frame.guessed for frame in crash.stack)
    assert [frame.address for frame in crash.stack[1:]] == [0x10015, 0x10007]


def test_without_frame_pointers_return_addresses_are_guessed_and_marked() -> None:
    crash = crashed("call f; hlt; f: push 5; push 0x10003; call g; hlt; g: sub rsp, 24; ud2", rbp=7)
    assert [frame.guessed for frame in crash.stack] == [False, True, True]
    assert [frame.address for frame in crash.stack[1:]] == [0x10012, 0x10005]
    assert "  #1 ? 0x10012" in str(crash).splitlines()


@pytest.mark.parametrize(("mode", "name"), [(16, "ax "), (32, "eax "), (64, "rax ")])
def test_registers_and_code_are_of_the_mode(mode: int, name: str) -> None:
    load = "lidt [0x80]; ud2" if mode == 16 else "ud2"
    crash = crashed(load, mode=mode, rdx=0, rsp=0x8000)
    assert any(line.lstrip().startswith(name) for line in crash.registers.splitlines())
    assert "ud2" in crash.code


def test_a_task_gate_that_leads_nowhere_is_told() -> None:
    def setup(vm: hv.VM) -> None:
        vm.memory.write(0x60000, bytes(0x800))
        vm.memory.write(0x60000 + 8 * 8, bytes.fromhex("0000 1800 0085 0000"))  # #DF: a task gate to TSS 18h
        vm.vcpu.idtr = hv.Table(0x60000, 0x7FF)

    crash = hv.run_asm("ud2", mode=32, setup=setup).crash
    assert crash is not None
    link = crash.chain[-2]
    assert (link.name, link.gate) == ("#DF double fault", "a task gate to 0x18:0x0")
    assert link.why == (
        "the switch to the gate's task was refused with #GP: "
        "selector 0x18 lies beyond the GDT: its limit 0x17 has room for 3 entries"
    )
    assert "cannot be said" not in str(crash)


def test_a_run_that_ends_well_has_no_crash() -> None:
    result = hv.run_asm("hlt")
    assert result.crash is None and result.hint == ""


def test_check_tells_the_report_once() -> None:
    result = hv.run_asm("ud2")
    with pytest.raises(hv.GuestCrashed) as caught:
        result.check()
    assert str(caught.value).count("triple fault at RIP") == 1 and "#UD invalid opcode" in str(caught.value)


def test_code_and_stack_that_cannot_be_read_are_replaced_by_the_reason() -> None:
    crash = crashed("mov rsp, 0x300000000000; mov rax, 0x400000000000; jmp rax")
    assert str(crash).count("cannot be read: ") == 2
    assert crash.code.startswith("cannot be read: 0x400000000000 is not mapped")


def test_no_state_of_a_guest_makes_a_report_fail() -> None:
    rng = random.Random(7)
    names = ("rip", "rsp", "rbp", "rax", "rbx", "cr3", "cr2")
    with bare("hlt") as vm:
        for _ in range(150):
            for name in names:
                vm.vcpu.set(name, rng.choice((0, rng.getrandbits(16), rng.getrandbits(20), rng.getrandbits(64))))
            vm.vcpu.cr0 = rng.choice((0x10, 0x11, 0x80000011, 0x80010011))
            vm.vcpu.efer = rng.choice((0, 0x500, 0xD00))
            vm.vcpu.cr4 = rng.choice((0, 0x20, 0x30, 0x300020)) | (0x20 if vm.vcpu.efer else 0)  # LMA needs PAE
            for table in ("gdtr", "idtr"):
                base = rng.choice((0, 0x1000, rng.getrandbits(20), rng.getrandbits(64)))
                setattr(vm.vcpu, table, hv.Table(base, rng.getrandbits(rng.choice((3, 8, 16)))))
            for segment in ("cs", "ss", "tr", "ldtr"):
                base, limit = rng.getrandbits(rng.choice((0, 20, 32))), rng.getrandbits(32)
                setattr(vm.vcpu, segment, hv.Segment(rng.getrandbits(16), base, limit, rng.getrandbits(12) | 0x80))
            vm.memory.write(rng.randrange(0, 1 << 19), rng.randbytes(4096))
            fault = _fault(rng)
            events = [_event(rng) for _ in range(rng.randrange(40))]
            text = str(report(vm, "a title", [fault], events))
            assert text.startswith("a title") and "what happened:" in text and "stack trace:" in text


def _fault(rng: random.Random) -> object:
    from hypervisor.outcome.result import Fault

    vector = rng.choice((0, 6, 8, 10, 11, 12, 13, 14, 0x20, 0xFF))
    return Fault(vector, rng.choice((None, 0, rng.getrandbits(16))), rng.choice((None, rng.getrandbits(64))), 0)


def _event(rng: random.Random) -> Event:
    kind = rng.choice((ExitKind.EXCEPTION, ExitKind.EXCEPTION, ExitKind.CR_WRITE, ExitKind.HLT, ExitKind.WRMSR))
    info = rng.choice((3, 6, 13, 14, 0x80)) | rng.getrandbits(16) << 8 | rng.randrange(8) << 24
    rip = rng.choice((0, rng.getrandbits(3), rng.getrandbits(20), rng.getrandbits(64)))
    return Event(0, kind, rip, info if kind is ExitKind.EXCEPTION else rng.getrandbits(4), rng.getrandbits(64))


def test_registers_are_as_wide_as_the_mode() -> None:
    wide, narrow = registers(FakeVcpu()), registers(FakeVcpu(bits=32, efer=0))
    assert "r15 " in wide and "rax 0000000000" in wide
    assert "r15" not in narrow and "eax 0000" in narrow
    assert "cr0 80010011 [PE ET WP PG]" in narrow and "IOPL 0" in narrow and "(data32, DPL 0)" in narrow
    assert "[PF ZF IF]" in wide and "cs   0008" in wide and "(code64, DPL 0)" in wide
    real = registers(FakeVcpu(bits=16, efer=0, cr0=0x10))
    assert " ax 0" in real and "cr3" not in real and "ldtr" not in real


def test_modes_have_names() -> None:
    assert mode_name(FakeVcpu()) == "64-bit long mode, CPL 0"
    assert mode_name(FakeVcpu(bits=32)) == "32-bit compatibility mode, CPL 0"
    assert mode_name(FakeVcpu(bits=32, efer=0, cpl=3)) == "32-bit protected mode, paged, CPL 3"
    assert mode_name(FakeVcpu(bits=16, efer=0, cr0=0x11)) == "16-bit protected mode, not paged, CPL 0"
    assert mode_name(FakeVcpu(bits=16, efer=0, cr0=0x10)) == "real mode"
    assert mode_name(FakeVcpu(bits=16, efer=0, rflags=0x20002, cpl=3)) == "virtual-8086 mode"


def test_an_index_that_is_none() -> None:
    """A SIB byte with a scale and without an index: a load from ffffffff80000000h, which is not mapped."""
    result = hv.run_asm(".byte 0x8b, 0x04, 0x65, 0, 0, 0, 0x80; hlt")
    assert result.reason is hv.Reason.CRASHED
    assert "0xffffffff80000000" in str(result.crash)
    assert "please report this" not in str(result.crash)
