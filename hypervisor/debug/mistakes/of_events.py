"""Mistakes that the last events show, crash or not."""

from __future__ import annotations

from itertools import pairwise, takewhile
from typing import Any

from hypervisor.arch import flags
from hypervisor.arch.exits import ExitKind
from hypervisor.arch.vectors import DF
from hypervisor.debug.disasm import code_bits
from hypervisor.debug.mistakes.case import Case
from hypervisor.errors import GuestFault
from hypervisor.traps.history import EXCEPTION, EXTERNAL

PIC_DEFAULT = range(8, 16)
"""Where a PC's firmware leaves the vectors of IRQ 0 to 7, on top of the processor's exceptions."""
MANY = 16
"""Exceptions in a row, all the same, from which on no guest means it."""
IRQ_NAMES = ("the timer", "the keyboard", "the second PIC", "COM2", "COM1", "LPT2", "the floppy", "LPT1")


def pic_not_remapped(case: Case) -> str:
    """IRQ 0 to 7 arrive as exceptions."""
    modes = [n for n, e in enumerate(case.events) if e.kind in (ExitKind.CR_WRITE, ExitKind.LMSW) and not e.info]
    since = case.events[modes[-1] :] if modes else case.events  # in real mode the vectors were right
    early = [e for e in since if e.origin == EXTERNAL and e.vector in PIC_DEFAULT]
    if not early or not case.protected:
        return ""
    vector = early[-1].vector or 0
    irq = vector - PIC_DEFAULT.start
    name = f", which is also {'#DF' if vector == DF else 'an exception'}"
    return (
        f"Interrupt vector {vector:#x} was IRQ {irq} ({IRQ_NAMES[irq]}){name}: interrupts are on (STI), but the PIC "
        "still has the vectors of real mode (8 to 15). Remap it with ICW1 to ICW4 (to 0x20, say) before STI."
    )


def no_error_code_pop(case: Case) -> str:
    """IRET with the error code still on the stack: it is taken for RIP, and RIP for CS, which is refused."""
    raised = [event for event in case.events if event.origin == EXCEPTION]
    for before, after in pairwise(raised):
        if before.error is None or not after.error or after.error & 0xFFFC != before.rip & 0xFFFC:
            continue
        if not _is_iret(case.vcpu, after.rip):
            continue
        pop = "add rsp, 8" if case.vcpu.efer & flags.EFER_LMA else "add esp, 4"
        name = str(before).split(",")[0]
        return (
            f"The handler of {name} returned without removing the error code: IRET took the error code "
            f"{before.error:#x} for RIP and the old RIP {before.rip:#x} for CS. Put '{pop}' before IRET."
        )
    return ""


def again_and_again(case: Case) -> str:
    """One instruction raises the same exception for ever."""
    if case.vector is None and case.vcpu.halted:
        return ""
    raised = [event for event in case.events if event.vector is not None]
    same = list(takewhile(lambda event: event[1:6] == raised[-1][1:6], reversed(raised)))
    if len(same) < MANY or same[0].origin != EXCEPTION:
        return ""
    before = raised[-len(same) - 1] if len(same) < len(raised) else None
    began = "" if before is None else f" The event before them was {before}, at {case.symbol(before.rip)}."
    times = f"{len(same)} times in a row" if before else f"{len(same)} times or more"
    return (
        f"{same[0]} was raised at {case.symbol(same[0].rip)} {times}: its handler comes back without having removed "
        f"the cause, or raises it itself.{began}"
    )


def handler_faults(case: Case) -> str:
    """The crash is in the handler of an earlier exception."""
    earlier = case.handling[-1] if case.handling else None
    if earlier is None or earlier.origin != EXCEPTION or again_and_again(case) or no_error_code_pop(case):
        return ""
    return (
        f"The handler of an earlier exception faulted itself: it was there for {earlier}, raised at "
        f"{case.symbol(earlier.rip)}. Look for the cause of that one first."
    )


def _is_iret(vcpu: Any, rip: int) -> bool:
    try:
        data = vcpu.read(rip if code_bits(vcpu) == 64 else vcpu.cs.base + rip, 2)
    except GuestFault:
        return False
    return data[:1] == b"\xcf" or data in (b"\x48\xcf", b"\x66\xcf")
