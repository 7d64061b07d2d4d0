"""Debug registers (AMD64 APM volume 2, 13.1): kept for the guest; the engine's own stay empty."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypervisor.arch import flags as f
from hypervisor.arch.vectors import DB, GP, UD
from hypervisor.traps.verdicts import HANDLED, inject

if TYPE_CHECKING:
    from hypervisor.traps.registry import TrapRegistry
    from hypervisor.traps.verdicts import Verdict
    from hypervisor.vcpu.exit import Exit
    from hypervisor.vcpu.processor import Processor


def _number(vcpu: Processor, number: int) -> int | None:
    """DR4 and DR5 are DR6 and DR7 unless CR4.DE is set; None for #UD."""
    if number in (4, 5):
        return None if vcpu.cr4 & f.CR4_DE else number + 2
    return number


def _guarded(vcpu: Processor) -> bool:
    """DR7.GD: any access is a #DB, which clears it."""
    if not vcpu.dr7 & f.DR7_GD:
        return False
    vcpu.set("dr7", vcpu.dr7 & ~f.DR7_GD)
    vcpu.set("dr6", vcpu.dr6 & ~0xF | f.DR6_BD)  # B3 to B0 are those of this #DB (13.1.1.3)
    return True


def on_read(vcpu: Processor, exit: Exit) -> Verdict:
    """MOV reg, DRn."""
    number = _number(vcpu, exit.number)
    if number is None:
        return inject(UD)
    if _guarded(vcpu):
        return inject(DB)
    exit.value = vcpu.get(f"dr{number}")
    return HANDLED


def on_write(vcpu: Processor, exit: Exit) -> Verdict:
    """MOV DRn, reg."""
    number = _number(vcpu, exit.number)
    if number is None:
        return inject(UD)
    if _guarded(vcpu):
        return inject(DB)
    value = exit.value
    if number >= 6 and value >> 32:
        return inject(GP, 0)
    if number == 6:
        value = value & f.DR6_WRITABLE | f.DR6_RESET
    elif number == 7:
        value = value & f.DR7_WRITABLE | f.DR7_RESET
    vcpu.set(f"dr{number}", value)
    return HANDLED


def install(traps: TrapRegistry) -> None:
    """Register both handlers."""
    traps.dr_read(None, on_read, name="builtin.dr_read", rank="builtin")
    traps.dr_write(None, on_write, name="builtin.dr_write", rank="builtin")
