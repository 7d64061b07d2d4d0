"""RDMSR and WRMSR: the registers of `hypervisor.arch.msr`; every other number raises #GP(0) (APM volume 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypervisor.arch import flags
from hypervisor.arch import msr as m
from hypervisor.arch.vectors import GP
from hypervisor.core import HANDLED, VM, inject

if TYPE_CHECKING:
    from hypervisor.core import Exit, Vcpu, Verdict


def read(vcpu: Vcpu, exit: Exit) -> Verdict:
    """The register's value, or #GP(0)."""
    if exit.msr not in m.MSRS:
        vcpu.vm.note_unclaimed(f"rdmsr {exit.msr:#x}", 8)
        return inject(GP, 0)
    exit.value = vcpu.msr[exit.msr]
    return HANDLED


def write(vcpu: Vcpu, exit: Exit) -> Verdict:
    """Check and store, or #GP(0)."""
    number, value = exit.msr, exit.value
    if number not in m.MSRS:
        vcpu.vm.note_unclaimed(f"wrmsr {number:#x}", 8)
        return inject(GP, 0)
    old = vcpu.msr[number]
    if number == m.EFER:
        new = m.efer_after(old, value, bool(vcpu.cr0 & flags.CR0_PG))
    else:
        new = m.MSRS[number].checked(old, value)
    if new is None:
        return inject(GP, 0)
    vcpu.msr[number] = new
    if number == m.APIC_BASE and vcpu.apic is not None:
        vcpu.apic.set_base(new)
    return HANDLED


def install(vm: VM) -> None:
    """Register both handlers."""
    vm.traps.rdmsr(None, read, name="builtin.rdmsr", rank="builtin")
    vm.traps.wrmsr(None, write, name="builtin.wrmsr", rank="builtin")
