"""The trap handlers and devices that the benchmark's exits reach, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import hypervisor as hv

MMIO_PAGE = 0xFEE00000
"""Where micro.asm reads device memory: in QEMU this is the local APIC."""
PORT = 0x80
EFER = 0xC0000080
APIC_VERSION = 0x50014


def _cpuid(vcpu: Any, exit: Any) -> Any:
    exit.eax = 0x1234
    return hv.HANDLED


def _rdmsr(vcpu: Any, exit: Any) -> Any:
    exit.value = 0xD01
    return hv.HANDLED


def _hypercall(vcpu: Any, exit: Any) -> Any:
    vcpu.rax = 1
    return hv.HANDLED


@hv.compiled
def _c_port(state, regs, port, size, value):  # type: ignore[no-untyped-def]
    state[0] = value
    return 0


@hv.compiled
def _c_mmio(state, regs, gpa, size, value):  # type: ignore[no-untyped-def]
    return APIC_VERSION if gpa == MMIO_PAGE + 0x30 else 0


@hv.compiled
def _c_cpuid(state, regs, leaf, subleaf, value):  # type: ignore[no-untyped-def]
    regs[0] = 0x1234
    regs[1] = 0
    regs[2] = 0
    regs[3] = 0
    return 1


@hv.compiled
def _c_rdmsr(state, regs, number, second, value):  # type: ignore[no-untyped-def]
    regs[0] = 0xD01
    regs[2] = 0
    return 1


@hv.compiled
def _c_hypercall(state, regs, number, second, value):  # type: ignore[no-untyped-def]
    regs[0] = 1
    return 1


ATTACH: dict[str, Callable[[Any], object]] = {
    "": lambda vm: None,
    "python cpuid": lambda vm: vm.traps.cpuid(leaf=0x40000000)(_cpuid),
    "python rdmsr": lambda vm: vm.traps.rdmsr(EFER)(_rdmsr),
    "python hypercall": lambda vm: vm.traps.hypercall(number=1)(_hypercall),
    "port": lambda vm: vm.traps.port_out(PORT, _c_port),
    "mmio": lambda vm: vm.traps.mmio_read(range(MMIO_PAGE, MMIO_PAGE + 0x1000), _c_mmio),
    "compiled cpuid": lambda vm: vm.traps.cpuid(_c_cpuid, leaf=0x40000000),
    "compiled rdmsr": lambda vm: vm.traps.rdmsr(EFER, _c_rdmsr),
    "compiled hypercall": lambda vm: vm.traps.hypercall(_c_hypercall),
}
