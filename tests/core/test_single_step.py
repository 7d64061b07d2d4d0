"""RFLAGS.TF: one #DB after each instruction, however the instruction is carried out."""

from __future__ import annotations

import struct

import pytest

import hypervisor as hv
from tests.core.bare import DATA, SYSTEM, TF, addresses, bare, listen_to_everything, with_idt
from tests.oracle import build

SIMPLE = {kind: code for kind, code in SYSTEM.items() if kind != "iret"}
DR6_BS = 1 << 14
CODE = 0x10000


def record(vm: hv.VM, end: int) -> list[int]:
    """The RIPs at which single-step traps come, filled by a run that is stopped at ``end``."""
    seen: list[int] = []

    @vm.traps.exception(1)
    def debug(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
        assert vcpu.dr6 & DR6_BS
        seen.append(vcpu.rip)
        return hv.stop("end") if vcpu.rip == end or len(seen) > 50 else hv.HANDLED

    return seen


@pytest.mark.parametrize("listen", [False, True], ids=["native", "trapped"])
@pytest.mark.parametrize("kind", SIMPLE)
def test_exactly_one_trap_per_instruction(kind: str, listen: bool) -> None:
    code = f"nop; {SIMPLE[kind]}; nop; hlt"
    places = addresses(code)
    with bare(code, rflags=2 | TF) as vm:
        if listen:
            listen_to_everything(vm, [*SIMPLE, "hlt", "hypercall"], lambda vcpu, exit: None)
        seen = record(vm, places[-1])
        result = vm.run(timeout=5, virtual_timeout=0.01)
    assert seen == places[1:], result.message  # HLT too: its trap wakes it
    assert result.reason is hv.Reason.STOPPED


@pytest.mark.parametrize("kind", ["cpuid", "port_out", "mmio_read", "rdtsc", "wrmsr", "popf", "invd"])
def test_one_trap_through_the_guests_own_handler(kind: str) -> None:
    code = f"nop; {SIMPLE[kind]}; nop; nop; vmmcall"
    with bare(code, rflags=2 | TF) as vm:
        with_idt(vm, {1: f"inc dword ptr [{DATA + 0x200:#x}]; iretq"})
        vm.traps.hypercall(lambda vcpu, exit: hv.stop("end"))
        result = vm.run(timeout=5, virtual_timeout=0.1)
        count = int.from_bytes(vm.memory.read(DATA + 0x200, 4), "little")
    assert result.message == "end"
    assert count == len(addresses(code)) - 2


def test_repeated_string_instruction_traps_after_each_element() -> None:
    with bare("rep stosb; nop", rflags=2 | TF, rcx=3, rdi=DATA) as vm:
        seen = record(vm, CODE + 3)
        vm.run(timeout=5, virtual_timeout=0.01)
    assert seen == [CODE, CODE, CODE + 2, CODE + 3]


@pytest.mark.parametrize("listen", [False, True], ids=["native", "trapped"])
def test_int_n_enters_its_handler_without_a_trap(listen: bool) -> None:
    with bare("int 0x40; nop; nop", rflags=2 | TF) as vm:
        with_idt(vm, {0x40: "nop; iretq"})
        if listen:
            vm.traps.int_n(lambda vcpu, exit: None, mode="observe")
        seen = record(vm, CODE + 4)
        vm.run(timeout=5, virtual_timeout=0.01)
    assert seen == [CODE + 3, CODE + 4]  # INT cleared TF, IRET brought it back: the first trap is after the NOP


@pytest.mark.parametrize("listen", [False, True], ids=["native", "trapped"])
@pytest.mark.parametrize("mask", [0, TF], ids=["kept", "masked"])
def test_syscall_traps_unless_sfmask_clears_tf(listen: bool, mask: int) -> None:
    with bare("syscall", rflags=2 | TF) as vm:
        vm.memory.write(DATA, b"\x90\xf4")
        vm.vcpu.set("lstar", DATA)
        vm.vcpu.set("star", 8 << 32)
        vm.vcpu.set("fmask", mask)
        if listen:
            vm.traps.syscall(lambda vcpu, exit: None, mode="observe")
        seen = record(vm, DATA + 2)
        result = vm.run(timeout=5, virtual_timeout=0.01)
    assert seen == ([] if mask else [DATA, DATA + 1, DATA + 2])
    assert result.reason is (hv.Reason.HALTED if mask else hv.Reason.STOPPED)


@pytest.mark.parametrize("where", ["execute", "memory", "skip"])
def test_hooks_add_no_trap(where: str) -> None:
    code = "nop; mov al, [0x80000]; nop; nop"
    with bare(code, rflags=2 | TF) as vm:
        if where == "memory":
            vm.traps.memory(range(DATA, DATA + 1), lambda vcpu, exit: hv.PASS)
        elif where == "execute":
            vm.traps.execute(0x10001, lambda vcpu, exit: hv.PASS)
        else:
            vm.traps.execute(0x10001, lambda vcpu, exit: hv.HANDLED)
        seen = record(vm, addresses(code)[-1])
        vm.run(timeout=5, virtual_timeout=0.01)
    assert seen == addresses(code)[1:]


def test_a_fault_is_no_trap() -> None:
    with bare("nop; ud2; nop; nop", rflags=2 | TF) as vm:
        with_idt(vm, {6: "add qword ptr [rsp], 2; iretq"})
        seen = record(vm, CODE + 5)
        vm.run(timeout=5, virtual_timeout=0.01)
    assert seen == [CODE + 1, CODE + 4, CODE + 5]


def test_a_handled_hypercall_is_one_instruction() -> None:
    with bare("nop; vmmcall; nop; nop", rflags=2 | TF) as vm:
        vm.traps.hypercall(lambda vcpu, exit: hv.HANDLED)
        seen = record(vm, CODE + 6)
        vm.run(timeout=5, virtual_timeout=0.01)
    assert seen == [CODE + 1, CODE + 4, CODE + 5, CODE + 6]


@pytest.mark.parametrize("instruction", ["jmp 0x20:0", "call 0x20:0", "iretd"])
@pytest.mark.parametrize("trap_bit", [0, 1])
def test_a_task_switch_is_one_step(instruction: str, trap_bit: int) -> None:
    """TF of the old task is looked at while the instruction executes, so #DB is raised in the new task, whose T bit is
    told by the same exception (Intel SDM volume 3, 17.3.1.4 and 17.3.1.5)."""
    old, new, target = DATA + 0x100, DATA + 0x200, CODE + 0x40
    busy = 0x8B if instruction == "iretd" else 0x89
    task = bytearray(0x68)
    struct.pack_into("<II", task, 0x20, target, 2)
    struct.pack_into("<I", task, 0x38, DATA)
    struct.pack_into("<6I", task, 0x48, 0x10, 8, 0x10, 0x10, 0x10, 0x10)
    task[0x64] = trap_bit
    flat = 0xFFFF_FFFF
    table = [bytes(8), build.descriptor(0, flat, 0xC9B), build.descriptor(0, flat, 0xC93)]
    table += [build.descriptor(old, 0x67, 0x89), build.descriptor(new, 0x67, busy)]
    with bare(f"mov eax, 0x18; ltr ax; pushfd; or dword ptr [esp], 0x4100; popfd; {instruction}", 32) as vm:
        vm.memory.write(DATA, b"".join(table))
        vm.memory.write(old, struct.pack("<I", 0x20) + bytes(0x64))
        vm.memory.write(new, bytes(task))
        vm.memory.write(target, b"\x90\xf4")
        vm.vcpu.gdtr = hv.Table(DATA, 8 * len(table) - 1)
        seen: list[tuple[int, int]] = []

        @vm.traps.exception(1)
        def debug(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
            seen.append((vcpu.rip, vcpu.dr6 & 0xE00F))
            return hv.HANDLED

        assert vm.run(timeout=5).reason is hv.Reason.HALTED
        assert seen == [(target, 0x4000 | trap_bit << 15)]
