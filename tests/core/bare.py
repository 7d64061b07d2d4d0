"""Guests of a few instructions, for tests that need more than one `hv.run_asm`."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import hypervisor as hv
from hypervisor._face import CODE, STACK
from hypervisor.assembler import assemble
from hypervisor.machine.bare import prepare

DATA = 0x80000
IDT, HANDLERS = 0x60000, 0x70000
TF = 1 << 8

SYSTEM = {
    "cpuid": "xor eax, eax; cpuid",
    "rdmsr": "mov ecx, 0xc0000080; rdmsr",
    "wrmsr": "mov ecx, 0xc0000080; rdmsr; wrmsr",
    "port_in": "in al, 0x60",
    "port_out": "out 0x80, al",
    "mmio_read": "mov al, [0xd0000000]",
    "mmio_write": "mov [0xd0000000], al",
    "cr_read": "mov rax, cr3",
    "cr_write": "mov rax, cr0; mov cr0, rax",
    "dr_read": "mov rax, dr7",
    "dr_write": "mov dr0, rax",
    "clts": "clts",
    "lmsw": "smsw ax; lmsw ax",
    "smsw": "smsw eax",
    "lgdt": "sgdt [0x80100]; lgdt [0x80100]",
    "lidt": "sidt [0x80100]; lidt [0x80100]",
    "lldt": "xor eax, eax; lldt ax",
    "sgdt": "sgdt [0x80100]",
    "sidt": "sidt [0x80100]",
    "sldt": "sldt eax",
    "str": "str eax",
    "pause": "pause",
    "invlpg": "invlpg [0x80000]",
    "invd": "invd",
    "wbinvd": "wbinvd",
    "rdtsc": "rdtsc",
    "rdtscp": "rdtscp",
    "pushf": "pushfq",
    "popf": "pushfq; popfq",
    "rdrand": "rdrand eax",
    "rdseed": "rdseed eax",
    "iret": "mov rcx, rsp; push 0x10; push rcx; pushfq; push 8; push 0x123456; iretq",
}
"""64-bit code for kinds of exits that run to their end on the bare machine (iret's target is patched by the test)."""


@contextmanager
def bare(
    code: str, mode: int = 64, host: hv.Host | None = None, clock: str = "virtual", **regs: int
) -> Iterator[hv.VM]:
    """A bare VM with assembled code, closed at the end."""
    own = host or hv.Host("2M", 1)
    image = assemble(code, origin=CODE, mode=mode).code
    try:
        with hv.VM(own, hv.MachineConfig(memory="1M", name="bare", clock=clock)) as vm:
            prepare(vm, image, mode, CODE, STACK)
            for name, value in regs.items():
                vm.vcpu.set(name, value)
            yield vm
    finally:
        if host is None:
            own.close()


def with_idt(vm: hv.VM, handlers: dict[int, str]) -> None:
    """Give a 64-bit guest an IDT with assembled handlers by vector."""
    at = HANDLERS
    for vector, source in handlers.items():
        code = assemble(source, origin=at, mode=64).code
        vm.memory.write(at, code)
        gate = struct.pack("<HHBBHII", at & 0xFFFF, 8, 0, 0x8E, at >> 16 & 0xFFFF, 0, 0)
        vm.memory.write(IDT + 16 * vector, gate)
        at += len(code) + 16 & ~15
    vm.vcpu.idtr = hv.Table(IDT, 0xFFF)


def addresses(code: str) -> list[int]:
    """Where each instruction of 64-bit code at CODE begins, and the end."""
    from hypervisor.debug.disasm import disassemble

    image = assemble(code, origin=CODE, mode=64).code
    lines = disassemble(image, CODE, 64)
    return [line.address for line in lines] + [CODE + len(image)]


def listen_to_everything(vm: hv.VM, kinds: Any, fn: Callable[..., None]) -> None:
    """Register an observer before and after for each kind."""
    for kind in kinds:
        getattr(vm.traps, kind)(mode="observe", name=f"{kind}-before")(fn)
        getattr(vm.traps, kind)(mode="observe", when="after", name=f"{kind}-after")(fn)
