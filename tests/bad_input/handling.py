"""Mistakes in handlers, and in what is written to registers and memory."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import hypervisor as hv
from hypervisor.errors import (
    ConfigError,
    GuestCrashed,
    GuestFault,
    TrapError,
)
from tests.bad_input.cases import Case, with_vm


def handler(name: str, answer: Callable[[hv.VM], Callable[..., Any]], sentence: str) -> Case:
    """A handler that breaks its contract ends the run, and `check` tells the sentence."""

    def do(vm: hv.VM) -> object:
        vm.traps.hlt(answer(vm), name="mine")
        result = vm.run(timeout=20)
        assert result.reason is hv.Reason.HOST_ERROR
        return result.check()

    return with_vm(name, do, GuestCrashed, sentence)


def put(owner: str, name: str, value: Any) -> Callable[[hv.VM], object]:
    """Set an attribute of the VM, its vCPU or its host."""

    def do(vm: hv.VM) -> object:
        setattr({"vm": vm, "vcpu": vm.vcpu, "host": vm.host}[owner], name, value)
        return None

    return do


def answers(name: str, code: str, kind: str, field: str, value: Any, sentence: str) -> Case:
    """A handler of ``kind`` puts ``value`` into a field of its exit."""

    def answer(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
        setattr(exit, field, value)
        return hv.HANDLED

    def do(_: Path) -> object:
        return hv.run_asm(f"{code}; hlt", setup=lambda vm: getattr(vm.traps, kind)(answer)).check()

    return Case(name, do, GuestCrashed, sentence)


def elsewhere(vm: hv.VM) -> object:
    """A register is written by a thread that does not run the VM."""
    caught: list[Exception] = []

    def write() -> None:
        try:
            vm.vcpu.rax = 3
        except Exception as error:
            caught.append(error)

    def wait(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
        vcpu.rax = 5  # the thread that runs it may
        thread = threading.Thread(target=write)
        thread.start()
        thread.join()
        return hv.HANDLED

    vm.traps.hlt(wait)
    vm.run(timeout=20)
    assert vm.vcpu.rax == 5
    vm.vcpu.rax = 7  # between runs anybody may
    raise caught[0]


async def later(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
    return hv.PASS


async def soon(*arguments: Any) -> None:
    return None


def values(vcpu: hv.Vcpu, exit: hv.Exit) -> Any:
    yield hv.PASS


class LateHandler:
    """A handler that is an object."""

    async def __call__(self, vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
        return hv.PASS


def mmio_over(where: range, kind: str = "mmio_write") -> Callable[[hv.VM], object]:
    return lambda vm: getattr(vm.traps, kind)(where, lambda vcpu, exit: hv.PASS)


def late(vm: hv.VM) -> object:
    """Another thread registers a handler while the VM runs."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(vm.traps.cpuid, print).result()


def overlap(vm: hv.VM) -> object:
    vm.traps.port_in(range(0x300, 0x310), lambda vcpu, exit: hv.PASS, name="one")
    return vm.traps.port_in(range(0x308, 0x318), lambda vcpu, exit: hv.PASS, name="two")


CASES = (
    # handlers
    with_vm("overlapping handlers", overlap, TrapError, "(port 0x308-0x317) overlaps handler 'one'"),
    with_vm("a wrong signature", lambda vm: vm.traps.hlt(lambda vcpu: 0), TrapError, "a handler takes (vcpu, exit)"),
    with_vm("an unknown kind", lambda vm: vm.traps.halt(print), AttributeError, "no trap 'halt'; there are: clts"),
    with_vm("an unknown argument", lambda vm: vm.traps.hlt(print, nmae="x"), TrapError, "hlt(nmae=...): no such"),
    with_vm("a port beyond the last", lambda vm: vm.traps.port_in(1 << 16, print), TrapError, "is outside 0x0-0xffff"),
    with_vm("an unknown symbol", lambda vm: vm.traps.execute("main", print), ConfigError, "There is no symbol 'main'"),
    with_vm("an unknown handler", lambda vm: vm.traps.disable("x"), TrapError, "there is no handler 'x'"),
    handler("a raising handler", lambda vm: lambda vcpu, exit: 1 // 0, "ZeroDivisionError"),
    handler("a missing verdict", lambda vm: lambda vcpu, exit: None, "returned None instead of a verdict. End it"),
    handler("a step in a handler", lambda vm: lambda vcpu, exit: vcpu.step(1), "is running already"),
    handler("a run in a handler", lambda vm: lambda vcpu, exit: vm.run(), "is running already"),
    handler("a close in a handler", lambda vm: lambda vcpu, exit: vm.close(), "end its run before closing it"),
    handler("a handler from elsewhere", lambda vm: lambda vcpu, exit: late(vm), "between runs or in a pause"),
    Case("a vector beyond the last", lambda _: hv.inject(300), TrapError, "a vector is a number from 0 to 255"),
    with_vm("a coroutine", lambda vm: vm.traps.hlt(later), TrapError, "only makes a coroutine, which nobody awaits"),
    with_vm("a generator", lambda vm: vm.traps.hlt(values), TrapError, "only makes a generator"),
    with_vm("a late object", lambda vm: vm.traps.hlt(LateHandler(), name="x"), TrapError, "only makes a coroutine"),
    with_vm("a late condition", lambda vm: vm.run(until=soon), ConfigError, "only makes a coroutine"),
    Case("a late set-up", lambda _: hv.run_asm("hlt", setup=soon), ConfigError, "only makes a coroutine"),
    with_vm("MMIO over RAM", mmio_over(range(0x80000, 0x81000)), TrapError,
            "mmio_write: 0x80000-0x80fff is RAM, whose accesses are none of device memory. Watch it with traps.memory("
            "range(0x80000, 0x81000), access='w')"),
    with_vm("MMIO over the end of RAM", mmio_over(range(0x3FF000, 0x500000), "mmio_read"), TrapError,
            "mmio_read: 0x3ff000-0x3fffff is RAM"),
    # what is written
    with_vm("a misspelt register", put("vcpu", "raxx", 3), AttributeError, "no attribute 'raxx'"),
    with_vm("a misspelt attribute", put("vm", "stirct", True), AttributeError, "has no 'stirct' that could be set."),
    with_vm("a misspelt host's", put("host", "memroy", 3), AttributeError, "Did you mean memory?"),
    with_vm("a wide register", put("vcpu", "rax", 1 << 64), ConfigError, "rax = 0x10000000000000000 has more than 64"),
    with_vm("a wide part", put("vcpu", "al", 256), ConfigError, "al = 0x100 has more than 8 bits"),
    with_vm("a wide negative part", put("vcpu", "al", -129), ConfigError, "al = -0x81 has more than 8 bits"),
    with_vm("a wide SSE register", put("vcpu", "xmm0", 1 << 128), ConfigError, "xmm0 = 0x1"),
    with_vm("a register in words", put("vcpu", "eax", "3"), ConfigError, "eax = '3': a whole number is needed."),
    with_vm("a fraction", put("vcpu", "rax", 3.0), ConfigError, "rax = 3.0: a whole number is needed."),
    with_vm("a selector for a segment", put("vcpu", "cs", 8), ConfigError, "cs = 8: give a Segment, such as vcpu.cs."),
    with_vm("a wide base", lambda vm: put("vcpu", "ds", vm.vcpu.ds._replace(base=1 << 64))(vm), ConfigError, "ds.base"),
    with_vm("a wide limit", lambda vm: put("vcpu", "gdtr", vm.vcpu.gdtr._replace(limit=1 << 16))(vm), ConfigError,
            "gdtr.limit = 0x10000 has more than 16 bits"),
    with_vm("a wide selector", lambda vm: vm.vcpu.set("ds", 1 << 16), ConfigError, "ds = 0x10000 has more than 16"),
    with_vm("a wide register by name", lambda vm: vm.vcpu.set("rbx", 1 << 64), ConfigError, "rbx = 0x1"),
    with_vm("a register of another thread's run", elsewhere, TrapError, "the VM runs in another thread"),
    answers("a wide answer to CPUID", "cpuid", "cpuid", "ebx", 1 << 32, "exit.ebx of cpuid = 0x100000000 has more"),
    answers("a CPUID in words", "cpuid", "cpuid", "eax", "x", "exit.eax of cpuid = 'x': a whole number is needed"),
    answers("another kind's result", "mov ecx, 0x1b; rdmsr", "rdmsr", "eax", 1, "exit.eax was written, and rdmsr has"),
    answers("another result than CPUID's", "cpuid", "cpuid", "value", 1, "exit.value was written, and cpuid has no"),
    answers("a wide RDTSC", "rdtsc", "rdtsc", "value", 1 << 64, "exit.value of rdtsc = 0x10000000000000000 has more"),
    answers("a wide CR4", "mov rax, cr4; mov cr4, rax", "cr_write", "value", 1 << 64, "exit.value of cr_write = 0x1"),
    answers("a wide port", "in al, 0x80", "port_in", "value", 256, "exit.value of port_in (1 bytes) = 0x100 has more"),
    answers("wide device memory", "mov eax, [0xd0000000]", "mmio_read", "value", 1 << 32, "exit.value of mmio_read (4"),
    answers("a wide selector of LDTR", "sldt ax", "sldt", "value", 1 << 16, "exit.value of sldt = 0x10000 has more"),
    answers("a misspelt field", "cpuid", "cpuid", "eaxx", 1, "no attribute 'eaxx'"),
    with_vm("memory that is not there", lambda vm: vm.memory.write(0x400000, b"x"), GuestFault, "0x400000 is no mem"),
    with_vm("memory to its end", lambda vm: vm.memory.write(0x3FFFFF, b"xy"), GuestFault,
            "2 bytes cannot be written at 0x3fffff: 0x400000-0x400000 is no memory."),
    with_vm("memory that is a ROM", lambda vm: vm.memory.write(0xFFFFFFF0, b"x"), GuestFault, "is read-only memory."),
)  # fmt: skip
