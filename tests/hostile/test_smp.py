"""Hostile guests with eight vCPUs: each ends its own VM at worst, in bounded time, and the same way each time."""

from __future__ import annotations

import random
from contextlib import closing
from typing import Any

import pytest

import hypervisor as hv
from hypervisor.outcome.result import Reason
from hypervisor.run.sharing.turns import SLICE_NS
from tests.core.smp import TRAMPOLINE, long_mode, machine

CPUS = 8
START_ALL = "mov cx, 7\nstart: mov eax, {vector} * 256\nmov al, cl\nmov dx, 0x101\nout dx, eax\nloop start\n"
ENDS = frozenset(Reason) - {Reason.HOST_ERROR}

FAULT_LOOPS = {
    "page faults of the handler's own making": "a: mov rax, 0x123456789000\nmov [rax], rax\njmp a\n",
    "undefined instructions": "a: ud2\njmp a\n",
    "software interrupts": "a: int 0x30\njmp a\n",
    "single steps": "pushfq\nor qword ptr [rsp], 0x100\npopfq\na: nop\njmp a\n",
    "task register": "a: xor eax, eax\nltr ax\njmp a\n",
}


@pytest.mark.parametrize("attack", FAULT_LOOPS)
def test_fault_loops_on_all_vcpus_take_virtual_time(attack: str) -> None:
    skip, coded = "add qword ptr [rsp], 2\niretq", "add rsp, 8\nadd qword ptr [rsp], 3\niretq"  # past the instruction
    handlers = {1: "iretq", 6: skip, 13: coded, 14: coded, 0x30: "iretq"}
    with long_mode([FAULT_LOOPS[attack]] * CPUS, handlers=handlers) as vm:
        result = vm.run(timeout=60, virtual_timeout=0.002)
        assert result.reason is Reason.VIRTUAL_TIMEOUT, result.message
        assert all(vcpu.position >= 0.002 * 1e9 - SLICE_NS for vcpu in vm.vcpus)  # nobody starved


def test_a_triple_fault_of_any_vcpu_ends_the_vm() -> None:
    for number in range(1, CPUS):
        codes = ["a: inc rax\njmp a\n"] * CPUS
        codes[number] = "lidt [0x80000]\nud2\n"
        with long_mode(codes) as vm:
            result = vm.run(timeout=60, virtual_timeout=0.1)
            assert (result.reason, result.message[:8]) == (Reason.CRASHED, f"vCPU {number}: ")


@pytest.mark.parametrize("vector", [0x00, 0x40, 0x9F, 0xA0, 0xC0, 0xF0, 0xFF])
def test_vcpus_started_in_nothing_or_in_garbage(vector: int) -> None:
    with machine(START_ALL.format(vector=vector) + "a: inc ax\njmp a\n", CPUS) as vm:
        vm.memory.write(0x40000, random.Random(vector).randbytes(4096))
        result = vm.run(timeout=60, virtual_timeout=0.003)
        assert result.reason in ENDS, result.message


def test_everybody_resets_everybody() -> None:
    storm = """
        xor ebx, ebx
    again:
        mov dx, 0x100
        mov al, bl
        and eax, 7
        out dx, eax                     # INIT
        inc dx
        mov ah, 8
        out dx, eax                     # startup
        add dx, 2
        out dx, eax                     # NMI
        inc word ptr [cs:0x800]
        inc bx
        jmp again
    """
    with machine(START_ALL.format(vector=8) + storm.replace("[cs:0x800]", "[0x600]"), CPUS, storm) as vm:
        result = vm.run(timeout=60, virtual_timeout=0.02)
        assert result.reason in ENDS, result.message
        assert vm.memory.read(TRAMPOLINE + 0x800, 2) != bytes(2)


def _garbage(host: hv.Host, seed: int) -> tuple[Any, ...]:
    generator = random.Random(seed)
    codes = ["nop\n"] * CPUS
    with long_mode(codes, host) as vm:
        for vcpu in vm.vcpus:
            vm.memory.write(vcpu.rip, generator.randbytes(512))
            for name in ("rax", "rbx", "rcx", "rdx", "rsi", "rdi"):
                vcpu.set(name, generator.choice((generator.getrandbits(64), generator.randrange(0x100000))))
        result = vm.run(timeout=60, virtual_timeout=0.001)
        assert result.reason in ENDS, (seed, result.message)
        return result.reason, result.message, result.virtual_s, dict(result.exits), vm.memory.read(0, 0x100000)


def test_random_code_on_all_vcpus_ends_the_same_way_twice() -> None:
    with closing(hv.Host("2M", 1)) as host:
        for seed in range(40):
            assert _garbage(host, seed) == _garbage(host, seed), seed
