"""What an instruction costs in virtual time is its kind's business: whoever serves it, and whoever looks on."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import hypervisor as hv
from hypervisor.arch.exits import FIRST_ENGINE, ExitKind
from hypervisor.assembler import assemble
from hypervisor.engine.costs import COSTS
from hypervisor.vm.watching.log import CATEGORIES
from tests.core.bare import SYSTEM, bare, listen_to_everything, with_idt

ROOT = Path(__file__).parents[2]
ENABLE_SYSCALL = (
    "mov ecx, 0xc0000080; rdmsr; or eax, 1; wrmsr; mov ecx, 0xc0000081; xor eax, eax; mov edx, 8; wrmsr; "
    "mov ecx, 0xc0000082; mov eax, 0x70f00; xor edx, edx; wrmsr; xor ebx, ebx; "
)
GUESTS = {
    **{kind: source for kind, source in SYSTEM.items() if kind != "iret"},
    "iret": "mov rcx, rsp; push 0x10; push rcx; pushfq; push 8; lea rdx, [end{n}]; push rdx; iretq; end{n}: nop",
    "cr3": "mov rax, cr3; mov cr3, rax; mov rax, cr0; mov rax, cr2; mov cr2, rax; mov rax, cr4; mov cr4, rax",
    "cr8": "mov rax, cr8; mov cr8, rax",
    "several rdtsc": "rdtsc; nop; rdtscp; mov ebx, eax; rdtsc; sub eax, ebx",
    "int": "int 0x40",
    "int3": "int3",
    "ud2": "ud2",
    "hypercall": "vmmcall",
    "monitor": "monitor",
    "mwait": "mwait",
    "svm": "clgi",
    "page fault": "mov al, [rsi]",
    "divide error": "xor ecx, ecx; div ecx",
    "syscall": ENABLE_SYSCALL + "syscall",
    "syscall refused": "mov ecx, 0xc0000080; rdmsr; and eax, 0xfffffffe; wrmsr; syscall",
    "sysenter refused": "sysenter",
    "strings": "mov edx, 0x1f0; mov edi, 0x80000; mov ecx, 100; rep insb",
    "unclaimed": "mov edx, 0x1234; in eax, dx; out dx, ax; mov eax, [0xd0000000]; mov [0xd0000008], rax",
}
"""64-bit code for each kind; a fault's handler goes past an instruction of two bytes."""

SKIP, SKIP_CODED = "add qword ptr [rsp], 2; iretq", "add rsp, 8; add qword ptr [rsp], 2; iretq"
IDT = {0: SKIP, 3: "iretq", 6: "mov rax, [rsp]; cmp byte ptr [rax + 1], 1; jne two; inc qword ptr [rsp]; two: " + SKIP,
       13: SKIP_CODED, 14: SKIP_CODED, 0x40: "iretq"}  # fmt: skip
SYSCALL_ENTRY, BACK = 0x70F00, "jmp rcx"
AS_EXCEPTIONS = (ExitKind.HYPERCALL, ExitKind.MONITOR, ExitKind.MWAIT, ExitKind.SVM)
"""Without a handler these are #UD."""

KINDS = [kind.name.lower() for kind in ExitKind if 0 < kind < FIRST_ENGINE and kind.name not in ("EXECUTE", "MEMORY")]


@contextmanager
def guest(*names: str) -> Iterator[hv.VM]:
    """The guests of these names, each twice, then HLT."""
    parts = [GUESTS[name].format(n=f"_{n}_{time}") for n, name in enumerate(names) for time in range(2)]
    with bare("; ".join((*parts, "hlt")), rsi=0x4000000000) as vm:
        with_idt(vm, IDT)
        vm.memory.write(SYSCALL_ENTRY, assemble(BACK, origin=SYSCALL_ENTRY, mode=64).code)
        yield vm


def took(prepare: Callable[[hv.VM], object], *names: str) -> tuple[int, int]:
    """Virtual nanoseconds to the end, and where that is."""
    with guest(*names) as vm:
        prepare(vm)
        result = vm.run(timeout=60)
        assert result.reason is hv.Reason.HALTED, result.message
        return vm.clock.now_ns, vm.vcpu.rip


def stepped(*names: str) -> tuple[int, int]:
    """The same, by single steps."""
    with guest(*names) as vm:
        vm.step(100_000)
        return vm.clock.now_ns, vm.vcpu.rip


def nobody(vm: hv.VM) -> None: ...


def observe(vm: hv.VM) -> None:
    listen_to_everything(vm, KINDS, lambda vcpu, exit: None)


def passing(vm: hv.VM) -> None:
    for kind in KINDS:
        getattr(vm.traps, kind)(lambda vcpu, exit: hv.PASS, name=f"{kind}-passes")


def log(vm: hv.VM) -> None:
    vm.log(*CATEGORIES, to=lambda line: None).__enter__()


def watch(vm: hv.VM) -> None:
    """All of memory is watched, and code has breakpoints that change nothing."""
    vm.traps.memory(range(0x80000, 0x81000))(lambda vcpu, exit: hv.PASS)
    vm.traps.execute(0x10000)(lambda vcpu, exit: hv.PASS)


class Stepper:
    """A debugger that steps the first instructions, and attends once more in the middle."""

    def __init__(self, vm: hv.VM) -> None:
        self.vm, self.times = vm, 3
        vm.debugger = self

    def attend(self, ended: Any) -> None:
        if ended is None and self.times:
            self.times -= 1
            self.vm.step(2)
            self.vm.request_pause()

    def wake(self) -> None: ...

    def close(self) -> None: ...


WATCHERS: dict[str, Callable[[hv.VM], object]] = {
    "observers": observe, "handlers that pass": passing, "log": log, "watches": watch, "debugger": Stepper,
}  # fmt: skip


def different(measure: Callable[..., tuple[int, int]]) -> dict[str, tuple[tuple[int, int], tuple[int, int]]]:
    """Guests that take another time than alone. They are looked at one by one only if all together do."""
    if measure(*GUESTS) == took(nobody, *GUESTS):
        return {}
    times = {name: (measure(name), took(nobody, name)) for name in GUESTS}
    return {name: pair for name, pair in times.items() if pair[0] != pair[1]} or {"all together": ((0, 0), (0, 0))}


@pytest.mark.parametrize("watcher", WATCHERS)
def test_time_does_not_depend_on_who_looks_on(watcher: str) -> None:
    assert different(lambda *names: took(WATCHERS[watcher], *names)) == {}


def test_time_is_the_same_in_single_steps() -> None:
    assert different(stepped) == {}


def test_time_is_the_same_with_plain_kernels() -> None:
    program = "from tests.core.test_costs import GUESTS, nobody, took; print(took(nobody, *GUESTS))"
    environment = {**os.environ, "HYPERVISOR_KERNELS": "plain", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.stdout.strip() == str(took(nobody, *GUESTS)), done.stderr[-2000:]


@hv.compiled
def _answer(state, regs, first, second, value):  # type: ignore[no-untyped-def]
    return 1


SERVED: dict[str, dict[str, Callable[[hv.VM], object]]] = {
    "cpuid": {
        "compiled": lambda vm: vm.traps.cpuid(_answer),
        "python": lambda vm: vm.traps.cpuid(lambda vcpu, exit: hv.HANDLED),
    },
    "rdmsr": {
        "compiled": lambda vm: vm.traps.rdmsr(0xC0000080, _answer),
        "python": lambda vm: vm.traps.rdmsr(0xC0000080)(lambda vcpu, exit: hv.HANDLED),
    },
    "port_out": {
        "compiled": lambda vm: vm.traps.port_out(0x80, _answer),
        "python": lambda vm: vm.traps.port_out(0x80)(lambda vcpu, exit: hv.HANDLED),
    },
    "mmio_read": {
        "compiled": lambda vm: vm.traps.mmio_read(range(0xD0000000, 0xD0001000), _answer),
        "python": lambda vm: vm.traps.mmio_read(range(0xD0000000, 0xD0001000))(_value),
    },
    "rdtsc": {"python": lambda vm: vm.traps.rdtsc(_value)},
    "pause": {"python": lambda vm: vm.traps.pause(lambda vcpu, exit: hv.HANDLED)},
    "page fault": {"python": lambda vm: vm.traps.exception(vector=14)(lambda vcpu, exit: hv.inject(14, 0))},
}


def _value(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
    exit.value = 1
    return hv.HANDLED


@pytest.mark.parametrize(("name", "by"), [(name, by) for name, servers in SERVED.items() for by in servers])
def test_time_does_not_depend_on_who_serves(name: str, by: str) -> None:
    assert took(SERVED[name][by], name) == took(nobody, name)


@pytest.mark.parametrize("kind", [kind for kind in COSTS if kind.name.lower() in GUESTS and kind not in AS_EXCEPTIONS])
def test_each_kind_takes_its_time(kind: ExitKind) -> None:
    with guest(kind.name.lower()) as vm:
        result = vm.run(timeout=20)
        at_least = COSTS[kind] * result.exits[kind.name.lower()]
        assert 0 < at_least < vm.clock.now_ns


def test_a_fault_that_a_handler_swallows_takes_time() -> None:
    """Or a loop of them would never end."""
    with bare("again: mov al, [rsi]; jmp again", rsi=0x4000000000) as vm:
        vm.traps.exception(vector=14)(lambda vcpu, exit: hv.RETRY)
        result = vm.run(virtual_timeout=1e-4, timeout=20)
        assert result.reason is hv.Reason.VIRTUAL_TIMEOUT
        assert result.exits["exception"] <= 1e-4 * 1e9 / COSTS[ExitKind.EXCEPTION] + 1
