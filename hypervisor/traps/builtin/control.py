"""Control registers: what MOV CRn, CLTS, LMSW and SMSW may store (AMD64 APM volume 2, 3.1).

The engine's processor accepts bits that hardware refuses, so every write is checked here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypervisor.arch import flags as f
from hypervisor.arch import segments
from hypervisor.arch.vectors import GP
from hypervisor.traps.verdicts import HANDLED, inject

if TYPE_CHECKING:
    from hypervisor.traps.registry import TrapRegistry
    from hypervisor.traps.verdicts import Verdict
    from hypervisor.vcpu.exit import Exit
    from hypervisor.vcpu.processor import Processor

_CR8_MAX = 15
_MASK64 = (1 << 64) - 1


def write_cr0(vcpu: Processor, value: int) -> bool:
    """Store CR0 as MOV CR0 does; False for #GP(0)."""
    old = vcpu.cr0
    value = value & f.CR0_DEFINED | f.CR0_ET if value >> 32 == 0 else -1
    if value < 0 or (value & f.CR0_PG and not value & f.CR0_PE) or (value & f.CR0_NW and not value & f.CR0_CD):
        return False
    efer = vcpu.efer
    if (old ^ value) & f.CR0_PG and efer & f.EFER_LME:
        if value & f.CR0_PG:
            if not vcpu.cr4 & f.CR4_PAE or vcpu.cs.attributes & segments.LONG:
                return False
            vcpu.set("efer", efer | f.EFER_LMA)
        else:
            if vcpu.mode == 64:
                return False
            vcpu.set("efer", efer & ~f.EFER_LMA)
    vcpu.set("cr0", value)
    return True


def write_cr4(vcpu: Processor, value: int) -> bool:
    """Store CR4 as MOV CR4 does; False for #GP(0)."""
    if value & ~f.CR4_OFFERED or (vcpu.efer & f.EFER_LMA and not value & f.CR4_PAE):
        return False
    vcpu.set("cr4", value)
    return True


def on_write(vcpu: Processor, exit: Exit) -> Verdict:
    """MOV CRn, reg."""
    value = exit.value & _MASK64
    if exit.number == 0:
        fine = write_cr0(vcpu, value)
    elif exit.number == 4:
        fine = write_cr4(vcpu, value)
    elif exit.number == 8:
        fine = value <= _CR8_MAX
        if fine:
            vcpu.set("cr8", value)
            if vcpu.apic is not None:
                vcpu.apic.task_class = value
    else:
        fine = True
        vcpu.set(f"cr{exit.number}", value)
    return HANDLED if fine else inject(GP, 0)


def on_read(vcpu: Processor, exit: Exit) -> Verdict:
    """MOV reg, CRn."""
    if exit.number == 8 and vcpu.apic is not None:
        exit.value = vcpu.apic.task_class  # the task priority can also be written where the APIC's registers are
    else:
        exit.value = vcpu.get(f"cr{exit.number}")
    return HANDLED


def on_clts(vcpu: Processor, exit: Exit) -> Verdict:
    """CLTS."""
    vcpu.set("cr0", vcpu.cr0 & ~f.CR0_TS)
    return HANDLED


def on_lmsw(vcpu: Processor, exit: Exit) -> Verdict:
    """LMSW: bits 3:0, and PE can be set but not cleared."""
    old = vcpu.cr0
    fine = write_cr0(vcpu, old & ~0xE | exit.value & 0xF)
    return HANDLED if fine else inject(GP, 0)


def on_smsw(vcpu: Processor, exit: Exit) -> Verdict:
    """SMSW."""
    exit.value = vcpu.cr0
    return HANDLED


def install(traps: TrapRegistry) -> None:
    """Register the handlers."""
    traps.cr_write(None, on_write, name="builtin.cr_write", rank="builtin")
    traps.cr_read(None, on_read, name="builtin.cr_read", rank="builtin")
    traps.clts(on_clts, name="builtin.clts", rank="builtin")
    traps.lmsw(on_lmsw, name="builtin.lmsw", rank="builtin")
    traps.smsw(on_smsw, name="builtin.smsw", rank="builtin")
