"""Several vCPUs in a VM: starting them, what one does to another, and memory that they share."""

from __future__ import annotations

import pytest

import hypervisor as hv
from hypervisor.errors import ConfigError
from tests.core.smp import machine

START = """
    xor ax, ax
    mov ds, ax
    mov ss, ax
    mov sp, 0x7000
    mov cx, {others}
start:
    mov eax, 0x800
    mov al, cl
    mov dx, 0x101
    out dx, eax
    loop start
"""
"""The first vCPU starts all others."""

COUNT = """
    xor ax, ax
    mov ds, ax
    mov ecx, {rounds}
again:
    lock inc dword ptr [0x600]
    inc dword ptr [0x604]
    dec ecx
    jnz again
    lock inc dword ptr [0x608]
"""
HALT = "cli\nhlt\n"
WAIT = "wait: pause\ncmp dword ptr [0x608], {cpus}\njne wait\n"


def _word(vm: hv.VM, address: int) -> int:
    return int.from_bytes(vm.memory.read(address, 4), "little")


@pytest.mark.parametrize("cpus", [2, 4, 8])
def test_counters_are_exact_and_the_vcpus_run_at_the_same_time(cpus: int) -> None:
    rounds = 50_000
    bsp = START.format(others=cpus - 1) + COUNT.format(rounds=rounds) + WAIT.format(cpus=cpus) + HALT
    with machine(bsp, cpus, COUNT.format(rounds=rounds) + HALT) as vm:
        result = vm.run(timeout=60, virtual_timeout=1)
        assert result.reason is hv.Reason.HALTED, result.message
        assert "none of the" in result.message
        assert (_word(vm, 0x600), _word(vm, 0x604), _word(vm, 0x608)) == (cpus * rounds, cpus * rounds, cpus)
        assert {vcpu.activity for vcpu in vm.vcpus} == {"halted"}
        with machine(COUNT.format(rounds=rounds) + HALT, 1) as alone:
            one = alone.run(timeout=60).virtual_s
        assert one <= result.virtual_s < 1.2 * one


def test_vcpus_wait_until_they_are_started() -> None:
    with machine(HALT, 3) as vm:
        assert (vm.cpus, vm.current, vm.vcpu) == (3, vm.vcpus[0], vm.vcpus[0])
        assert [vcpu.activity for vcpu in vm.vcpus] == ["running", "waiting-for-startup", "waiting-for-startup"]
        assert vm.run(timeout=10).reason is hv.Reason.HALTED
        assert [vcpu.activity for vcpu in vm.vcpus] == ["halted", "waiting-for-startup", "waiting-for-startup"]


@pytest.mark.parametrize("cpus", [0, 9, "2", True, 1.0])
def test_a_wrong_number_of_cpus_is_a_sentence(cpus: object) -> None:
    with pytest.raises(ConfigError, match="a VM has 1 to 8 virtual CPUs"):
        hv.boot("hello", cpus=cpus)


def test_cpuid_says_which_vcpu_asks() -> None:
    code = "xor ax, ax\nmov ds, ax\nmov eax, 1\ncpuid\nshr ebx, 24\nmov [ebx + 0x600], bl\n"
    with machine(START.format(others=3) + code + HALT, 4, code + HALT) as vm:
        assert vm.run(timeout=10).reason is hv.Reason.HALTED
        assert vm.memory.read(0x600, 4) == bytes(range(4))
        assert {vcpu.rbx for vcpu in vm.vcpus} == set(range(4))
