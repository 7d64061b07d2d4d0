"""RDMSR and WRMSR: the registers of `hypervisor.arch.msr`, and the local APIC's in x2APIC mode; every other number
raises #GP(0) (APM volume 3).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from hypervisor.arch import flags
from hypervisor.arch import msr as m
from hypervisor.arch.apic_registers import X2APIC_MSRS
from hypervisor.arch.vectors import GP
from hypervisor.traps.verdicts import HANDLED, inject

if TYPE_CHECKING:
    from hypervisor.bus import ApicMsrs
    from hypervisor.traps.registry import TrapRegistry
    from hypervisor.traps.verdicts import Verdict
    from hypervisor.vcpu.exit import Exit
    from hypervisor.vcpu.processor import Processor


def install(traps: TrapRegistry, note_unclaimed: Callable[[str, int], None]) -> None:
    """Register both handlers. ``note_unclaimed`` is told of a register that does not exist: in words, and its size."""

    def read(vcpu: Processor, exit: Exit) -> Verdict:
        """The register's value, or #GP(0)."""
        value = _load(vcpu, exit.msr)
        if value is None:
            note_unclaimed(f"rdmsr {exit.msr:#x}", 8)
            return inject(GP, 0)
        exit.value = value
        return HANDLED

    def write(vcpu: Processor, exit: Exit) -> Verdict:
        """Check and store, or #GP(0)."""
        if exit.msr not in m.MSRS and _apic(vcpu, exit.msr) is None:
            note_unclaimed(f"wrmsr {exit.msr:#x}", 8)
            return inject(GP, 0)
        return HANDLED if _store(vcpu, exit.msr, exit.value) else inject(GP, 0)

    traps.rdmsr(None, read, name="builtin.rdmsr", rank="builtin")
    traps.wrmsr(None, write, name="builtin.wrmsr", rank="builtin")


def _apic(vcpu: Processor, number: int) -> ApicMsrs | None:
    """The local APIC's registers, if this may be one of them."""
    return None if vcpu.apic is None or number not in X2APIC_MSRS else vcpu.apic.msrs


def _load(vcpu: Processor, number: int) -> int | None:
    """What RDMSR reads; None for a register that does not exist."""
    if number in m.MSRS:
        return vcpu.msr[number]
    apic = _apic(vcpu, number)
    return None if apic is None else apic.read(number)


def _store(vcpu: Processor, number: int, value: int) -> bool:
    """Store what WRMSR writes; False for #GP(0)."""
    if (apic := _apic(vcpu, number)) is not None:
        return apic.write(number, value)
    old = vcpu.msr[number]
    if number == m.EFER:
        new = m.efer_after(old, value, bool(vcpu.cr0 & flags.CR0_PG))
    elif number == m.APIC_BASE:
        new = m.apic_base_after(old, value, vcpu.apic is not None)
    else:
        new = m.MSRS[number].checked(old, value)
    if new is None:
        return False
    vcpu.msr[number] = new
    if number == m.APIC_BASE and vcpu.apic is not None:
        vcpu.apic.set_base(new)
    return True
