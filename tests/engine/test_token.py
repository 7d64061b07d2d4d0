"""Which pCPU asks for the interpreter lock next, and what comes of it for VMs whose exits Python serves."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import hypervisor as hv
from hypervisor.assembler import assemble

ROOT = Path(__file__).parents[2]
CODE = 0x100000
EXITS = 20_000


def test_the_rules() -> None:
    environment = {**os.environ, "HYPERVISOR_KERNELS": "plain", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "tests.engine.token_rules"],
        env=environment, cwd=ROOT, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) == 9


def guest(host: hv.Host, body: str, rounds: int) -> hv.VM:
    """A VM that does something so often, then writes to port F4h."""
    source = f"mov r15, {rounds}; again: {body}; dec r15; jnz again; mov dx, 0xf4; out dx, al; hlt"
    code = assemble(source, origin=CODE, mode=64).code
    vm = host.create_vm(code, format="flat", at=CODE, mode=64, memory="4M")
    vm.traps.port_out(0xF4)(lambda vcpu, exit: hv.stop("done"))
    return vm


CPUID = "mov eax, 0x40000000; cpuid"
BODIES = (CPUID, "in al, 0x64", f"{CPUID}; mov rcx, 3000; l: imul rax, rcx; dec rcx; jnz l")


def answered(vm: hv.VM, counts: list[int], number: int) -> None:
    """Have CPUID served by Python, and counted."""

    @vm.traps.cpuid(leaf=0x40000000)
    def serve(vcpu: Any, exit: Any) -> Any:
        counts[number] += 1
        exit.eax = counts[number]
        return hv.HANDLED


def outcome(vm: hv.VM) -> tuple[Any, ...]:
    """What must not depend on neighbours."""
    result = vm.wait()
    assert result is not None and result.message == "done", result
    return result.virtual_s, result.exits, vm.vcpu.rax, vm.vcpu.rip


def test_no_exit_costs_a_change_of_threads() -> None:
    """Two VMs whose exits Python serves: threads are put to sleep and woken seldom, however that is counted by the
    host, and each VM does what it does alone.
    """
    with hv.Host(memory="64M", cpus=2) as host:
        for body in BODIES:
            counts = [0, 0, 0]
            alone = guest(host, body, EXITS)
            answered(alone, counts, 0)
            alone.start(timeout=300)
            expected = outcome(alone)
            pair = [guest(host, body, EXITS) for _ in range(2)]
            for number, vm in enumerate(pair, 1):
                answered(vm, counts, number)
            before = resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw
            for vm in pair:
                vm.start(timeout=300)
            assert [outcome(vm) for vm in pair] == [expected, expected]
            assert resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw - before < EXITS / 4
            assert counts[0] == counts[1] == counts[2]
            for vm in (alone, *pair):
                vm.close()


def test_handlers_that_wait_for_each_other() -> None:
    """Who waits in a handler has the token, and whom it waits for gets on all the same."""
    rounds = 100
    with hv.Host(memory="64M", cpus=2) as host:
        pair = [guest(host, CPUID, rounds) for _ in range(2)]
        bells = [threading.Semaphore(1), threading.Semaphore(0)]
        order: list[int] = []

        def answer(number: int) -> Any:
            def serve(vcpu: Any, exit: Any) -> Any:
                assert bells[number].acquire(timeout=60)
                order.append(number)
                bells[1 - number].release()
                return hv.HANDLED

            return serve

        for number, vm in enumerate(pair):
            vm.traps.cpuid(leaf=0x40000000)(answer(number))
        for vm in pair:
            vm.start(timeout=300)
        for vm in pair:
            outcome(vm)
    assert order == [0, 1] * rounds


def test_a_stop_reaches_those_who_wait_for_the_lock() -> None:
    """VMs that exit all the time, each on a pCPU of its own: none starves, and each is stopped."""
    with hv.Host(memory="64M", cpus=4) as host:
        counts = [0] * 4
        several = [guest(host, CPUID, 1 << 40) for _ in range(4)]
        for number, vm in enumerate(several):
            answered(vm, counts, number)
        for vm in several:
            vm.start(timeout=300)
        enough = threading.Event()
        while min(counts) < 2000:
            enough.wait(0.01)
        for vm in several:
            assert vm.stop("enough").message == "enough"
