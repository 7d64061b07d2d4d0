"""The time-stamp counter's offset: writes of TSC move TSC_ADJUST, and writes of TSC_ADJUST move TSC (SDM volume 3B,
18.17.3).
"""

from __future__ import annotations

import struct
from typing import Any

import pytest

import hypervisor as hv
from hypervisor.arch.exits import ExitKind
from hypervisor.engine.costs import COSTS
from tests.core.bare import DATA, bare, with_idt
from tests.core.smp import long_mode

TSS = 0x78000
USER = "push 0x23; push rbp; push 2; push 0x1b; lea rax, [user]; push rax; iretq; user: nop"
NEGATIVE = (1 << 64) - 5_000_000_000


@pytest.mark.parametrize("offset", [0, 1 << 40, NEGATIVE])
def test_tsc_adjust_is_the_distance_from_the_clock(offset: int) -> None:
    result = hv.run_asm(
        f"""
        mov ecx, 0x3b
        mov eax, {offset & 0xFFFFFFFF}
        mov edx, {offset >> 32}
        wrmsr
        rdmsr
        shl rdx, 32
        or rax, rdx
        mov rbx, rax
        rdtsc
        shl rdx, 32
        or rax, rdx
        hlt
        """,
        mode=64,
    )
    assert result.rbx == offset
    assert 0 <= result.rax - offset & (1 << 64) - 1 < 1_000_000


def test_writing_tsc_moves_tsc_adjust_by_as_much() -> None:
    result = hv.run_asm("mov ecx, 0x10; mov edx, 0x100; xor eax, eax; wrmsr; mov ecx, 0x3b; rdmsr; hlt", mode=64)
    assert 0 <= (0x100 << 32) - (result.edx << 32 | result.eax) < 1_000_000


def _stamps(body: str, rounds: int = 64, **prepare: Any) -> list[int]:
    """What ``body`` leaves in EDX:EAX, round by round."""
    code = f"mov edi, {DATA:#x}; mov esi, {rounds}; again: {body}; mov [rdi], eax; mov [rdi + 4], edx; add edi, 8; " + (
        "dec esi; jnz again; hlt"
    )
    with bare(code, **prepare) as vm:
        assert vm.run(timeout=20).reason is hv.Reason.HALTED
        return list(struct.unpack(f"<{rounds}Q", vm.memory.read(DATA, 8 * rounds)))


@pytest.mark.parametrize("instruction", ["rdtsc", "rdtscp"])
def test_it_takes_twenty_to_forty_ticks(instruction: str) -> None:
    code = f"{instruction}; mov ebx, eax; {instruction}; sub eax, ebx; hlt"
    with bare(code) as vm:
        result = vm.run(timeout=20)
        assert 20 <= result.rax <= 40
        assert result.exits[instruction] == 2


def test_it_is_exact_in_the_middle_of_a_block() -> None:
    """One tick for each byte of code, whatever the block's length; the stamps' own time is that of their kind."""
    for nops in range(0, 60, 7):
        body = "rdtsc; mov ebx, eax; " + "nop; " * nops + "rdtsc; sub eax, ebx; xor edx, edx"
        assert set(_stamps(body)) == {4 + nops + COSTS[ExitKind.RDTSC]}


def test_it_agrees_with_the_clock_that_a_port_reads() -> None:
    """The time in the middle of a block is the same for an instruction served inside it as for a handler in place."""
    seen: list[int] = []
    with bare("nop; nop; rdtsc; in al, 0x60; mov rbx, rax; rdtsc; nop; hlt") as vm:
        vm.traps.port_in(0x60)(lambda vcpu, exit: seen.append(vm.clock.now_ns) or hv.PASS)
        result = vm.run(timeout=20)
    assert seen[0] < result.eax < seen[0] + 100
    assert result.eax - seen[0] == 2 + 3 + COSTS[ExitKind.RDTSC]


@pytest.mark.parametrize("instruction", ["rdtsc", "rdtscp"])
@pytest.mark.parametrize("listens", [False, True])
def test_tsd_keeps_it_from_user_code(instruction: str, listens: bool) -> None:
    """CR4.TSD: #GP(0) outside ring 0, also when a handler listens (APM volume 3, RDTSC)."""
    code = f"mov rax, cr4; or eax, 4; mov cr4, rax; {instruction}; mov rbp, rsp; {USER}; {instruction}; hlt"
    for tsd, faults in ((True, True), (False, False)):
        with bare(code if tsd else code.replace("or eax, 4", "or eax, 0")) as vm:
            with_idt(vm, {13: "pop rbx; pop rsi; hlt", 6: "hlt"})
            vm.memory.write(vm.vcpu.gdtr.base + 0x18, struct.pack("<QQ", 0x00AFFB000000FFFF, 0x00CFF3000000FFFF))
            vm.memory.write(TSS, bytes(4) + struct.pack("<Q", 0x7F000) + bytes(92))
            vm.vcpu.gdtr = hv.Table(vm.vcpu.gdtr.base, 0x27)
            vm.vcpu.tr = hv.Segment(0x30, TSS, 0x67, 0x89)
            if listens:
                getattr(vm.traps, instruction)(mode="observe")(lambda vcpu, exit: None)
            result = vm.run(timeout=20)
            assert (result.reason, result.exits[instruction]) == (hv.Reason.HALTED, 1 if faults else 2)
            assert result.rbx == 0
            at = vm.memory.read(result.rsi, 1)
            assert at == (b"\x0f" if faults else b"\xf4")  # without TSD it is HLT that faults


def test_rdtscp_gives_the_processor_as_well() -> None:
    with bare("mov ecx, 0xc0000103; mov eax, 0x5678; xor edx, edx; wrmsr; rdtscp; hlt") as vm:
        assert vm.run(timeout=20).rcx == 0x5678


@pytest.mark.parametrize("clock", ["virtual", "wall"])
@pytest.mark.parametrize("cpus", [1, 2])
def test_it_never_goes_back(clock: str, cpus: int) -> None:
    """On either clock, within a vCPU and from one to the next (through a word that they share under a lock)."""
    code = f"""
        xor ebx, ebx
    again:
        mov al, 1
    take: xchg al, [{DATA + 0x100:#x}]
        test al, al
        jz mine
        pause
        jmp take
    mine:
        rdtsc
        shl rdx, 32
        or rax, rdx
        cmp rax, [{DATA:#x}]
        jb back
        mov [{DATA:#x}], rax
        mov byte ptr [{DATA + 0x100:#x}], 0
        inc ebx
        cmp ebx, 5000
        jb again
        hlt
    back:
        mov byte ptr [{DATA + 0x200:#x}], 1
        hlt
    """
    with long_mode([code] * cpus, clock=clock) as vm:
        vm.run(timeout=30)
        assert [vcpu.rbx for vcpu in vm.vcpus] == [5000] * cpus
        assert vm.memory.read(DATA + 0x200, 1) == b"\0"


def test_the_trap_flag_is_honoured_behind_it() -> None:
    with bare("pushfq; or dword ptr [rsp], 0x100; popfq; rdtsc; rdtscp; nop; hlt") as vm:
        with_idt(vm, {1: "mov rbx, [rsp]; mov [rbp], rbx; add rbp, 8; iretq"})
        vm.vcpu.rbp = DATA
        code = vm.memory.read(vm.vcpu.rip, 64)
        vm.run(timeout=20)
        after = [vm.vcpu.read(DATA + 8 * n, 8) for n in range(3)]
    first = 0x10000 + code.index(b"\x0f\x31")
    assert [int.from_bytes(rip, "little") for rip in after] == [first + 2, first + 5, first + 6]
