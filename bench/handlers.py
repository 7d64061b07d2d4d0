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


ATTACH: dict[str, Callable[[Any], object]] = {
    "": lambda vm: None,
    "python cpuid": lambda vm: vm.traps.cpuid(leaf=0x40000000)(_cpuid),
    "python rdmsr": lambda vm: vm.traps.rdmsr(EFER)(_rdmsr),
    "python hypercall": lambda vm: vm.traps.hypercall(1)(_hypercall),
}
